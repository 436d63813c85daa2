//! Which executor reads which file, for both engines.
//!
//! The hashing itself is in `tarn_runtime::affinity`, because the root executor of a pipelined query places
//! files by it too. Here: which executor becomes the root, and what `EXPLAIN` shows.

use std::collections::BTreeMap;

pub use tarn_runtime::affinity::{LOAD_PERCENT_MAX, assign, rank, stable};

use super::Member;

/// The member that most bytes of `files` are read by, by index; ties and no files go by `key`, so that queries
/// without files spread.
pub fn root(files: &[(&str, u64)], key: &str, members: &[Member]) -> Option<usize> {
    let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
    if ids.is_empty() {
        return None;
    }
    let mut bytes: BTreeMap<usize, u64> = BTreeMap::new();
    for (file, owner) in files.iter().zip(assign(files, &ids)) {
        *bytes.entry(owner).or_default() += file.1.max(1);
    }
    let order = rank(key, &ids);
    let place = |at: &usize| order.iter().position(|ranked| ranked == at);
    (0..ids.len()).max_by_key(|at| (bytes.get(at).copied().unwrap_or(0), std::cmp::Reverse(place(at))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::State;
    use url::Url;

    #[test]
    fn root_is_where_most_bytes_are_read() {
        let members: Vec<Member> = (0..4).map(member).collect();
        let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
        let files = [("s3://b/large", 1000), ("s3://b/small", 1)];
        let owner = assign(&files, &ids)[0];
        for key in ["q1", "q2", "q3"] {
            assert_eq!(root(&files, key, &members), Some(owner));
        }
        assert_eq!(root(&files, "q", &[]), None);
    }

    #[test]
    fn queries_without_files_spread() {
        let members: Vec<Member> = (0..4).map(member).collect();
        let roots: std::collections::BTreeSet<_> =
            (0..64).map(|query| root(&[], &format!("q{query}"), &members)).collect();
        assert_eq!(roots.len(), 4);
    }

    fn member(number: u16) -> Member {
        Member {
            id: format!("h{number}:1#x"),
            host: "h".to_string(),
            flight_url: Url::parse(&format!("http://h{number}:1")).unwrap(),
            task_addr: ("h".to_string(), 2),
            http: None,
            cores: 2,
            memory_bytes: 1,
            version: String::new(),
            state: State::Alive,
        }
    }
}
