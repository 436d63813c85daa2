//! Warehouses that moved: locations in metadata led to where the files are now.
//!
//! A rewrite changes where a path is looked for, not its name: caches, deletes and error messages
//! keep what the metadata says. Prefixes match at slashes. The one rule: a path is rewritten once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::router::{check_location, path_of};

/// From and to, as paths inside the router, the longest first.
#[derive(Debug)]
pub(super) struct Rewrites(Vec<(String, String)>);

impl Rewrites {
    pub(super) fn new(configured: &BTreeMap<String, String>) -> Self {
        let path = |uri: &String| path_of(uri.trim_end_matches('/')).ok().map(|path| path.to_string());
        let mut rewrites: Vec<_> =
            configured.iter().filter_map(|(from, to)| Some((path(from)?, path(to)?))).collect();
        rewrites.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Self(rewrites)
    }

    /// Where the object of a path is.
    pub(super) fn apply<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let found = self.0.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(from.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
        });
        found.map_or(Cow::Borrowed(path), Cow::Owned)
    }
}

/// Every fault of the rewrites in a configuration.
pub(super) fn validate(configured: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (from, to) in configured {
        if let Err(error) = path_of(from.trim_end_matches('/')) {
            faults.push(format!("rewrites.{from:?}: {error}"));
        }
        if let Err(error) = check_location(to) {
            faults.push(format!("rewrites.{from:?}: {error}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins_and_prefixes_end_at_slashes() {
        let rewrites = rewrites(&[
            ("hdfs://nn:8020/warehouse", "s3://new/wh/"),
            ("hdfs://nn:8020/warehouse/big", "file:///big"),
            ("s3a://old", "s3://new/old"),
        ]);
        assert_eq!(rewrites.apply("hdfs/nn:8020/warehouse/t/ü%20.parquet"), "s3/new/wh/t/ü%20.parquet");
        assert_eq!(rewrites.apply("hdfs/nn:8020/warehouse/big/f"), "file/-/big/f");
        assert_eq!(rewrites.apply("hdfs/nn:8020/warehouse2/f"), "hdfs/nn:8020/warehouse2/f");
        assert_eq!(rewrites.apply("s3/old/k"), "s3/new/old/k");
        assert_eq!(rewrites.apply("s3/older/k"), "s3/older/k");
    }

    #[test]
    fn faults_name_their_key() {
        let faults = validate(&map(&[("nowhere", "s3://b"), ("hdfs:///a", "ftp://b/c")]));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("rewrites.\"hdfs:///a\": "), "{faults:?}");
    }

    fn rewrites(pairs: &[(&str, &str)]) -> Rewrites {
        Rewrites::new(&map(pairs))
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }
}
