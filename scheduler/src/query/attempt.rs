//! One run of a planned query: its permit, its promise of memory, and what comes after one that failed.
//!
//! A run that lost an executor is begun again as it was; one that ran out of memory is planned again for the staged
//! engine, with joins that can spill, unless the session asked for a mode. The rule: each attempt has its own run id,
//! a fresh plan and a permit of its own, which goes back when its last row has left the engine.

use std::sync::Arc;
use std::time::Instant;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use tarn_runtime::options::{Priority, TarnOptions};

use super::plan::Planned;
use super::register::Entry;
use super::run::Queries;
use super::spool::{self, Attempt};
use crate::admission::Permit;
use crate::admission::queue::Demand;
use crate::engine::{Execution, Mode};
use crate::error::{ErrorCode, Result};

/// Seconds that a run which spills is expected to take at least.
const SPILLING_SECONDS: f64 = 1.0;
/// Runs of a query that may be out of memory before another is no use.
const OUT_OF_MEMORY_MAX: usize = 2;
/// Why a run that is made again is staged.
pub(super) const RAN_OUT: &str = "ran out of memory";
/// How much more a query is promised that ran out of memory, half of all at least.
const MEMORY_FACTOR: u64 = 4;

impl Queries {
    /// Steps 7 to 9: the permit, the engine, its rows through the spool.
    pub(super) fn run(&self, entry: Arc<Entry>, planned: Planned) -> SendableRecordBatchStream {
        let (schema, deadline) = (Arc::clone(&planned.schema), planned.deadline);
        let may_spill = planned.again.is_some();
        let (queries, running, planned) = (self.clone(), Arc::clone(&entry), Arc::new(planned));
        let start: spool::Start = Box::new(move |attempt| {
            let (queries, entry, planned) = (queries.clone(), Arc::clone(&running), Arc::clone(&planned));
            Box::pin(async move { queries.attempt(&entry, &planned, attempt).await })
        });
        let register = self.inner.register.clone();
        let limits = self.inner.limits.spool.clone();
        spool::run(schema, start, may_spill, entry, register, deadline, limits, &self.inner.tasks)
    }

    async fn attempt(
        &self,
        entry: &Arc<Entry>,
        planned: &Planned,
        attempt: Attempt,
    ) -> Result<SendableRecordBatchStream> {
        let fingerprint = planned.fingerprint;
        if attempt.out_of_memory > 0 {
            self.inner.admission.learned().ran_out(fingerprint);
        }
        let spilling = match (&planned.again, attempt.out_of_memory) {
            (Some(again), 1..) => Some(self.plan_spilling(again).await?),
            _ => None,
        };
        let mut demand = planned.demand.clone();
        let (mode, plan, config) = match &spilling {
            Some((plan, config)) => {
                demand = demand.map(|demand| self.spilling_demand(demand, attempt.out_of_memory));
                entry.set_mode(Mode::Staged, RAN_OUT);
                (Mode::Staged, plan, config)
            }
            None => (planned.choice.mode, &planned.plan, &planned.config),
        };
        self.execute(entry, mode, plan, config, demand, Some(fingerprint), attempt.number).await
    }

    /// What a run asks for that is made again because it was out of memory so many times. A short one asks for no more
    /// the first time: in stages it needs less, and it would wait for more longer than it runs.
    pub(super) fn spilling_demand(&self, demand: Demand, times: usize) -> Demand {
        if demand.express && times == 1 {
            return demand;
        }
        let bytes_min = self.inner.admission.bytes_max() / 2;
        Demand {
            bytes: demand.bytes.saturating_mul(MEMORY_FACTOR).max(bytes_min),
            express: false,
            seconds: demand.seconds.max(SPILLING_SECONDS),
            ..demand
        }
    }

    /// Runs a plan once, as soon as it may. Its permit goes back when the stream has ended or is dropped.
    #[expect(clippy::too_many_arguments, reason = "each is one part of a run")]
    pub(super) async fn execute(
        &self,
        entry: &Arc<Entry>,
        mode: Mode,
        plan: &Arc<dyn ExecutionPlan>,
        config: &SessionConfig,
        demand: Option<Demand>,
        fingerprint: Option<u64>,
        attempt: usize,
    ) -> Result<SendableRecordBatchStream> {
        // What needs no permit reads next to nothing.
        let priority = demand.as_ref().map_or(Priority::High, |demand| Priority::of(demand.seconds));
        let permit = match demand {
            Some(demand) => {
                let permit = self.inner.admission.admit(demand, |position| entry.set_queued(position)).await;
                Some(permit.map_err(|error| error.with_query(entry.id()))?)
            }
            None => None,
        };
        entry.set_attempt(attempt, permit.as_ref().map_or(0, |permit| permit.bytes));
        if mode != Mode::Local {
            self.inner.deliveries.complete().await;
        }
        let began = Instant::now();
        let execution = execution(entry, plan, config, permit.as_ref(), priority, attempt)?;
        let rows = self.inner.engines.of(mode).execute(execution).await?;
        let ended = Ended { queries: self.clone(), fingerprint, began, _permit: permit };
        let schema = rows.schema();
        let mut ended = Some(ended);
        // One that fails or is dropped gives its permit back with the stream.
        let rows = rows.map(Some).chain(futures::stream::iter([None])).filter_map(move |batch| {
            if batch.is_none()
                && let Some(ended) = ended.take()
            {
                ended.well();
            }
            std::future::ready(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Held as long as a run is in the engine.
struct Ended {
    queries: Queries,
    fingerprint: Option<u64>,
    began: Instant,
    _permit: Option<Permit>,
}

impl Ended {
    /// All rows have come.
    fn well(self) {
        if let Some(fingerprint) = self.fingerprint {
            self.queries.inner.admission.learned().took(fingerprint, self.began.elapsed());
        }
    }
}

/// Each attempt has its own run id and a fresh plan: operators keep state of a run.
fn execution(
    entry: &Entry,
    plan: &Arc<dyn ExecutionPlan>,
    config: &SessionConfig,
    permit: Option<&Permit>,
    priority: Priority,
    attempt: usize,
) -> Result<Execution> {
    let mut config = config.clone();
    let options = TarnOptions::of(&config);
    let memory_bytes = permit.map_or(options.memory_bytes, |permit| permit.bytes);
    TarnOptions { run_id: format!("{}-{attempt}", entry.id()), memory_bytes, priority, ..options }
        .apply(&mut config);
    let plan = datafusion::physical_plan::execution_plan::reset_plan_states(Arc::clone(plan))?;
    Ok(Execution { query_id: entry.id().clone(), plan, config, token: entry.token().child_token() })
}

/// Whether another attempt may help after an error.
pub(super) fn may_help(code: ErrorCode, may_spill: bool, out_of_memory: usize) -> bool {
    match code {
        ErrorCode::ExecutorLost => true,
        ErrorCode::OutOfMemory => may_spill && out_of_memory < OUT_OF_MEMORY_MAX,
        _ => false,
    }
}
