//! Files into groups, one a partition of the scan, balanced by bytes.
//!
//! If there are fewer files than partitions, large ones are split, where a row
//! group begins if that is known. A row group belongs to the range that its
//! start lies in, so any split is right; these are also even. An Avro file is
//! one piece: it would be read whole by one of the tasks anyway.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use tarn_scan::{FileFormat, FileTask, PlannedFile};

use super::FilePlan;

/// Opening a file takes as long as reading so many bytes.
const OPEN_COST_BYTES: u64 = 4 << 20;

/// At most `partitions` groups of file tasks, none of them empty; a range of a file is at least so long.
pub(crate) fn group(plan: &FilePlan, partitions: usize, range_bytes_min: u64) -> Vec<Vec<PlannedFile>> {
    let partitions = partitions.max(1);
    if plan.files.len() >= partitions {
        return balance(plan.files.clone(), partitions);
    }
    let range_bytes = (plan.bytes_planned / partitions as u64).max(range_bytes_min);
    let mut pieces = Vec::with_capacity(partitions);
    for (index, file) in plan.files.iter().enumerate() {
        let ranges = match file.task.format {
            FileFormat::Parquet => split(file.task.size_bytes, plan.split_offsets(index), range_bytes),
            FileFormat::Avro => Vec::new(),
        };
        if ranges.len() <= 1 {
            pieces.push(file.clone());
            continue;
        }
        pieces.extend(ranges.into_iter().map(|range| PlannedFile {
            task: Arc::new(FileTask { range: Some(range), ..file.task.as_ref().clone() }),
            statistics: file.statistics.clone(),
        }));
    }
    balance(pieces, partitions)
}

/// The largest first, each to the group that has least.
fn balance(files: Vec<PlannedFile>, partitions: usize) -> Vec<Vec<PlannedFile>> {
    if partitions == 1 && !files.is_empty() {
        return vec![files];
    }
    let count = partitions.min(files.len());
    let mut groups = vec![Vec::new(); count];
    groups.iter_mut().for_each(|group: &mut Vec<_>| group.reserve(files.len() / count + 1));
    let mut loads: BinaryHeap<_> = (0..count).map(|index| Reverse((0_u64, index))).collect();
    let mut weighed: Vec<(u64, PlannedFile)> =
        files.into_iter().map(|file| (weight(&file.task), file)).collect();
    weighed.sort_by_key(|(weight, _)| Reverse(*weight));
    for (weight, file) in weighed {
        if let Some(Reverse((load, index))) = loads.pop() {
            loads.push(Reverse((load.saturating_add(weight), index)));
            groups[index].push(file);
        }
    }
    groups
}

fn weight(task: &FileTask) -> u64 {
    let bytes = task.range.as_ref().map_or(task.size_bytes, |range| range.end - range.start);
    bytes.saturating_add(OPEN_COST_BYTES)
}

/// Ranges of about `range_bytes` that make up a file.
fn split(size_bytes: u64, offsets: &[i64], range_bytes: u64) -> Vec<Range<u64>> {
    let count = size_bytes.div_ceil(range_bytes.max(1)).max(1);
    let even = size_bytes.div_ceil(count).max(1);
    let starts = row_group_starts(size_bytes, offsets);
    let mut ranges = Vec::with_capacity(count as usize);
    let mut start = 0;
    for number in 1..count {
        let wanted = number * even;
        // The row group that begins nearest to where an even split would be.
        let cut = match &starts {
            Some(starts) => starts.iter().skip(1).copied().min_by_key(|start| start.abs_diff(wanted)),
            None => Some(wanted),
        };
        if let Some(cut) = cut.filter(|cut| *cut > start && *cut < size_bytes) {
            ranges.push(start..cut);
            start = cut;
        }
    }
    ranges.push(start..size_bytes);
    ranges
}

/// Where row groups begin; `None` if that is not known, or is not said rightly.
fn row_group_starts(size_bytes: u64, offsets: &[i64]) -> Option<Vec<u64>> {
    let starts = offsets.iter().map(|offset| u64::try_from(*offset).ok()).collect::<Option<Vec<_>>>()?;
    let rising = starts.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = starts.last().is_some_and(|last| *last < size_bytes);
    (rising && inside).then_some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn file(uri: &str, size_bytes: u64) -> PlannedFile {
        let task = FileTask {
            uri: uri.to_owned(),
            size_bytes,
            record_count: 1,
            range: None,
            spec_id: 0,
            constants: Vec::new(),
            data_sequence_number: 0,
            ..FileTask::default()
        };
        PlannedFile { task: task.into(), statistics: None }
    }

    #[test]
    fn ranges_cover_a_file_once_and_begin_at_row_groups() {
        let offsets: Vec<i64> = (0..10).map(|n| 4 + n * 10 * MB as i64).collect();
        let ranges = split(100 * MB, &offsets, 30 * MB);
        assert_eq!(ranges.len(), 4);
        assert_eq!(ranges[0].start, 0);
        assert_eq!(ranges.last().unwrap().end, 100 * MB);
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert!(ranges[1..].iter().all(|range| offsets.contains(&(range.start as i64))));
    }

    #[test]
    fn a_file_of_one_row_group_is_not_split() {
        assert_eq!(split(100 * MB, &[4], 10 * MB), vec![0..100 * MB]);
    }

    #[test]
    fn offsets_that_cannot_be_true_are_not_used() {
        assert_eq!(split(20 * MB, &[4, 3], 10 * MB), vec![0..10 * MB, 10 * MB..20 * MB]);
        assert_eq!(split(20 * MB, &[4, 30 * MB as i64], 10 * MB).len(), 2);
        assert_eq!(split(0, &[], 10 * MB), vec![0..0]);
    }

    #[test]
    fn groups_are_balanced_by_bytes_and_none_is_empty() {
        let files = (0..10).map(|n| file(&n.to_string(), (n + 1) * 10 * MB)).collect();
        let groups = balance(files, 3);
        let loads: Vec<u64> =
            groups.iter().map(|group| group.iter().map(|file| weight(&file.task)).sum()).collect();
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 10);
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 30 * MB, "{loads:?}");
        assert_eq!(balance(vec![file("a", 1)], 8).len(), 1);
        assert!(balance(Vec::new(), 8).is_empty());
    }
}
