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
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use tarn_scan::{MetadataColumn, PlannedFile, TableScan, default};

use super::anti_join::{self, Joins};
use super::{PinnedTable, ScanOptions};
use crate::plan::{self, FilePlan};

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

    /// Statistics of the files that a scan with these filters reads, which plans them: once for both.
    pub(super) async fn scan_statistics(&self, filters: &[Expr]) -> crate::error::Result<Statistics> {
        let plan = self.table.plan_files_with(filters, &self.partition).await?;
        let more = self.scan.schema.fields().len() - self.table.scan().schema.fields().len();
        Ok(with_unknown(plan.statistics.clone(), more))
    }

    /// The leaf that reads these groups of the planned files. `scan` is the table with more columns behind its own.
    fn exec(
        &self,
        scan: Arc<TableScan>,
        plan: &FilePlan,
        mut groups: Vec<Vec<PlannedFile>>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        options: &TableParquetOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let more = scan.schema.fields().len() - self.table.scan().schema.fields().len();
        for file in groups.iter_mut().flatten().filter(|_| more > 0) {
            let statistics = file.statistics.take().map(Arc::unwrap_or_clone);
            file.statistics = statistics.map(|known| Arc::new(with_unknown(known, more)));
        }
        let statistics = with_unknown(plan.statistics.clone(), more);
        tarn_scan::scan_exec(scan, groups, statistics, projection, limit, options)
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
        let partitions = state.config().target_partitions();
        let mut groups = plan::group(&plan, partitions, range_bytes_min);
        let parquet = state.config_options().execution.parquet.clone();
        let options = TableParquetOptions { global: parquet, ..TableParquetOptions::default() };
        let options_of_scans =
            state.config().get_extension::<ScanOptions>().map(|options| *options).unwrap_or_default();
        let joined = anti_join::index_bytes(&plan.files) > options_of_scans.equality_delete_bytes_max;
        if !joined {
            let scan = Arc::clone(&self.scan);
            return self.exec(scan, &plan, groups, projection, limit, &options);
        }
        let joins = Joins::take(&mut groups)?;
        let columns = self.scan.schema.fields().len();
        let fields: Vec<_> = self.scan.schema.fields().iter().cloned().chain(joins.columns()).collect();
        let mut wanted = projection.cloned().unwrap_or_else(|| (0..columns).collect());
        let visible = wanted.len();
        wanted.extend(columns..fields.len());
        let scan =
            Arc::new(TableScan { schema: Arc::new(Schema::new(fields)), ..self.scan.as_ref().clone() });
        // A limit would count deleted rows.
        let data = self.exec(scan, &plan, groups, Some(&wanted), None, &options)?;
        let rows = joins.apply(data, &self.scan, partitions, &options)?;
        let schema = rows.schema();
        let column = |index: usize| {
            let name = schema.field(index).name();
            (Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>, name.clone())
        };
        Ok(Arc::new(ProjectionExec::try_new((0..visible).map(column).collect::<Vec<_>>(), rows)?))
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
