//! Equality deletes as a plan: what would take too much memory as an index is joined, and can spill.
//!
//! ```text
//!   SortMergeJoin LEFT ANTI on key 1, sequence of the delete > sequence of the row
//!   ├─ SortMergeJoin LEFT ANTI on key 0, ...
//!   │  ├─ scan of data files: columns, sequence, key 0, key 1
//!   │  └─ scan of delete files of layer 0: sequence, key 0
//!   └─ scan of delete files of layer 1: sequence, key 1
//! ```
//!
//! Lists that compare the same columns share a layer, unless some data file has
//! both of them (those of its partition, and those of the whole table): then it
//! would need two keys. Keys of different scopes differ by the number of their
//! list, so the rules of partitions and specs are those of `plan::assign`. The
//! one rule: every list of every file is in exactly one layer, or this fails.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{
    ColumnStatistics, JoinSide, JoinType, NullEquality, Result, Statistics, internal_err,
};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_plan::joins::SortMergeJoinExec;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use tarn_scan::{
    Deletes, EqualityDeletes, EqualityKey, FileTask, JoinColumn, JoinedDeletes, PlannedFile, TableScan,
    field_id, joined_schema,
};

/// What a key of one number takes in an index that is half full.
const NUMBER_BYTES: u64 = 34;
/// The same for any other key, beside the key itself.
const ENTRY_BYTES: u64 = 96;
/// Bytes in memory for each byte of a delete file, if keys are of any length: these are compressed.
const EXPANSION: u64 = 4;

/// About what an index of all equality deletes of these files takes in memory.
pub(super) fn index_bytes<'a>(files: impl IntoIterator<Item = &'a PlannedFile>) -> u64 {
    let mut seen = HashSet::new();
    let lists = files.into_iter().flat_map(|file| &file.task.deletes.equality);
    lists.filter(|list| seen.insert(Arc::as_ptr(list))).map(|list| list_bytes(list)).sum()
}

fn list_bytes(list: &EqualityDeletes) -> u64 {
    let rows: u64 = list.files.iter().map(|file| file.record_count).sum();
    let types: Vec<_> = list.keys.iter().map(leaf_type).collect();
    if let [
        Some(
            DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..),
        ),
    ] = types.as_slice()
    {
        return rows.saturating_mul(NUMBER_BYTES);
    }
    let width = |data_type: &Option<&DataType>| data_type.and_then(DataType::primitive_width);
    let fixed: u64 = types.iter().filter_map(width).map(|width| width as u64 + 1).sum();
    let any_length = types.iter().any(|data_type| width(data_type).is_none());
    let file_bytes: u64 = list.files.iter().map(|file| file.size_bytes).sum();
    let of_any_length = if any_length { file_bytes.saturating_mul(EXPANSION) } else { 0 };
    rows.saturating_mul(ENTRY_BYTES + fixed).saturating_add(of_any_length)
}

fn leaf_type(key: &EqualityKey) -> Option<&DataType> {
    let mut data_type = key.field.data_type();
    for id in &key.path {
        let DataType::Struct(fields) = data_type else { return None };
        data_type = fields.iter().find(|field| field_id(field) == Some(*id))?.data_type();
    }
    Some(data_type)
}

/// Deletes that are joined.
pub(super) struct Joins {
    layers: Vec<Layer>,
}

/// Lists that compare the same columns, of which no data file has two.
struct Layer {
    keys: Vec<EqualityKey>,
    lists: Vec<Arc<EqualityDeletes>>,
}

impl Joins {
    /// Takes the equality deletes off the files, and gives these what their keys are made of.
    pub(super) fn take(files: &mut [Vec<PlannedFile>]) -> Result<Self> {
        let layers = layers(files.iter().flatten());
        let mut places = HashMap::new();
        for (layer, Layer { lists, keys }) in (0..).zip(&layers) {
            for (group, list) in (0..).zip(lists) {
                // Only its columns: the files are the other scan's.
                let columns = Arc::new(EqualityDeletes { keys: keys.clone(), files: Vec::new() });
                places.insert(Arc::as_ptr(list), JoinedDeletes { layer, group, list: columns });
            }
        }
        for file in files.iter_mut().flatten().filter(|file| !file.task.deletes.equality.is_empty()) {
            let joined =
                file.task.deletes.equality.iter().map(|list| places.get(&Arc::as_ptr(list)).cloned());
            let Some(joined) = joined.collect::<Option<Vec<_>>>() else {
                return internal_err!("equality deletes of {:?} are in no join", file.task.uri);
            };
            let used: HashSet<u32> = joined.iter().map(|joined| joined.layer).collect();
            if used.len() != joined.len() {
                return internal_err!("equality deletes of {:?} are in one join twice", file.task.uri);
            }
            let deletes = &mut Arc::make_mut(&mut file.task).deletes;
            deletes.joined = joined;
            deletes.equality.clear();
        }
        Ok(Self { layers })
    }

    /// The columns of the data scan behind the table's own.
    pub(super) fn columns(&self) -> Vec<Arc<Field>> {
        let keys = (0..self.layers.len() as u32).map(JoinColumn::Key);
        std::iter::once(JoinColumn::Sequence).chain(keys).map(|column| Arc::new(column.field())).collect()
    }

    /// The rows of `data` that are not deleted. Its last columns are [`Self::columns`].
    pub(super) fn apply(
        &self,
        data: Arc<dyn ExecutionPlan>,
        scan: &TableScan,
        partitions: usize,
        options: &TableParquetOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sequence = data.schema().fields().len() - 1 - self.layers.len();
        let mut rows = data;
        for (number, layer) in self.layers.iter().enumerate() {
            let deletes = layer.scan(number as u32, scan, partitions, options)?;
            rows = anti_join(rows, sequence, sequence + 1 + number, deletes)?;
        }
        Ok(rows)
    }
}

/// Puts each list into the first layer of its columns where none is that shares a file with it.
fn layers<'a>(files: impl Iterator<Item = &'a PlannedFile>) -> Vec<Layer> {
    let mut lists: Vec<&Arc<EqualityDeletes>> = Vec::new();
    let mut beside: HashMap<*const EqualityDeletes, HashSet<*const EqualityDeletes>> = HashMap::new();
    for file in files {
        for list in &file.task.deletes.equality {
            let others = beside.entry(Arc::as_ptr(list)).or_insert_with(|| {
                lists.push(list);
                HashSet::new()
            });
            others.extend(file.task.deletes.equality.iter().map(Arc::as_ptr));
        }
    }
    let mut layers: Vec<Layer> = Vec::new();
    for list in lists {
        let others = &beside[&Arc::as_ptr(list)];
        let fits = |layer: &&mut Layer| {
            layer.keys == list.keys && !layer.lists.iter().any(|other| others.contains(&Arc::as_ptr(other)))
        };
        match layers.iter_mut().find(fits) {
            Some(layer) => layer.lists.push(Arc::clone(list)),
            None => layers.push(Layer { keys: list.keys.clone(), lists: vec![Arc::clone(list)] }),
        }
    }
    layers
}

impl Layer {
    /// Sequence number and key of every delete.
    fn scan(
        &self,
        number: u32,
        table: &TableScan,
        partitions: usize,
        options: &TableParquetOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(schema) = joined_schema(&self.keys, number) else {
            return internal_err!("a column of equality deletes has no field id");
        };
        let columns = schema.fields().len();
        let (mut rows, mut bytes) = (0, 0);
        let mut files = Vec::new();
        for (group, list) in (0..).zip(&self.lists) {
            let keys = Arc::new(EqualityDeletes { keys: self.keys.clone(), files: Vec::new() });
            for file in &list.files {
                rows += file.record_count;
                bytes += file.size_bytes;
                let joined = vec![JoinedDeletes { layer: number, group, list: Arc::clone(&keys) }];
                let task = FileTask {
                    uri: file.uri.clone(),
                    format: file.format,
                    size_bytes: file.size_bytes,
                    record_count: file.record_count,
                    data_sequence_number: file.data_sequence_number,
                    deletes: Deletes { joined, ..Deletes::default() },
                    ..FileTask::default()
                };
                files.push(PlannedFile { task: Arc::new(task), statistics: None });
            }
        }
        let mut groups = vec![Vec::new(); partitions.clamp(1, files.len().max(1))];
        let count = groups.len();
        for (index, file) in files.into_iter().enumerate() {
            groups[index % count].push(file);
        }
        let statistics = Statistics {
            num_rows: Precision::Inexact(rows as usize),
            total_byte_size: Precision::Inexact(bytes as usize),
            column_statistics: vec![ColumnStatistics::new_unknown(); columns],
        };
        let scan = Arc::new(TableScan { schema, ..table.clone() });
        let projection = vec![columns - 2, columns - 1];
        tarn_scan::scan_exec(scan, groups, statistics, Some(&projection), None, options)
    }
}

/// The rows whose key is not among the deletes with a higher sequence number. Distribution and order are what the
/// physical optimizer adds, as for any join of this kind.
fn anti_join(
    rows: Arc<dyn ExecutionPlan>,
    sequence: usize,
    key: usize,
    deletes: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let column = |plan: &Arc<dyn ExecutionPlan>, index: usize| {
        Arc::new(Column::new(plan.schema().field(index).name(), index)) as Arc<dyn PhysicalExpr>
    };
    let on = vec![(column(&rows, key), column(&deletes, 1))];
    let number = |name| Field::new(name, DataType::Int64, true);
    let schema = Arc::new(Schema::new(vec![number("row"), number("delete")]));
    let newer =
        BinaryExpr::new(Arc::new(Column::new("delete", 1)), Operator::Gt, Arc::new(Column::new("row", 0)));
    let sides = vec![
        ColumnIndex { index: sequence, side: JoinSide::Left },
        ColumnIndex { index: 0, side: JoinSide::Right },
    ];
    let filter = JoinFilter::new(Arc::new(newer), sides, schema);
    Ok(Arc::new(SortMergeJoinExec::try_new(
        rows,
        deletes,
        on,
        Some(filter),
        JoinType::LeftAnti,
        vec![SortOptions::default()],
        // No key is NULL.
        NullEquality::NullEqualsNothing,
    )?))
}

#[cfg(test)]
mod tests;
