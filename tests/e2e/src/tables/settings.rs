//! The ways to run a query that may not change its rows, and a few of them that cover every pair.

use std::fmt;

use tarn::config::Config;

use crate::clusters::MODES;

/// Small enough that every file of these tables with two row groups is cut.
const SPLIT_BYTES: &str = "2048";

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Place in [`MODES`].
    mode: usize,
    /// Executors apart from the scheduler; 0 is one process.
    pub executors: usize,
    pushdown: bool,
    one_row_batches: bool,
    small_splits: bool,
    /// Whether each query is asked twice; else nothing is kept of metadata.
    pub warm: bool,
    /// Whether equality deletes are joined; else they are an index.
    joined_deletes: bool,
}

/// Every pair of values of two settings stands in one of these lines.
const COVER: [[usize; 7]; 7] = [
    [2, 1, 0, 1, 0, 0, 1],
    [1, 1, 1, 0, 0, 1, 1],
    [0, 1, 1, 0, 1, 0, 0],
    [2, 0, 1, 1, 0, 1, 0],
    [2, 0, 0, 0, 1, 1, 1],
    [0, 0, 0, 1, 0, 1, 1],
    [1, 0, 0, 1, 1, 0, 0],
];

/// How many values each has.
const VALUES: [usize; 7] = [MODES.len(), 2, 2, 2, 2, 2, 2];

/// The cover; with `TARN_TABLES=full` the whole product of all but the last, which then takes turns; with
/// `TARN_TABLES=one` the plainest. `TARN_TABLES=full/2/3` is the second third of the product, by turns, so that it can
/// be run in parts.
pub fn chosen() -> Vec<Setting> {
    let wanted = std::env::var("TARN_TABLES").unwrap_or_default();
    let full = || product().into_iter().filter(|line| line.iter().sum::<usize>() % 2 == 0).map(Setting::of);
    match wanted.split('/').collect::<Vec<_>>().as_slice() {
        ["full"] => full().collect(),
        ["full", part, parts] => {
            let (part, parts): (usize, usize) = (part.parse().unwrap(), parts.parse().unwrap());
            assert!((1..=parts).contains(&part), "part {part} of {parts}");
            full().skip(part - 1).step_by(parts).collect()
        }
        ["one"] => vec![Setting::of([0; 7])],
        _ => COVER.into_iter().map(Setting::of).collect(),
    }
}

fn product() -> Vec<[usize; 7]> {
    let mut all = vec![[0; 7]];
    for (at, values) in VALUES.into_iter().enumerate() {
        all = all
            .into_iter()
            .flat_map(|line| {
                (0..values).map(move |value| {
                    let mut line = line;
                    line[at] = value;
                    line
                })
            })
            .collect();
    }
    all
}

impl Setting {
    fn of([mode, apart, pushdown, batch, splits, warm, joins]: [usize; 7]) -> Self {
        Self {
            mode,
            executors: 2 * apart,
            pushdown: pushdown == 1,
            one_row_batches: batch == 1,
            small_splits: splits == 1,
            warm: warm == 1,
            joined_deletes: joins == 1,
        }
    }

    /// Makes servers run so.
    pub fn configure(&self, config: &mut Config) {
        let mut settings = vec![("execution_mode", MODES[self.mode]), ("query_timeout", "2m")];
        if self.pushdown {
            settings.push(("pushdown_filters", "true"));
        }
        if self.one_row_batches {
            settings.push(("batch_size", "1"));
        }
        if self.small_splits {
            settings.push(("split_bytes", SPLIT_BYTES));
        }
        if self.joined_deletes {
            settings.push(("equality_delete_bytes", "0"));
        }
        let settings = settings.into_iter().map(|(name, value)| (name.to_string(), value.to_string()));
        config.scheduler.session.settings.extend(settings);
        if !self.warm {
            config.metadata_cache.pointer_ttl_ms = 0;
            config.metadata_cache.metadata_bytes_max = 0;
            config.metadata_cache.manifest_bytes_max = 0;
            config.runtime.metadata_cache_bytes = 0;
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = if self.executors == 0 { "one process" } else { "two executors" };
        let pushdown = if self.pushdown { "filters pushed down" } else { "filters above" };
        let batch = if self.one_row_batches { "batches of 1" } else { "batches of 8192" };
        let splits = if self.small_splits { "small splits" } else { "usual splits" };
        let caches = if self.warm { "warm" } else { "cold" };
        let deletes = if self.joined_deletes { "deletes joined" } else { "deletes indexed" };
        write!(f, "{}, {shape}, {pushdown}, {batch}, {splits}, {caches}, {deletes}", MODES[self.mode])
    }
}

#[test]
fn every_pair_is_covered_by_few_settings() {
    assert!(COVER.len() <= 12);
    for one in 0..VALUES.len() {
        for other in one + 1..VALUES.len() {
            for a in 0..VALUES[one] {
                for b in 0..VALUES[other] {
                    let covered = COVER.iter().any(|line| line[one] == a && line[other] == b);
                    assert!(covered, "setting {one} at {a} with setting {other} at {b}");
                }
            }
        }
    }
}
