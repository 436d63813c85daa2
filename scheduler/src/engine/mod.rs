//! The seam between a planned query and what runs it.
//!
//! Three engines behind one trait: [`local`] runs in this process, [`pipelined`] on the
//! executors with all stages at once, [`staged`] on the executors with shuffles on disk.
//! The rule: an engine knows the cluster and nothing of SQL, sessions or the front door;
//! dropping the stream it returned, or cancelling the token, stops all work everywhere.

pub mod choice;
pub mod local;
pub mod pipelined;
pub mod staged;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::query::QueryId;

/// Which engine runs a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the scheduler, on its bounded cores and memory.
    Local,
    /// On the executors, all stages at once, streaming.
    Pipelined,
    /// On the executors, stage by stage, shuffles kept on disk.
    Staged,
}

impl Mode {
    /// As settings, metrics and `EXPLAIN` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Pipelined => "pipelined",
            Self::Staged => "staged",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "local" => Ok(Self::Local),
            "pipelined" => Ok(Self::Pipelined),
            "staged" => Ok(Self::Staged),
            other => Err(Error::invalid(format!("execution mode \"{other}\" is unknown"))
                .with_hint("one of auto, local, pipelined, staged")),
        }
    }
}

/// One run of one planned query.
#[derive(Clone)]
pub struct Execution {
    /// The query that this run belongs to.
    pub query_id: QueryId,
    /// The physical plan, not yet distributed.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The session's configuration as the plan was made with.
    pub config: SessionConfig,
    /// Cancelled when the query is to stop.
    pub token: CancellationToken,
}

/// Runs plans.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The mode that this engine is.
    fn mode(&self) -> Mode;

    /// Starts the plan and returns its rows. Fails with `no_executors`, `executor_lost` or
    /// whatever the plan's operators fail with.
    async fn execute(&self, execution: Execution) -> Result<SendableRecordBatchStream>;
}
