//! Which executor reads which file.
//!
//! Rendezvous hashing: every executor draws a number for every file and the highest wins, so a file is read
//! where it was read before, and an executor that comes or goes moves only its own share. The load is
//! bounded: an executor that has [`LOAD_PERCENT_MAX`] of its fair share passes a file on to the next in the
//! file's order. A pure function; it knows neither cluster nor plan.

/// Share of the mean load that one executor may be given, in percent.
pub const LOAD_PERCENT_MAX: u64 = 125;

/// Gives each file to one of the members, by index into `members`. A file is its key (its URI, with the range if it
/// is one) and its bytes. The order of neither list matters to who reads a file.
///
/// # Panics
/// If there are files and no members.
pub fn assign(files: &[(&str, u64)], members: &[&str]) -> Vec<usize> {
    assert!(files.is_empty() || !members.is_empty(), "files cannot be given to nobody");
    let hashes: Vec<u64> = members.iter().map(|member| hash(stable(member).as_bytes())).collect();
    let total: u64 = files.iter().map(|(_, bytes)| (*bytes).max(1)).sum();
    let bound = (total * LOAD_PERCENT_MAX).div_ceil(100 * members.len().max(1) as u64);
    let mut order: Vec<usize> = (0..files.len()).collect();
    // Large files first, else the last one would find no room; ties by key, so that order does not matter.
    order.sort_by(|a, b| files[*b].1.cmp(&files[*a].1).then_with(|| files[*a].0.cmp(files[*b].0)));
    let mut loads = vec![0u64; members.len()];
    let mut owners = vec![0; files.len()];
    for file in order {
        let (key, bytes) = files[file];
        let owner = choose(hash(key.as_bytes()), bytes.max(1), &hashes, &loads, bound);
        loads[owner] += bytes.max(1);
        owners[file] = owner;
    }
    owners
}

/// The members in the order in which they would be asked to read `key`, as indexes.
pub fn rank(key: &str, members: &[&str]) -> Vec<usize> {
    let key = hash(key.as_bytes());
    let scores: Vec<u64> = members.iter().map(|member| draw(key, hash(stable(member).as_bytes()))).collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| scores[*b].cmp(&scores[*a]).then_with(|| members[*a].cmp(members[*b])));
    order
}

/// The part of an executor's id that survives its restart: `host:port` of `host:port#nonce`.
pub fn stable(member: &str) -> &str {
    member.split('#').next().unwrap_or(member)
}

fn choose(key: u64, bytes: u64, members: &[u64], loads: &[u64], bound: u64) -> usize {
    let fits = |member: &usize| loads[*member] + bytes <= bound;
    let best = (0..members.len()).filter(fits).max_by_key(|member| draw(key, members[*member]));
    // A file larger than any room left goes where the least is.
    best.or_else(|| (0..members.len()).min_by_key(|member| (loads[*member], !draw(key, members[*member]))))
        .expect("there is at least one member")
}

/// The number that a member draws for a key.
fn draw(key: u64, member: u64) -> u64 {
    mix(key ^ mix(member))
}

/// FNV-1a with a final mix. Stable over processes and versions, which the standard hasher is not.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The finalizer of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_bounded() {
        for members in 1..9 {
            for files in [1, 7, 50, 400] {
                let (files, members) = (equal(files), names(members));
                let loads = loads(&files, &members);
                let mean = files.len() as u64 * 10;
                let bound = (mean * LOAD_PERCENT_MAX).div_ceil(100 * members.len() as u64).max(10) + 9;
                assert!(loads.iter().all(|load| *load <= bound), "{loads:?} above {bound}");
            }
        }
    }

    #[test]
    fn large_file_does_not_stop_the_rest() {
        let mut files = equal(20);
        files.push(("huge".to_string(), 10_000));
        let loads = loads(&files, &names(3));
        assert_eq!(loads.iter().sum::<u64>(), 10_200);
        assert_eq!(loads.iter().filter(|load| **load >= 10_000).count(), 1);
        assert!(loads.iter().filter(|load| **load > 0).count() >= 2);
    }

    #[test]
    fn new_member_takes_only_its_share() {
        let files = equal(1000);
        for count in 2..8 {
            let (before, after) = (owners(&files, &names(count)), owners(&files, &names(count + 1)));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            // A fair share is 1000 / (count + 1); the bound on the load moves some more.
            assert!(moved <= 2 * 1000 / (count + 1), "{moved} of 1000 moved at {count}");
        }
    }

    #[test]
    fn pure_order_is_kept_when_a_member_goes() {
        let (all, names) = (names(5), names(5));
        let without: Vec<&str> = all.iter().map(String::as_str).filter(|name| *name != "host2:1").collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        for file in 0..500 {
            let key = format!("s3://b/f{file}");
            let before: Vec<&str> =
                rank(&key, &all).into_iter().map(|at| all[at]).filter(|name| *name != "host2:1").collect();
            let after: Vec<&str> = rank(&key, &without).into_iter().map(|at| without[at]).collect();
            assert_eq!(before, after);
        }
    }

    #[test]
    fn order_of_lists_and_restarts_do_not_matter() {
        let files = equal(100);
        let mut turned = files.clone();
        turned.reverse();
        let mut owners_turned = owners(&turned, &names(4));
        owners_turned.reverse();
        assert_eq!(owners(&files, &names(4)), owners_turned);
        let restarted: Vec<String> = names(4).iter().map(|name| format!("{name}#new")).collect();
        assert_eq!(owners(&files, &names(4)).len(), 100);
        let stripped: Vec<String> =
            owners(&files, &restarted).iter().map(|name| stable(name).to_string()).collect();
        assert_eq!(owners(&files, &names(4)), stripped);
    }

    fn equal(count: usize) -> Vec<(String, u64)> {
        (0..count).map(|file| (format!("s3://bucket/data/{file}.parquet"), 10)).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|member| format!("host{member}:1")).collect()
    }

    fn owners(files: &[(String, u64)], members: &[String]) -> Vec<String> {
        let files: Vec<(&str, u64)> = files.iter().map(|(key, bytes)| (key.as_str(), *bytes)).collect();
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        assign(&files, &members).into_iter().map(|at| members[at].to_string()).collect()
    }

    fn loads(files: &[(String, u64)], members: &[String]) -> Vec<u64> {
        let owners = owners(files, members);
        members
            .iter()
            .map(|member| files.iter().zip(&owners).filter(|(_, o)| *o == member).map(|((_, b), _)| b).sum())
            .collect()
    }
}
