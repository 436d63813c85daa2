//! Whether a job still moves.
//!
//! Ballista logs and drops what goes wrong while it handles a task's status, and reports of
//! tasks can be lost on the way; either leaves a job that waits for ever. What a job looks
//! like is compared with what it looked like before. The rule: a job that merely waits for
//! cores that others hold is well.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use ballista_core::serde::protobuf::task_status;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use tokio::time::Instant;

use super::settings::Config;

/// Why a job is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// No executor has been there for too long.
    NoExecutors,
    /// Nothing runs although cores are free.
    Stalled,
    /// Tasks are believed to run, and none has ended for too long.
    Silent,
}

/// The memory of the looks at one job.
pub(super) struct Watchdog {
    stall: Duration,
    silence: Duration,
    alone: Duration,
    /// What the job looked like, and since when.
    seen: Option<(u64, Instant)>,
    /// Since when nothing has run although it could.
    idle_since: Option<Instant>,
    alone_since: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            stall: Duration::from_secs(config.stall_timeout_seconds),
            silence: Duration::from_secs(config.silence_timeout_seconds),
            alone: Duration::from_secs(config.executors_wait_seconds),
            seen: None,
            idle_since: None,
            alone_since: None,
        }
    }

    /// One look. `free`: cores are free; `usable`: there is an executor at all.
    pub(super) fn look(
        &mut self,
        now: Instant,
        stages: &HashMap<usize, ExecutionStage>,
        free: bool,
        usable: bool,
    ) -> Option<Alarm> {
        let sight = Sight::of(stages);
        self.judge(now, &sight, free, usable)
    }

    fn judge(&mut self, now: Instant, sight: &Sight, free: bool, usable: bool) -> Option<Alarm> {
        if usable {
            self.alone_since = None;
        } else if since(&mut self.alone_since, now) >= self.alone {
            return Some(Alarm::NoExecutors);
        }
        if self.seen.is_none_or(|(look, _)| look != sight.look) {
            self.seen = Some((sight.look, now));
            self.idle_since = None;
            return None;
        }
        // With tasks to bind and no core free, others are being served. With no executor,
        // the other timer counts.
        let could_move = usable && (free || sight.pending == 0);
        if sight.running == 0 && could_move {
            return (since(&mut self.idle_since, now) >= self.stall).then_some(Alarm::Stalled);
        }
        self.idle_since = None;
        let unchanged = self.seen.map_or(Duration::ZERO, |(_, since)| now.duration_since(since));
        (sight.running > 0 && unchanged >= self.silence).then_some(Alarm::Silent)
    }
}

fn since(mark: &mut Option<Instant>, now: Instant) -> Duration {
    now.duration_since(*mark.get_or_insert(now))
}

/// What a job looks like.
struct Sight {
    /// Changes with every stage and task that changes.
    look: u64,
    /// Tasks that are believed to run.
    running: usize,
    /// Partitions that wait for a task.
    pending: usize,
}

impl Sight {
    fn of(stages: &HashMap<usize, ExecutionStage>) -> Self {
        let mut ids: Vec<_> = stages.keys().copied().collect();
        ids.sort_unstable();
        let mut look = DefaultHasher::new();
        let (mut running, mut pending) = (0, 0);
        for (id, stage) in ids.into_iter().filter_map(|id| Some((id, stages.get(&id)?))) {
            (id, stage.variant_name()).hash(&mut look);
            let tasks = stage.task_infos().unwrap_or_default();
            tasks.len().hash(&mut look);
            if let ExecutionStage::Running(stage) = stage {
                stage.stage_attempt_num.hash(&mut look);
                stage.pending.remaining().hash(&mut look);
                pending += stage.pending.remaining();
                let now = tasks
                    .iter()
                    .filter(|task| matches!(task.task_status, task_status::Status::Running(_)))
                    .count();
                now.hash(&mut look);
                running += now;
            }
        }
        Self { look: look.finish(), running, pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Sight = Sight { look: 1, running: 0, pending: 3 };

    #[test]
    fn job_that_waits_for_cores_of_others_is_well() {
        let (mut watchdog, start) = watchdog();
        for seconds in 0..100 {
            assert_eq!(watchdog.judge(start + Duration::from_secs(seconds), &IDLE, false, true), None);
        }
    }

    #[test]
    fn job_that_idles_beside_free_cores_is_stalled() {
        let (mut watchdog, start) = watchdog();
        assert_eq!(watchdog.judge(start, &IDLE, true, true), None);
        assert_eq!(watchdog.judge(start + Duration::from_secs(1), &IDLE, true, true), None);
        let alarm = watchdog.judge(start + Duration::from_secs(30), &IDLE, true, true);
        assert_eq!(alarm, Some(Alarm::Stalled));
    }

    #[test]
    fn change_resets_the_clock() {
        let (mut watchdog, start) = watchdog();
        for step in 0..20 {
            let sight = Sight { look: step, ..IDLE };
            assert_eq!(watchdog.judge(start + Duration::from_secs(19 * step), &sight, true, true), None);
        }
    }

    #[test]
    fn long_task_is_not_a_stall() {
        let (mut watchdog, start) = watchdog();
        let sight = Sight { look: 1, running: 1, pending: 0 };
        assert_eq!(watchdog.judge(start, &sight, true, true), None);
        assert_eq!(watchdog.judge(start + Duration::from_secs(600), &sight, true, true), None);
        let alarm = watchdog.judge(start + Duration::from_secs(1900), &sight, true, true);
        assert_eq!(alarm, Some(Alarm::Silent));
    }

    #[test]
    fn job_without_executors_is_given_up() {
        let (mut watchdog, start) = watchdog();
        assert_eq!(watchdog.judge(start, &IDLE, false, false), None);
        let alarm = watchdog.judge(start + Duration::from_secs(31), &IDLE, false, false);
        assert_eq!(alarm, Some(Alarm::NoExecutors));
    }

    fn watchdog() -> (Watchdog, Instant) {
        let start = std::time::Instant::now();
        (Watchdog::new(&Config::default()), Instant::from_std(start))
    }
}
