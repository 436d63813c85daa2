//! A pinned table as DataFusion's `TableProvider`.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::PinnedTable;
use crate::plan;

/// The table, for one query.
pub(super) struct Provider {
    table: PinnedTable,
}

impl Provider {
    pub(super) fn new(table: PinnedTable) -> Self {
        Self { table }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot_id = self.table.snapshot_id();
        f.debug_struct("Provider")
            .field("table", self.table.name())
            .field("snapshot_id", &snapshot_id)
            .finish()
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.table.plan_files(filters).await?;
        if plan.files.is_empty() {
            let schema = match projection {
                Some(projection) => Arc::new(self.table.schema().project(projection)?),
                None => self.table.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let plan = match limit {
            // A limit comes this far only if no filter stands above it.
            Some(rows) if filters.is_empty() => Arc::new(plan.first_rows(rows as u64)),
            _ => plan,
        };
        let range_bytes_min = state.config_options().optimizer.repartition_file_min_size as u64;
        let groups = plan::group(&plan, state.config().target_partitions(), range_bytes_min);
        let parquet = state.config_options().execution.parquet.clone();
        let options = TableParquetOptions { global: parquet, ..TableParquetOptions::default() };
        let scan = Arc::clone(self.table.scan());
        Ok(tarn_scan::scan_exec(scan, groups, plan.statistics.clone(), projection, limit, &options)?)
    }

    // Filters prune files here and row groups in the scan; single rows are left to the plan above.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    // By the snapshot's own summary: a guess for the logical planner. Exact statistics come with the scan.
    fn statistics(&self) -> Option<Statistics> {
        let guess =
            |value: Option<u64>| value.map_or(Precision::Absent, |value| Precision::Inexact(value as usize));
        let columns = self.table.schema().fields().len();
        Some(Statistics {
            num_rows: guess(self.table.row_count()),
            total_byte_size: guess(self.table.size_bytes()),
            column_statistics: vec![ColumnStatistics::new_unknown(); columns],
        })
    }
}
