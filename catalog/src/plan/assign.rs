//! Which deletes each planned file has: Iceberg specification, "Scan Planning".
//!
//! - A deletion vector is about the data file that it names, and then stands for all deletes by position.
//! - A position delete file is about the files of its partition, or about the one that it names, and not about
//!   files that are newer than itself.
//! - An equality delete file is about older files of its partition, or of the whole table if its spec splits nothing.
//!
//! Bounds only leave out what cannot match. Equality deletes of one scope and the same columns make one list that
//! its data files share, so that a plan does not grow with files times delete files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use datafusion::common::stats::Precision;
use datafusion::scalar::ScalarValue;
use tarn_scan::{DeleteFile, Deletes, DeletionVector, EqualityDeletes, EqualityKey, FileTask};

use super::block::{FileBlock, FileEntry};
use super::containers::{Cell, ColumnArrays};
use super::deletes::{DeleteBlock, DeleteEntry, DeleteKind};
use super::partition_key::PartitionKey;
use super::{FilePlan, Source};
use crate::error::{Error, Result};

/// Gives the files of a plan their deletes, and takes out those of which no row is left.
pub(super) fn assign(plan: &mut FilePlan, source: &Source<'_>, deletes: &[Arc<DeleteBlock>]) -> Result<()> {
    let mut index = Index::new(deletes);
    if index.is_empty() {
        return Ok(());
    }
    let blocks = Arc::clone(&plan.blocks);
    let mut groups_of = Vec::with_capacity(plan.files.len());
    for (file, (block, at)) in plan.files.iter_mut().zip(&plan.places) {
        let data = DataFile::new(&blocks[*block as usize], *at as usize);
        let path = &file.task.uri;
        let vector = index.vector(&data, path, source)?;
        let positions = match &vector {
            Some(_) => Vec::new(),
            None => index.positions(&data, path, source)?,
        };
        groups_of.push(index.equality(&data));
        if vector.is_some() || !positions.is_empty() {
            let deletes = &mut Arc::make_mut(&mut file.task).deletes;
            (deletes.vector, deletes.positions) = (vector, positions);
        }
    }
    let lists = index.lists(source)?;
    for (file, groups) in plan.files.iter_mut().zip(groups_of).filter(|(_, groups)| !groups.is_empty()) {
        let lists = groups.iter().filter_map(|group| lists[*group].clone()).collect();
        Arc::make_mut(&mut file.task).deletes.equality = lists;
    }
    settle(plan);
    Ok(())
}

/// Drops files that are deleted whole, and makes the statistics say what is true of the rest.
fn settle(plan: &mut FilePlan) {
    let alive: Vec<bool> = plan.files.iter().map(|file| !is_deleted_whole(&file.task)).collect();
    let mut flags = alive.iter();
    plan.files.retain(|_| flags.next().copied().unwrap_or(true));
    let mut flags = alive.iter();
    plan.places.retain(|_| flags.next().copied().unwrap_or(true));
    if alive.iter().all(|alive| *alive) && plan.files.iter().all(|file| file.task.deletes.is_empty()) {
        return;
    }
    plan.bytes_planned = plan.files.iter().map(|file| file.task.size_bytes).sum();
    plan.rows_planned = plan.files.iter().map(|file| rows_after_vector(&file.task)).sum();
    let only_vectors = plan.files.iter().all(|file| is_counted(&file.task.deletes));
    plan.statistics = std::mem::take(&mut plan.statistics).to_inexact();
    plan.statistics.num_rows = match only_vectors {
        true => Precision::Exact(plan.rows_planned as usize),
        false => Precision::Inexact(plan.rows_planned as usize),
    };
    plan.statistics.total_byte_size = Precision::Inexact(plan.bytes_planned as usize);
    for file in plan.files.iter_mut().filter(|file| !file.task.deletes.is_empty()) {
        if let Some(statistics) = file.statistics.as_mut() {
            // Bounds hold for the rows that are left, but these may not reach them; of counts there are at most so many.
            let known = Arc::make_mut(statistics);
            *known = std::mem::take(known).to_inexact();
        }
    }
}

/// Rows that are certainly left of a file.
pub(super) fn rows_left_min(task: &FileTask) -> u64 {
    if is_counted(&task.deletes) { rows_after_vector(task) } else { 0 }
}

/// Whether the manifest says how many rows are deleted.
fn is_counted(deletes: &Deletes) -> bool {
    deletes.positions.is_empty() && deletes.equality.is_empty()
}

fn rows_after_vector(task: &FileTask) -> u64 {
    let deleted = task.deletes.vector.as_ref().map_or(0, |vector| vector.cardinality);
    task.record_count.saturating_sub(deleted)
}

fn is_deleted_whole(task: &FileTask) -> bool {
    task.deletes.vector.as_ref().is_some_and(|vector| vector.cardinality >= task.record_count)
}

/// A data file to find the deletes of.
struct DataFile<'a> {
    block: &'a FileBlock,
    entry: &'a FileEntry,
    at: usize,
    partition: Scope<'a>,
}

/// The files that a partitioned delete is about.
type Scope<'a> = (i32, &'a PartitionKey);

impl<'a> DataFile<'a> {
    fn new(block: &'a FileBlock, at: usize) -> Self {
        let entry = &block.files[at];
        Self { block, entry, at, partition: (block.spec_id, &block.partitions[entry.partition as usize]) }
    }
}

/// Delete files by how data files find them.
#[derive(Default)]
struct Index<'a> {
    vectors: HashMap<&'a str, Vec<Vector<'a>>>,
    /// By the data file that is named.
    positions_by_file: HashMap<&'a str, Vec<&'a DeleteEntry>>,
    /// By a prefix of the only data file in it, by the prefix's length: the bounds of its paths agree, and may be cut.
    positions_by_prefix: BTreeMap<usize, HashMap<&'a str, Vec<&'a DeleteEntry>>>,
    positions_by_partition: HashMap<Scope<'a>, Vec<&'a DeleteEntry>>,
    groups: Vec<Group<'a>>,
    groups_global: HashMap<&'a [i32], usize>,
    groups_by_partition: HashMap<Scope<'a>, Vec<usize>>,
    files: HashMap<&'a str, Arc<DeleteFile>>,
}

struct Vector<'a> {
    entry: &'a DeleteEntry,
    offset: u64,
    size_bytes: u64,
}

/// Equality deletes of one scope by the same columns.
struct Group<'a> {
    field_ids: &'a [i32],
    files: Vec<(&'a DeleteEntry, &'a [Cell])>,
    /// By file: whether a planned data file needs it.
    needed: Vec<bool>,
}

impl<'a> Index<'a> {
    fn new(blocks: &'a [Arc<DeleteBlock>]) -> Self {
        let mut index = Self::default();
        for block in blocks {
            for entry in block.files.iter().filter(|entry| entry.record_count > 0) {
                index.add(block, entry);
            }
        }
        index
    }

    fn is_empty(&self) -> bool {
        self.vectors.is_empty()
            && self.positions_by_file.is_empty()
            && self.positions_by_prefix.is_empty()
            && self.positions_by_partition.is_empty()
            && self.groups.is_empty()
    }

    fn add(&mut self, block: &'a DeleteBlock, entry: &'a DeleteEntry) {
        let scope = (block.spec_id, &entry.partition);
        match &entry.kind {
            DeleteKind::Vector { data_file, offset, size_bytes } => {
                let vector = Vector { entry, offset: *offset, size_bytes: *size_bytes };
                self.vectors.entry(data_file).or_default().push(vector);
            }
            DeleteKind::Positions { data_file: Some(data_file), .. } => {
                self.positions_by_file.entry(data_file).or_default().push(entry);
            }
            DeleteKind::Positions { lower: Some(lower), upper: Some(upper), .. } if lower == upper => {
                let same_length = self.positions_by_prefix.entry(lower.len()).or_default();
                same_length.entry(lower).or_default().push(entry);
            }
            DeleteKind::Positions { .. } => {
                self.positions_by_partition.entry(scope).or_default().push(entry);
            }
            DeleteKind::Equality { field_ids, cells } => {
                let groups = &mut self.groups;
                let new = |groups: &mut Vec<Group<'a>>| {
                    groups.push(Group { field_ids, files: Vec::new(), needed: Vec::new() });
                    groups.len() - 1
                };
                let group = if block.unpartitioned {
                    *self.groups_global.entry(field_ids).or_insert_with(|| new(groups))
                } else {
                    let there = self.groups_by_partition.entry(scope).or_default();
                    match there.iter().find(|group| *groups[**group].field_ids == **field_ids) {
                        Some(group) => *group,
                        None => {
                            there.push(new(groups));
                            groups.len() - 1
                        }
                    }
                };
                self.groups[group].files.push((entry, cells));
                self.groups[group].needed.push(false);
            }
        }
    }

    /// The deletion vector of a data file. There may be but one.
    fn vector(&self, data: &DataFile<'_>, path: &str, source: &Source<'_>) -> Result<Option<DeletionVector>> {
        let vectors = self.vectors.get(path).into_iter().flatten();
        let mut vectors = vectors.filter(|vector| vector.entry.sequence_number >= data.entry.sequence_number);
        let Some(vector) = vectors.next() else {
            return Ok(None);
        };
        readable(vector.entry, source)?;
        if vectors.next().is_some() {
            return Err(Error::Corrupt {
                table: source.table.clone(),
                file: vector.entry.path.to_string(),
                reason: format!("data file {:?} has more than one deletion vector", path),
            });
        }
        Ok(Some(DeletionVector {
            uri: vector.entry.path.to_string(),
            offset: vector.offset,
            size_bytes: vector.size_bytes,
            cardinality: vector.entry.record_count,
        }))
    }

    /// The position delete files that may be about a data file.
    fn positions(
        &mut self,
        data: &DataFile<'a>,
        path: &str,
        source: &Source<'_>,
    ) -> Result<Vec<Arc<DeleteFile>>> {
        let named = self.positions_by_file.get(path).into_iter().flatten();
        let prefixed = self
            .positions_by_prefix
            .range(..=path.len())
            .filter_map(|(length, prefixes)| prefixes.get(path.get(..*length)?));
        let partition = self.positions_by_partition.get(&data.partition).into_iter().flatten();
        let may_be_in = |entry: &&&DeleteEntry| match &entry.kind {
            DeleteKind::Positions { lower, upper, .. } => {
                let above = lower.as_ref().is_none_or(|lower| path >= &**lower);
                let below = upper.as_ref().is_none_or(|upper| path <= &**upper || path.starts_with(&**upper));
                above && below
            }
            _ => false,
        };
        let found = named.chain(prefixed.flatten()).chain(partition.filter(may_be_in));
        let found: Vec<&DeleteEntry> =
            found.filter(|entry| entry.sequence_number >= data.entry.sequence_number).copied().collect();
        found.into_iter().map(|entry| self.file(entry, source)).collect()
    }

    /// The groups of equality deletes of which some may be about a data file.
    fn equality(&mut self, data: &DataFile<'_>) -> Vec<usize> {
        let partition = self.groups_by_partition.get(&data.partition).into_iter().flatten();
        let mut found = Vec::new();
        for group in self.groups_global.values().chain(partition) {
            let Group { field_ids, files, needed } = &mut self.groups[*group];
            let mut any = false;
            for ((entry, cells), needed) in files.iter().zip(needed) {
                let newer = entry.sequence_number > data.entry.sequence_number;
                // What is needed already costs a further file nothing.
                if newer && (*needed && any || may_match(field_ids, cells, data)) {
                    (any, *needed) = (true, true);
                }
            }
            if any {
                found.push(*group);
            }
        }
        found.sort_unstable();
        found
    }

    /// The list of each group that any planned file needs.
    fn lists(&mut self, source: &Source<'_>) -> Result<Vec<Option<Arc<EqualityDeletes>>>> {
        let groups = std::mem::take(&mut self.groups);
        let list = |group: &Group<'a>| {
            let needed = group.files.iter().zip(&group.needed).filter(|(_, needed)| **needed);
            let files = needed.map(|((entry, _), _)| self.file(entry, source)).collect::<Result<Vec<_>>>()?;
            if files.is_empty() {
                return Ok(None);
            }
            let keys = group.field_ids.iter().map(|id| key(*id, source)).collect::<Result<_>>()?;
            Ok(Some(Arc::new(EqualityDeletes { keys, files })))
        };
        groups.iter().map(list).collect()
    }

    fn file(&mut self, entry: &'a DeleteEntry, source: &Source<'_>) -> Result<Arc<DeleteFile>> {
        readable(entry, source)?;
        let new = || {
            Arc::new(DeleteFile {
                uri: entry.path.to_string(),
                format: entry.format,
                size_bytes: entry.size_bytes,
                record_count: entry.record_count,
                data_sequence_number: entry.sequence_number,
            })
        };
        Ok(Arc::clone(self.files.entry(&entry.path).or_insert_with(new)))
    }
}

/// Fails for a delete file that cannot be read. Asked of those only that are about a planned file.
fn readable(entry: &DeleteEntry, source: &Source<'_>) -> Result<()> {
    match entry.unsupported {
        Some(feature) => Err(source.refuse(feature, &entry.path)),
        None => Ok(()),
    }
}

/// The column that a field id of equality deletes stands for, in the newest schema that has it.
fn key(id: i32, source: &Source<'_>) -> Result<EqualityKey> {
    let schema = source.metadata.schema_id_with_field(id).ok_or_else(|| Error::Corrupt {
        table: source.table.clone(),
        file: source.snapshot.map(|snapshot| snapshot.manifest_list.clone()).unwrap_or_default(),
        reason: format!("an equality delete file compares field {id}, which no schema has"),
    })?;
    let schema = source.metadata.schema(schema, source.table)?;
    let path_to =
        |field: &Arc<arrow::datatypes::Field>| path_in(field, id).map(|path| (Arc::clone(field), path));
    let (field, path) =
        schema.arrow.fields().iter().find_map(path_to).ok_or_else(|| Error::NotSupported {
            table: source.table.clone(),
            feature: format!(
                "an equality delete file that compares field {id}, which is inside a list or a map"
            ),
        })?;
    Ok(EqualityKey { field, path })
}

/// The ids that lead from a column to a field through structs.
fn path_in(field: &arrow::datatypes::Field, id: i32) -> Option<Vec<i32>> {
    if tarn_scan::field_id(field) == Some(id) {
        return Some(Vec::new());
    }
    let arrow::datatypes::DataType::Struct(fields) = field.data_type() else {
        return None;
    };
    fields.iter().find_map(|child| {
        let mut path = vec![tarn_scan::field_id(child)?];
        path.extend(path_in(child, id)?);
        Some(path)
    })
}

/// Whether a key among deletes, of which `cells` is known, may be that of a row of the data file.
fn may_match(field_ids: &[i32], cells: &[Cell], data: &DataFile<'_>) -> bool {
    let may = |(id, cell): (&i32, &Cell)| match data.block.containers.columns.get(id) {
        Some(column) => may_be_equal(cell, column, data.at),
        None => true,
    };
    field_ids.iter().zip(cells).all(may)
}

fn may_be_equal(deleted: &Cell, column: &ColumnArrays, at: usize) -> bool {
    let no_null = column.null_count.is_valid(at) && column.null_count.value(at) == 0;
    if !no_null && deleted.null_count != Some(0) {
        return true;
    }
    let bound = |array: &Option<ArrayRef>| {
        let array = array.as_ref().filter(|array| array.is_valid(at))?;
        ScalarValue::try_from_array(array, at).ok()
    };
    let below = |lesser: Option<&ScalarValue>, greater: Option<&ScalarValue>| match (lesser, greater) {
        (Some(lesser), Some(greater)) if lesser.data_type() == greater.data_type() => lesser < greater,
        _ => false,
    };
    let (min, max) = (bound(&column.min), bound(&column.max));
    !below(deleted.max.as_ref(), min.as_ref()) && !below(max.as_ref(), deleted.min.as_ref())
}

#[cfg(test)]
mod tests;
