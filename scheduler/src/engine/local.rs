//! Runs a plan in this process, on the bounded cores and memory of its runtime.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use tarn_runtime::Runtime;
use tarn_runtime::queries::{Guard, Role};

use super::{Engine, Execution, Mode};
use crate::error::Result;

/// The local engine.
pub struct Local {
    runtime: Runtime,
}

impl Local {
    /// An engine over the process's runtime.
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime }
    }
}

#[async_trait]
impl Engine for Local {
    fn mode(&self) -> Mode {
        Mode::Local
    }

    async fn execute(&self, execution: Execution) -> Result<SendableRecordBatchStream> {
        let plan = tarn_scan::with_query_id(execution.plan, execution.query_id.as_str())?;
        let plan = Guard::new(execution.token.clone(), Role::Scheduler).apply(plan)?;
        let context =
            TaskContext::default().with_session_config(execution.config).with_runtime(self.runtime.env());
        Ok(self.runtime.run_stream(plan, Arc::new(context)))
    }
}
