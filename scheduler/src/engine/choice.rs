//! Which engine runs a query, and why.
//!
//! Decided from the pinned snapshots' exact statistics. The reason is one sentence, shown by
//! `EXPLAIN`. The rule: a choice made by the session is followed, or refused by name; it is
//! never quietly another.

use super::Mode;
use crate::planner::Estimate;

/// What is known when the mode is chosen.
pub struct Facts<'a> {
    /// What the session asked for; `None` is `auto`.
    pub asked: Option<Mode>,
    /// What the plan reads.
    pub estimate: &'a Estimate,
    /// Whether only this process can run it (it reads the scheduler's own tables).
    pub only_local: bool,
    /// Largest scan, in bytes, that `auto` runs locally.
    pub local_bytes_max: u64,
    /// Executors alive.
    pub executors: usize,
}

/// The mode, and the reason in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which engine.
    pub mode: Mode,
    /// Why.
    pub reason: String,
}

/// Chooses the mode.
pub fn choose(facts: &Facts<'_>) -> Choice {
    let choice = |mode, reason: String| Choice { mode, reason };
    if facts.only_local {
        return choice(Mode::Local, "reads only the scheduler's own tables".to_string());
    }
    if let Some(mode) = facts.asked {
        return choice(mode, format!("setting execution_mode is {mode}"));
    }
    let bytes = facts.estimate.bytes();
    if facts.estimate.scans.is_empty() {
        return choice(Mode::Local, "scans no table".to_string());
    }
    if bytes <= facts.local_bytes_max {
        return choice(Mode::Local, format!("scans {bytes} bytes, at most {}", facts.local_bytes_max));
    }
    let executors = facts.executors;
    choice(
        Mode::Pipelined,
        format!("scans {bytes} bytes, more than {}; {executors} executors", facts.local_bytes_max),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::ScanEstimate;

    fn mode(asked: Option<Mode>, bytes: u64) -> Mode {
        let scan = ScanEstimate { table: "t".to_string(), snapshot_id: None, files: 1, bytes, rows: 1 };
        let estimate = Estimate { scans: vec![scan] };
        choose(&Facts { asked, estimate: &estimate, only_local: false, local_bytes_max: 100, executors: 1 })
            .mode
    }

    #[test]
    fn small_scans_stay_local_unless_asked_otherwise() {
        assert_eq!(mode(None, 100), Mode::Local);
        assert_eq!(mode(None, 101), Mode::Pipelined);
        assert_eq!(mode(Some(Mode::Staged), 1), Mode::Staged);
    }
}
