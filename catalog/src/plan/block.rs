//! Manifest lists and manifests as planning wants them: columnar, and kept in the cache.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Fields};
use datafusion::common::scalar::ScalarStructBuilder;
use datafusion::scalar::ScalarValue;
use tarn_scan::field_id;
use tarn_scan::write::Transform;

use super::containers::{Builder, Cell, Containers};
use super::interval::{Interval, lower_bound, upper_bound};
use super::partition_key::{PartitionKey, Partitions};
use crate::error::{Error, Result};
use crate::iceberg::{ColumnBounds, DataFile, Manifest, ManifestFile, Metadata, PartitionSummary};
use crate::name::TableName;

/// The manifests of a snapshot.
#[derive(Debug)]
pub(crate) struct ManifestBlock {
    pub(crate) files: Vec<ManifestFile>,
    pub(super) containers: Containers,
}

impl ManifestBlock {
    pub(crate) fn new(files: Vec<ManifestFile>, metadata: &Metadata) -> Self {
        let mut builder = Builder::default();
        for file in &files {
            add_line(&mut builder, file, |source_id| metadata.top_level_type(source_id));
        }
        Self { containers: builder.finish(), files }
    }

    /// Of a snapshot that names its manifests and says nothing about them, as some of version 1 do.
    pub(crate) fn of_paths(paths: &[String], metadata: &Metadata) -> Self {
        let line = |path: &String| ManifestFile { path: path.clone(), ..ManifestFile::default() };
        Self::new(paths.iter().map(line).collect(), metadata)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let file = |file: &ManifestFile| {
            size_of::<ManifestFile>()
                + file.path.len()
                + file.partitions.len() * size_of::<PartitionSummary>()
        };
        size_of::<Self>() + self.files.iter().map(file).sum::<usize>() + self.containers.heap_bytes()
    }
}

/// Adds one manifest, given the types of columns.
pub(super) fn add_line(
    builder: &mut Builder,
    file: &ManifestFile,
    type_of: impl Fn(i32) -> Option<DataType>,
) {
    builder.start(file.live_rows);
    for summary in &file.partitions {
        if let Some(source) = type_of(summary.source_id) {
            add_summary(builder.cell(summary.source_id, &source), summary, &source);
        }
    }
}

fn add_summary(cell: &mut Cell, summary: &PartitionSummary, source: &DataType) {
    if summary.transform == Transform::Void {
        return;
    }
    if !summary.contains_null {
        cell.null_count = Some(0);
    }
    // Not a number would lie outside of the bounds.
    if is_float(source) && summary.may_contain_nan {
        return;
    }
    let (lower, upper) = (summary.lower.as_ref(), summary.upper.as_ref());
    let interval = Interval::between(summary.transform, lower, upper, source);
    cell.narrow(interval.min, interval.max);
}

/// The live files of a manifest.
#[derive(Debug)]
pub(crate) struct FileBlock {
    pub(super) spec_id: i32,
    pub(super) files: Vec<FileEntry>,
    /// Columns that the files are partitioned by as they are: field id, and the value in each file.
    pub(super) constants: Vec<(i32, ArrayRef)>,
    pub(super) containers: Containers,
    /// The partitions that the files are in, each once.
    pub(super) partitions: Vec<PartitionKey>,
    /// The same as values, and the fields of the spec that these are of.
    tuples: Vec<Box<[Option<ScalarValue>]>>,
    partition_fields: Box<[i32]>,
    /// Why some file cannot be read, if one cannot.
    pub(super) unsupported: Option<&'static str>,
}

/// One file.
#[derive(Debug)]
pub(super) struct FileEntry {
    pub(super) path: Box<str>,
    pub(super) size_bytes: u64,
    pub(super) record_count: u64,
    pub(super) sequence_number: i64,
    pub(super) first_row_id: Option<i64>,
    pub(super) split_offsets: Box<[i64]>,
    /// Which of the block's partitions it is in.
    pub(super) partition: u32,
}

impl FileBlock {
    pub(crate) fn new(manifest: Manifest, table: &TableName, file: &str) -> Result<Self> {
        let unsupported = manifest.files.iter().find_map(|file| file.unsupported);
        let corrupt = |reason: String| Error::Corrupt { table: table.clone(), file: file.to_owned(), reason };
        let constants = constants(&manifest).map_err(corrupt)?;
        let mut builder = Builder::default();
        for file in &manifest.files {
            add_file(&mut builder, file, &manifest);
        }
        let containers = builder.finish();
        let mut partitions = Partitions::default();
        let mut tuples = Vec::new();
        let mut index_of = |partition: Vec<Option<ScalarValue>>| {
            let index = partitions.index_of(&partition);
            if index as usize == tuples.len() {
                tuples.push(partition.into_boxed_slice());
            }
            index
        };
        let files = manifest.files.into_iter().map(|file| FileEntry {
            partition: index_of(file.partition),
            path: file.path.into_boxed_str(),
            size_bytes: file.size_bytes,
            record_count: file.record_count,
            sequence_number: file.sequence_number,
            first_row_id: file.first_row_id,
            split_offsets: file.split_offsets.into_boxed_slice(),
        });
        let files = files.collect();
        let (spec_id, partitions) = (manifest.spec.id, partitions.keys);
        let partition_fields = manifest.spec.fields.iter().map(|field| field.field_id).collect();
        Ok(Self { spec_id, files, constants, containers, partitions, tuples, partition_fields, unsupported })
    }

    /// The partition of the file at `index` as a struct of these fields, which are known by their ids: NULL where the
    /// file's spec has no such field.
    pub(super) fn partition(&self, index: usize, fields: &Fields) -> Option<ScalarValue> {
        let tuple = self.tuples.get(self.files.get(index)?.partition as usize)?;
        let mut partition = ScalarStructBuilder::new();
        for field in fields {
            let place = self.partition_fields.iter().position(|id| field_id(field) == Some(*id));
            let value = match place.and_then(|place| tuple.get(place)?.as_ref()) {
                Some(value) => value.cast_to(field.data_type()).ok()?,
                None => ScalarValue::try_new_null(field.data_type()).ok()?,
            };
            partition = partition.with_scalar(Arc::clone(field), value);
        }
        partition.build().ok()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let file =
            |file: &FileEntry| size_of::<FileEntry>() + file.path.len() + size_of_val(&*file.split_offsets);
        let constants = self.constants.iter().map(|(_, values)| values.get_array_memory_size());
        size_of::<Self>()
            + self.files.iter().map(file).sum::<usize>()
            + constants.sum::<usize>()
            + self.partitions.iter().map(|key| size_of::<PartitionKey>() + key.heap_bytes()).sum::<usize>()
            + self.tuples.iter().map(|tuple| size_of_val(&**tuple)).sum::<usize>()
            + self.containers.heap_bytes()
    }
}

fn constants(manifest: &Manifest) -> Result<Vec<(i32, ArrayRef)>, String> {
    let fields = manifest.spec.fields.iter().enumerate();
    let identity = fields.filter(|(_, field)| field.transform == Some(Transform::Identity));
    let mut constants = Vec::new();
    for (index, field) in identity {
        let Some(data_type) = &manifest.partition_types[index] else {
            return Err(format!("partition field {:?} has a type that cannot be read", field.name));
        };
        let null = ScalarValue::try_new_null(data_type).map_err(|e| e.to_string())?;
        let value = |file: &DataFile| file.partition[index].clone().unwrap_or_else(|| null.clone());
        if manifest.files.is_empty() {
            continue;
        }
        let values =
            ScalarValue::iter_to_array(manifest.files.iter().map(value)).map_err(|e| e.to_string())?;
        constants.push((field.source_id, values));
    }
    Ok(constants)
}

fn add_file(builder: &mut Builder, file: &DataFile, manifest: &Manifest) {
    builder.start(Some(file.record_count));
    for (id, bounds) in &file.columns {
        if let Some(data_type) = manifest.column_types.get(id) {
            *builder.cell(*id, data_type) = column_cell(bounds, data_type, file.record_count);
        }
    }
    for (field, value) in manifest.spec.fields.iter().zip(&file.partition) {
        let (Some(transform), Some(source)) = (field.transform, manifest.column_types.get(&field.source_id))
        else {
            continue;
        };
        if let (Transform::Bucket(count), Some(ScalarValue::Int32(Some(bucket)))) = (transform, value) {
            builder.bucket(field.source_id, count, *bucket);
        }
        add_partition(
            builder.cell(field.source_id, source),
            transform,
            value.as_ref(),
            source,
            file.record_count,
        );
    }
}

pub(super) fn column_cell(bounds: &ColumnBounds, data_type: &DataType, rows: u64) -> Cell {
    let null_count = bounds.null_count.filter(|nulls| *nulls <= rows);
    // A file may hold NaN beside its bounds, and NaN is above every number: only a count of none makes them bounds.
    // Other writers have compared UUIDs as signed numbers.
    let usable = match data_type {
        DataType::Float32 | DataType::Float64 => bounds.nan_count == Some(0),
        DataType::FixedSizeBinary(_) => false,
        _ => true,
    };
    if !usable {
        return Cell { null_count, ..Cell::default() };
    }
    let (min, max) = (bounds.lower.clone().and_then(lower_bound), bounds.upper.clone().and_then(upper_bound));
    // A lower bound above the upper one tells that one of them is garbage, and not which.
    if min.as_ref().zip(max.as_ref()).is_some_and(|(min, max)| min > max) {
        return Cell { null_count, ..Cell::default() };
    }
    let attained = min.is_some() && max.is_some() && is_whole(data_type);
    Cell { min, max, null_count, attained }
}

/// Whether bounds of this type are written as they are: text and bytes are cut, floats have NaN and two zeros.
fn is_whole(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..)
            | DataType::Decimal128(..)
    )
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// What a partition value says. Every transform but one maps NULL, and only NULL, to NULL.
fn add_partition(
    cell: &mut Cell,
    transform: Transform,
    value: Option<&ScalarValue>,
    source: &DataType,
    rows: u64,
) {
    match (transform, value) {
        (Transform::Void, _) => {}
        (_, None) => *cell = Cell { null_count: Some(rows), ..Cell::default() },
        (Transform::Identity, Some(value)) => {
            let Interval { min, max } = Interval::of(transform, value, source);
            *cell = Cell { min, max, null_count: Some(0), attained: !is_float(source) };
        }
        (_, Some(value)) => {
            let Interval { min, max } = Interval::of(transform, value, source);
            cell.null_count = Some(0);
            cell.narrow(min, max);
        }
    }
}
