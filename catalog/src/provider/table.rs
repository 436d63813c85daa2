//! A pinned table as DataFusion's `TableProvider`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use tarn_scan::{MetadataColumn, TableScan, default};

use super::PinnedTable;
use crate::plan;

/// The table, for one query.
pub(super) struct Provider {
    table: PinnedTable,
    /// The table's, with metadata columns at the end if some are asked for.
    scan: Arc<TableScan>,
    /// Fields of `_partition`, if that is asked for.
    partition: Fields,
    /// What new rows get where their writer says nothing, by column.
    defaults: HashMap<String, Expr>,
}

impl Provider {
    pub(super) fn new(table: PinnedTable, columns: &[MetadataColumn]) -> Self {
        let partition = match columns.contains(&MetadataColumn::Partition) {
            true => table.metadata().partition_type(),
            false => Fields::empty(),
        };
        let scan = match columns {
            [] => Arc::clone(table.scan()),
            columns => {
                let own = table.scan().schema.fields().iter().cloned();
                let fields = own.chain(columns.iter().map(|column| Arc::new(column.field(&partition))));
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                Arc::new(TableScan { schema, ..table.scan().as_ref().clone() })
            }
        };
        let default = |field: &FieldRef| {
            // One that cannot be read is no default: a required column then says that it lacks a value.
            let value = default::write(field).ok().flatten()?;
            Some((field.name().clone(), Expr::Literal(value, None)))
        };
        let defaults = scan.schema.fields().iter().filter_map(default).collect();
        Self { table, scan, partition, defaults }
    }

    /// Columns that are not the table's own.
    fn metadata_columns(&self) -> usize {
        self.scan.schema.fields().len() - self.table.scan().schema.fields().len()
    }
}

/// The statistics with nothing known about so many more columns.
fn with_unknown(mut statistics: Statistics, columns: usize) -> Statistics {
    statistics.column_statistics.extend(std::iter::repeat_n(ColumnStatistics::new_unknown(), columns));
    statistics
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
        Arc::clone(&self.scan.schema)
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
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
        self.table.check_readable(projection)?;
        let plan = self.table.plan_files_with(filters, &self.partition).await?;
        if plan.files.is_empty() {
            let schema = match projection {
                Some(projection) => Arc::new(self.scan.schema.project(projection)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let plan = match limit {
            // A limit comes this far only if no filter stands above it.
            Some(rows) if filters.is_empty() => plan.first_rows(rows as u64).map_or(plan, Arc::new),
            _ => plan,
        };
        let range_bytes_min = state.config_options().optimizer.repartition_file_min_size as u64;
        let mut groups = plan::group(&plan, state.config().target_partitions(), range_bytes_min);
        for file in groups.iter_mut().flatten().filter(|_| self.metadata_columns() > 0) {
            let statistics = file.statistics.take().map(Arc::unwrap_or_clone);
            file.statistics = statistics.map(|known| Arc::new(with_unknown(known, self.metadata_columns())));
        }
        let parquet = state.config_options().execution.parquet.clone();
        let options = TableParquetOptions { global: parquet, ..TableParquetOptions::default() };
        let scan = Arc::clone(&self.scan);
        let statistics = with_unknown(plan.statistics.clone(), self.metadata_columns());
        Ok(tarn_scan::scan_exec(scan, groups, statistics, projection, limit, &options)?)
    }

    // Filters prune files here and row groups in the scan; single rows are left to the plan above.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    // By the snapshot's own summary: a guess for the logical planner. Exact statistics come with the scan.
    fn statistics(&self) -> Option<Statistics> {
        let guess =
            |value: Option<u64>| value.map_or(Precision::Absent, |value| Precision::Inexact(value as usize));
        let columns = self.scan.schema.fields().len();
        Some(Statistics {
            num_rows: guess(self.table.row_count()),
            total_byte_size: guess(self.table.size_bytes()),
            column_statistics: vec![ColumnStatistics::new_unknown(); columns],
        })
    }
}
