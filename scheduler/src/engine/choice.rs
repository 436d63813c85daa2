//! Which engine runs a query, and why.
//!
//! Decided from the pinned snapshots' exact statistics. The reason is one sentence, shown by
//! `EXPLAIN`. The rule: a choice made by the session is followed, or refused by name; it is
//! never quietly another.

use super::Mode;

/// What is known when the mode is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What the session asked for; `None` is `auto`.
    pub asked: Option<Mode>,
    /// Scans of tables in the plan.
    pub scans: usize,
    /// Bytes that they read.
    pub bytes: u64,
    /// Whether only this process can run it (it reads the scheduler's own tables).
    pub only_local: bool,
    /// Whether it takes the first rows that come: a limit without an order.
    pub preview: bool,
    /// Whether its rows are written into a table.
    pub writes: bool,
    /// Bytes of memory in each executor that it cannot do without, as far as known.
    pub memory_bytes: u64,
    /// Bytes of memory that one query may have in an executor.
    pub memory_bytes_max: u64,
    /// The same in this process.
    pub local_memory_bytes_max: u64,
    /// Largest scan, in bytes, that `auto` runs locally.
    pub local_bytes_max: u64,
    /// Smallest scan, in bytes, that `auto` writes a table from in stages.
    pub staged_write_bytes_min: u64,
    /// Whether an earlier run of the same plan was out of memory.
    pub ran_out: bool,
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
    /// Whether joins are to be made so that they can spill.
    pub spills: bool,
}

/// Chooses the mode.
pub fn choose(facts: &Facts) -> Choice {
    let choice = |mode, reason: String| Choice { mode, reason, spills: false };
    if facts.only_local {
        return choice(Mode::Local, "reads only the scheduler's own tables".to_string());
    }
    if let Some(mode) = facts.asked {
        return choice(mode, format!("setting execution_mode is {mode}"));
    }
    let Facts { bytes, memory_bytes, memory_bytes_max, local_bytes_max, executors, .. } = *facts;
    if facts.scans == 0 {
        return choice(Mode::Local, "scans no table".to_string());
    }
    if bytes <= local_bytes_max && memory_bytes <= facts.local_memory_bytes_max {
        return choice(Mode::Local, format!("scans {bytes} bytes, at most {local_bytes_max}"));
    }
    if facts.preview {
        return choice(Mode::Local, "takes the first rows that come".to_string());
    }
    if memory_bytes > memory_bytes_max && memory_bytes_max > 0 {
        let reason = format!(
            "joins are expected to hold {memory_bytes} bytes, and a query may have {memory_bytes_max}"
        );
        return Choice { spills: true, ..choice(Mode::Staged, reason) };
    }
    if facts.ran_out {
        let reason = "an earlier run of the same plan was out of memory".to_string();
        return Choice { spills: true, ..choice(Mode::Staged, reason) };
    }
    if facts.writes && bytes >= facts.staged_write_bytes_min {
        let reason =
            format!("writes what it reads of {bytes} bytes, at least {}", facts.staged_write_bytes_min);
        return choice(Mode::Staged, reason);
    }
    choice(
        Mode::Pipelined,
        format!("scans {bytes} bytes, more than {local_bytes_max}; {executors} executors"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        asked: None,
        scans: 1,
        bytes: 1000,
        only_local: false,
        preview: false,
        writes: false,
        memory_bytes: 10,
        memory_bytes_max: 500,
        local_memory_bytes_max: 50,
        local_bytes_max: 100,
        staged_write_bytes_min: 5000,
        ran_out: false,
        executors: 1,
    };

    fn mode(facts: Facts) -> Mode {
        choose(&facts).mode
    }

    #[test]
    fn small_scans_and_previews_stay_local_unless_asked_otherwise() {
        assert_eq!(mode(Facts { bytes: 100, ..FACTS }), Mode::Local);
        assert_eq!(mode(FACTS), Mode::Pipelined);
        assert_eq!(mode(Facts { preview: true, ..FACTS }), Mode::Local);
        assert_eq!(mode(Facts { bytes: 1, asked: Some(Mode::Staged), ..FACTS }), Mode::Staged);
        assert_eq!(mode(Facts { bytes: 100, memory_bytes: 60, ..FACTS }), Mode::Pipelined);
    }

    #[test]
    fn joins_that_would_not_fit_and_large_writes_are_staged() {
        let large = choose(&Facts { memory_bytes: 501, ..FACTS });
        assert_eq!((large.mode, large.spills), (Mode::Staged, true), "{}", large.reason);
        let careful = choose(&Facts { ran_out: true, ..FACTS });
        assert_eq!((careful.mode, careful.spills), (Mode::Staged, true), "{}", careful.reason);
        assert_eq!(mode(Facts { writes: true, ..FACTS }), Mode::Pipelined);
        assert_eq!(mode(Facts { writes: true, bytes: 5000, ..FACTS }), Mode::Staged);
        // An executor that has not said how much it has is not taken for one without memory.
        assert_eq!(mode(Facts { memory_bytes: 501, memory_bytes_max: 0, ..FACTS }), Mode::Pipelined);
    }
}
