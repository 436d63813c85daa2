//! Reading a delete file: like a data file, by field id and with the same care.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion_datasource::morsel::MorselPlanner;
use futures::TryStreamExt;
use object_store::ObjectStore;

use super::DeleteFile;
use crate::exec::partitioned_file;
use crate::source::IcebergSource;
use crate::storage::Router;
use crate::task::TableScan;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8192;

/// Hands the rows of a delete file to `each`, as columns of `schema`.
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    table: &TableScan,
    file: &DeleteFile,
    schema: SchemaRef,
    mut each: impl FnMut(RecordBatch) -> Result<()> + Send,
) -> Result<()> {
    let scan = Arc::new(TableScan { schema: Arc::clone(&schema), ..table.clone() });
    let source =
        IcebergSource::new(ParquetSource::new(schema), scan).unobserved().with_batch_size(BATCH_ROWS);
    let config = FileScanConfigBuilder::new(Router::object_store_url(), Arc::clone(&source)).build();
    let morselizer = source.create_morselizer(Arc::clone(store), &config, 0)?;
    let mut planners: Vec<Box<dyn MorselPlanner>> =
        vec![morselizer.plan_file(partitioned_file(Arc::new(file.task()), None)?)?];
    while let Some(planner) = planners.pop() {
        let Some(mut plan) = planner.plan()? else {
            continue;
        };
        for morsel in plan.take_morsels() {
            let mut batches = morsel.into_stream();
            while let Some(batch) = batches.try_next().await? {
                each(batch)?;
            }
        }
        planners.extend(plan.take_ready_planners().into_iter().rev());
        if let Some(pending) = plan.take_pending_planner() {
            planners.push(pending.await?);
        }
    }
    Ok(())
}
