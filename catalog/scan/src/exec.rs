//! The scan as a plan node: made, looked into, and given other files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, Statistics};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_datasource::{FileRange, PartitionedFile};
use object_store::ObjectMeta;

use crate::error::Error;
use crate::source::{IcebergSource, file_range};
use crate::storage::{Router, path_of};
use crate::task::{FileTask, PlannedFile, TableScan};

/// What a leaf made by [`scan_exec`] reads.
#[derive(Clone, Debug)]
pub struct ScanView {
    /// The table.
    pub scan: Arc<TableScan>,
    /// Its file tasks, by partition, with the ranges as they are now.
    pub groups: Vec<Vec<FileTask>>,
}

/// A leaf that reads `groups`, one partition each, ready for both engines.
///
/// `statistics` are over the table schema and of all groups together: exact row counts answer
/// `count(*)` without a scan. `projection` are indexes into the table schema. No groups make a leaf
/// without partitions, which not every plan above can bear: plan an empty relation instead.
pub fn scan_exec(
    scan: Arc<TableScan>,
    groups: Vec<Vec<PlannedFile>>,
    statistics: Statistics,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
    options: &TableParquetOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let floats = float_columns(&scan);
    let group = |files: Vec<PlannedFile>| {
        let files = files.into_iter().map(|file| {
            let statistics = file.statistics.map(|statistics| without_float_bounds(statistics, &floats));
            partitioned_file(file.task, statistics)
        });
        Ok(FileGroup::new(files.collect::<Result<Vec<_>>>()?))
    };
    let groups = groups.into_iter().map(group).collect::<Result<Vec<_>>>()?;
    let statistics = Arc::unwrap_or_clone(without_float_bounds(Arc::new(statistics), &floats));
    let source = IcebergSource::new(parquet_source(&scan, options), scan);
    let config = FileScanConfigBuilder::new(Router::object_store_url(), Arc::new(source))
        .with_file_groups(groups)
        .with_statistics(statistics)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// What a leaf reads; `None` for any other node.
pub fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<ScanView> {
    let (config, source) = leaf(plan)?;
    let task = |file: &PartitionedFile| {
        let task = file.extensions.get::<FileTask>()?;
        Some(FileTask { range: file_range(file), ..task.clone() })
    };
    let groups = config.file_groups.iter().map(|group| group.iter().map(task).collect::<Option<_>>());
    Some(ScanView { scan: Arc::clone(source.scan()), groups: groups.collect::<Option<_>>()? })
}

/// The same leaf with other file groups. Its statistics are those of the whole scan, so they become
/// estimates.
pub fn with_groups(
    plan: &Arc<dyn ExecutionPlan>,
    groups: Vec<Vec<FileTask>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (config, _) = leaf(plan).ok_or_else(|| Error::NotAScan(plan.name().to_owned()))?;
    let known: HashMap<&str, &PartitionedFile> = config
        .file_groups
        .iter()
        .flat_map(|group| group.iter())
        .filter_map(|file| Some((file.extensions.get::<FileTask>()?.uri.as_str(), file)))
        .collect();
    let file = |task: FileTask| {
        let statistics = known.get(task.uri.as_str()).and_then(|file| file.statistics.clone());
        partitioned_file(Arc::new(task), statistics)
    };
    let group =
        |tasks: Vec<FileTask>| Ok(FileGroup::new(tasks.into_iter().map(file).collect::<Result<_>>()?));
    let groups = groups.into_iter().map(group).collect::<Result<Vec<_>>>()?;
    let config = FileScanConfigBuilder::from(config.clone())
        .with_statistics(config.statistics().to_inexact())
        .with_file_groups(groups)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// The plan with every scan in it reporting for this query, see [`crate::ScanObserver`].
pub fn with_query_id(plan: Arc<dyn ExecutionPlan>, query_id: &str) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some((config, source)) = leaf(&node) else {
            return Ok(Transformed::no(node));
        };
        let source = Arc::new(source.with_query_id(Some(query_id)));
        let mut config = config.clone();
        config.file_source = source;
        Ok(Transformed::yes(DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// The config and source of a leaf of ours.
pub(crate) fn leaf(plan: &Arc<dyn ExecutionPlan>) -> Option<(&FileScanConfig, &IcebergSource)> {
    let exec = plan.downcast_ref::<DataSourceExec>()?;
    let config = exec.data_source().downcast_ref::<FileScanConfig>()?;
    Some((config, config.file_source.downcast_ref::<IcebergSource>()?))
}

fn parquet_source(scan: &TableScan, options: &TableParquetOptions) -> ParquetSource {
    ParquetSource::new(Arc::clone(&scan.schema)).with_table_parquet_options(options.clone())
}

pub(crate) fn partitioned_file(
    task: Arc<FileTask>,
    statistics: Option<Arc<Statistics>>,
) -> Result<PartitionedFile> {
    let meta = ObjectMeta {
        location: path_of(&task.uri)?,
        // Data files do not change, so any constant keeps cached footers valid.
        last_modified: Default::default(),
        size: task.size_bytes,
        e_tag: None,
        version: None,
    };
    let mut file = PartitionedFile::new_from_meta(meta);
    file.statistics = statistics;
    file.range = task.range.as_ref().map(|range| FileRange {
        start: i64::try_from(range.start).unwrap_or(i64::MAX),
        end: i64::try_from(range.end).unwrap_or(i64::MAX),
    });
    file.extensions.insert_arc(task);
    Ok(file)
}

fn float_columns(scan: &TableScan) -> Vec<usize> {
    let is_float = |t: &DataType| matches!(t, DataType::Float16 | DataType::Float32 | DataType::Float64);
    let fields = scan.schema.fields().iter().enumerate();
    fields.filter(|(_, field)| is_float(field.data_type())).map(|(index, _)| index).collect()
}

/// Statistics whose bounds of float columns are not exact: Iceberg's bounds leave NaN out, and an
/// exact bound would answer `max(x)` or turn the column into a constant.
fn without_float_bounds(mut statistics: Arc<Statistics>, floats: &[usize]) -> Arc<Statistics> {
    let exact = |statistics: &Statistics, index: usize| {
        statistics.column_statistics.get(index).is_some_and(|column| {
            matches!(column.min_value, Precision::Exact(_)) || matches!(column.max_value, Precision::Exact(_))
        })
    };
    for index in floats {
        if exact(&statistics, *index) {
            let column = &mut Arc::make_mut(&mut statistics).column_statistics[*index];
            column.min_value = std::mem::take(&mut column.min_value).to_inexact();
            column.max_value = std::mem::take(&mut column.max_value).to_inexact();
        }
    }
    statistics
}
