//! How the files of a scan become the tasks of a stage.
//!
//! ```text
//!   files ── cut the large ones into equal ranges ── give each piece to an executor (affinity, bounded load)
//!         ── one task an executor ── spread its pieces over the task's partitions by bytes
//! ```
//!
//! Every byte of every file is in exactly one piece and every piece in exactly one group. Pure functions of
//! what is read and who may read it, so that `EXPLAIN` in the scheduler and the root executor agree.

use std::ops::Range;

use crate::affinity;

/// A file, or a range of one, as a scan names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<'a> {
    /// Its URI.
    pub uri: &'a str,
    /// The bytes to read.
    pub bytes: Range<u64>,
}

/// A part of a file: the file by its index, and the bytes of it if it was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index into the files.
    pub file: usize,
    /// The bytes; `None` is all that the file named.
    pub range: Option<Range<u64>>,
}

/// What one task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The executor it belongs to, by index into the members.
    pub member: usize,
    /// Its pieces, by partition.
    pub groups: Vec<Vec<Piece>>,
}

/// How many tasks a scan of so many bytes is worth.
pub fn tasks(bytes: u64, task_bytes: u64, members: usize) -> usize {
    let wanted = bytes.div_ceil(task_bytes.max(1));
    usize::try_from(wanted).unwrap_or(usize::MAX).clamp(1, members.max(1))
}

/// The executors that `tasks` tasks over `table` run on, one each, by index and ascending. With as many tasks as
/// executors that is everyone; with fewer the same ones each time, and others for another table.
pub fn seats(table: &str, tasks: usize, members: &[&str]) -> Vec<usize> {
    let mut seats = affinity::rank(table, members);
    seats.truncate(tasks);
    seats.sort_unstable();
    seats
}

/// Cuts and places `files` for `tasks` tasks of `partitions` partitions each; all tasks have that many, some of
/// which may be empty. With more tasks than members, members are asked more than once.
pub fn split(
    table: &str,
    files: &[File<'_>],
    tasks: usize,
    partitions: usize,
    members: &[&str],
    range_bytes_min: u64,
) -> Vec<Share> {
    assert!(tasks > 0 && !members.is_empty(), "a scan needs a task, and a task an executor");
    let pieces = cut(files, tasks * partitions.max(1), range_bytes_min);
    let seats = seats(table, tasks.min(members.len()), members);
    // Names of tasks: a member that has two of them is two to the hash.
    let names: Vec<String> = (0..tasks)
        .map(|task| {
            let member = affinity::stable(members[seats[task % seats.len()]]);
            if task < seats.len() { member.to_string() } else { format!("{member}/{task}") }
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let keys: Vec<String> = pieces.iter().map(|piece| key(files, piece)).collect();
    let weighed: Vec<(&str, u64)> =
        keys.iter().zip(&pieces).map(|(key, piece)| (key.as_str(), length(files, piece))).collect();
    let owners = affinity::assign(&weighed, &names);
    (0..tasks)
        .map(|task| {
            let own = pieces.iter().zip(&owners).filter(|(_, owner)| **owner == task);
            let own: Vec<Piece> = own.map(|(piece, _)| piece.clone()).collect();
            Share { member: seats[task % seats.len()], groups: spread(files, own, partitions) }
        })
        .collect()
}

/// Cuts each file that is longer than a fair part into equal ranges, none much below `range_bytes_min`.
fn cut(files: &[File<'_>], parts: usize, range_bytes_min: u64) -> Vec<Piece> {
    let total: u64 = files.iter().map(|file| span(&file.bytes)).sum();
    let target = (total / parts.max(1) as u64).max(range_bytes_min).max(1);
    let mut pieces = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        // Rounded, so that a file slightly above the target stays whole.
        let count = ((span(&file.bytes) + target / 2) / target).max(1);
        if count == 1 {
            pieces.push(Piece { file: at, range: None });
            continue;
        }
        let border = |number: u64| {
            let part = u128::from(span(&file.bytes)) * u128::from(number) / u128::from(count);
            file.bytes.start + u64::try_from(part).expect("a part of a file is not longer than it")
        };
        pieces.extend((0..count).map(|n| Piece { file: at, range: Some(border(n)..border(n + 1)) }));
    }
    pieces
}

/// Spreads pieces over partitions by bytes: the largest first, each to the partition with the least.
fn spread(files: &[File<'_>], mut pieces: Vec<Piece>, partitions: usize) -> Vec<Vec<Piece>> {
    debug_assert!(partitions > 0 || pieces.is_empty(), "pieces without a partition would be lost");
    let place = |piece: &Piece| (piece.file, piece.range.as_ref().map_or(0, |range| range.start));
    pieces.sort_by_key(|piece| (std::cmp::Reverse(length(files, piece)), place(piece)));
    let mut groups = vec![(0u64, Vec::new()); partitions];
    for piece in pieces {
        let least = (0..partitions).min_by_key(|at| (groups[*at].0, *at)).expect("there is a partition");
        groups[least].0 += length(files, &piece).max(1);
        groups[least].1.push(piece);
    }
    for (_, group) in &mut groups {
        group.sort_by_key(place);
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn key(files: &[File<'_>], piece: &Piece) -> String {
    let file = &files[piece.file];
    match &piece.range {
        Some(range) => format!("{}@{}", file.uri, range.start),
        None => format!("{}@{}", file.uri, file.bytes.start),
    }
}

fn length(files: &[File<'_>], piece: &Piece) -> u64 {
    span(piece.range.as_ref().unwrap_or(&files[piece.file].bytes))
}

fn span(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn every_byte_is_in_exactly_one_piece() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below.max(1)
        };
        for _ in 0..300 {
            let uris: Vec<String> = (0..random(12)).map(|file| format!("s3://b/{file}")).collect();
            let files: Vec<File> = uris
                .iter()
                .map(|uri| {
                    let start = random(3) * random(100 * MIB);
                    File { uri, bytes: start..start + random(200 * MIB) }
                })
                .collect();
            let members: Vec<String> = (0..1 + random(6)).map(|member| format!("h{member}:1#x")).collect();
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            let (tasks, partitions) = (1 + random(7) as usize, 1 + random(5) as usize);
            let shares = split("t", &files, tasks, partitions, &members, 4 * MIB);
            assert_exact(&files, &shares, tasks, partitions);
        }
    }

    #[test]
    fn fewer_files_than_tasks_leave_groups_empty() {
        let files = [File { uri: "a", bytes: 0..100 }];
        let shares = split("t", &files, 3, 2, &["x", "y", "z"], 4 * MIB);
        assert_exact(&files, &shares, 3, 2);
        assert_eq!(
            shares.iter().flat_map(|share| &share.groups).filter(|group| !group.is_empty()).count(),
            1
        );
        assert_exact(&[], &split("t", &[], 2, 2, &["x", "y"], MIB), 2, 2);
    }

    #[test]
    fn large_file_is_cut_and_small_ones_are_not() {
        let files = [File { uri: "large", bytes: 0..400 * MIB }, File { uri: "small", bytes: 0..MIB }];
        let shares = split("t", &files, 2, 2, &["x", "y"], 4 * MIB);
        assert_exact(&files, &shares, 2, 2);
        for share in &shares {
            let bytes: u64 = share.groups.iter().flatten().map(|piece| length(&files, piece)).sum();
            assert!(bytes.abs_diff(200 * MIB) <= 101 * MIB, "{bytes}");
        }
        let small =
            shares.iter().flat_map(|share| share.groups.iter().flatten()).filter(|piece| piece.file == 1);
        assert_eq!(small.cloned().collect::<Vec<_>>(), [Piece { file: 1, range: None }]);
    }

    #[test]
    fn tasks_follow_bytes_up_to_the_executors() {
        assert_eq!(tasks(0, 16 * MIB, 4), 1);
        assert_eq!(tasks(16 * MIB, 16 * MIB, 4), 1);
        assert_eq!(tasks(33 * MIB, 16 * MIB, 4), 3);
        assert_eq!(tasks(900 * MIB, 16 * MIB, 4), 4);
    }

    #[test]
    fn files_stay_where_they_were() {
        let uris: Vec<String> = (0..200).map(|file| format!("s3://b/{file}")).collect();
        let files: Vec<File> = uris.iter().map(|uri| File { uri, bytes: 0..8 * MIB }).collect();
        let owner = |members: &[&str]| -> Vec<String> {
            let shares = split("t", &files, members.len(), 2, members, 4 * MIB);
            let mut owners = vec![String::new(); files.len()];
            for share in &shares {
                for piece in share.groups.iter().flatten() {
                    owners[piece.file] = members[share.member].to_string();
                }
            }
            owners
        };
        let (before, after) = (owner(&["a", "b", "c"]), owner(&["a", "b", "c", "d"]));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert!(moved <= 100, "{moved} of 200 moved");
    }

    fn assert_exact(files: &[File<'_>], shares: &[Share], tasks: usize, partitions: usize) {
        assert_eq!(shares.len(), tasks);
        assert!(shares.iter().all(|share| share.groups.len() == partitions));
        let mut read: Vec<(usize, Range<u64>)> = shares
            .iter()
            .flat_map(|share| share.groups.iter().flatten())
            .map(|piece| (piece.file, piece.range.clone().unwrap_or(files[piece.file].bytes.clone())))
            .collect();
        read.sort_by_key(|(file, range)| (*file, range.start, range.end));
        for (at, file) in files.iter().enumerate() {
            let own: Vec<_> = read.iter().filter(|(read, _)| *read == at).map(|(_, range)| range).collect();
            assert!(!own.is_empty(), "file {at} is not read");
            assert_eq!((own[0].start, own[own.len() - 1].end), (file.bytes.start, file.bytes.end));
            assert!(own.windows(2).all(|pair| pair[0].end == pair[1].start), "{own:?}");
        }
    }
}
