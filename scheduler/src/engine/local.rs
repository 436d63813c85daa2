//! Runs a plan in this process, on the bounded cores and memory of its runtime.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tarn_runtime::Runtime;
use tarn_runtime::options::TarnOptions;
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
        let run_id = match TarnOptions::of(&execution.config).run_id {
            run_id if run_id.is_empty() => execution.query_id.to_string(),
            run_id => run_id,
        };
        let run = self.runtime.queries().enter(&run_id);
        let plan = tarn_scan::with_query_id(execution.plan, &run_id)?;
        let guard = Guard::of(Arc::clone(&run), Role::Scheduler).with_token(execution.token.clone());
        let plan = guard.apply(plan)?;
        let env = self.runtime.env_of(&run, &execution.config);
        let context = TaskContext::default().with_session_config(execution.config).with_runtime(env);
        let rows = self.runtime.run_stream(plan, Arc::new(context));
        let schema = rows.schema();
        // A plan without a scan keeps no handle of its run; the stream does.
        let rows = rows.inspect(move |_| {
            let _ = &run;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
