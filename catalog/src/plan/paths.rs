//! The paths of a manifest's files in one buffer.
//!
//! Files of a table begin with the table's folder, and often with more; what
//! all of a manifest's paths begin with is held once. A path becomes a text of
//! its own only where a file is planned.

/// Paths, by the place of their files.
#[derive(Debug, Default)]
pub(super) struct Paths {
    prefix: Box<str>,
    /// What follows the prefix, one after the other.
    rests: Box<str>,
    /// Where each of them ends.
    ends: Box<[usize]>,
}

/// Gathers paths.
#[derive(Debug, Default)]
pub(super) struct PathsBuilder {
    paths: String,
    ends: Vec<usize>,
    /// Length of what all so far begin with.
    prefix: usize,
}

impl Paths {
    /// The path of the file at `index`.
    pub(super) fn get(&self, index: usize) -> String {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let rest = &self.rests[start..self.ends[index]];
        let mut path = String::with_capacity(self.prefix.len() + rest.len());
        path.push_str(&self.prefix);
        path.push_str(rest);
        path
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.prefix.len() + self.rests.len() + size_of_val(&*self.ends)
    }
}

impl PathsBuilder {
    pub(super) fn push(&mut self, path: &str) {
        let first = self.ends.first().map(|end| &self.paths[..*end]);
        self.prefix = match first {
            Some(first) => common(&first[..self.prefix], path),
            None => path.len(),
        };
        self.paths.push_str(path);
        self.ends.push(self.paths.len());
    }

    pub(super) fn finish(self) -> Paths {
        let mut rests = String::with_capacity(self.paths.len() - self.prefix * self.ends.len());
        let mut ends = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for end in self.ends {
            rests.push_str(&self.paths[start + self.prefix..end]);
            ends.push(rests.len());
            start = end;
        }
        Paths {
            prefix: self.paths[..self.prefix].into(),
            rests: rests.into_boxed_str(),
            ends: ends.into_boxed_slice(),
        }
    }
}

/// Length of what both begin with, in whole characters.
fn common(a: &str, b: &str) -> usize {
    let pairs = a.chars().zip(b.chars());
    pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(paths: &[&str]) -> (String, Vec<String>) {
        let mut builder = PathsBuilder::default();
        paths.iter().for_each(|path| builder.push(path));
        let found = builder.finish();
        (found.prefix.to_string(), (0..paths.len()).map(|index| found.get(index)).collect())
    }

    #[test]
    fn paths_come_back_whatever_they_share() {
        let cases: [(&[&str], &str); 7] = [
            (&[], ""),
            (&["s3://b/t/a.parquet"], "s3://b/t/a.parquet"),
            (&["s3://b/t/1.parquet", "s3://b/t/22.parquet"], "s3://b/t/"),
            (&["s3://b/t/x", "s3://c/t/x", "/x"], ""),
            (&["same", "same", "same"], "same"),
            (&["a/long", "a/"], "a/"),
            // Two characters of two bytes each, the first byte of which is the same.
            (&["tarn/é", "tarn/è"], "tarn/"),
        ];
        for (paths, prefix) in cases {
            let (found_prefix, found) = held(paths);
            assert_eq!(
                (found_prefix.as_str(), found.as_slice()),
                (prefix, &paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()[..])
            );
        }
    }
}
