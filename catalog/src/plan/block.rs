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
use super::paths::{Paths, PathsBuilder};
use super::values::Values;
use crate::error::Result;
#[cfg(test)]
use crate::iceberg::Manifest;
use crate::iceberg::{
    ColumnBounds, DataFile, FileFormat, ManifestFile, ManifestHead, Metadata, PartitionField,
    PartitionSummary, read_manifest,
};
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

/// The live files of a manifest, columnar: no file has an allocation of its own.
#[derive(Debug)]
pub(crate) struct FileBlock {
    pub(super) spec_id: i32,
    pub(super) files: Box<[FileEntry]>,
    pub(super) paths: Paths,
    split_offsets: Offsets,
    /// Bytes of all files.
    pub(super) size_bytes: u64,
    /// Columns that the files are partitioned by as they are: field id, and the value in each file.
    pub(super) constants: Vec<(i32, ArrayRef)>,
    pub(super) containers: Containers,
    /// The partitions that the files are in, each once.
    pub(super) partitions: Box<[PartitionKey]>,
    /// The same as values, and the fields of the spec that these are of.
    tuples: Box<[Box<[Option<ScalarValue>]>]>,
    partition_fields: Box<[i32]>,
    /// Files that cannot be read, by their place, and why; few if any.
    unsupported: Vec<(usize, &'static str)>,
}

/// The numbers of one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileEntry {
    pub(super) format: tarn_scan::FileFormat,
    pub(super) size_bytes: u64,
    pub(super) record_count: u64,
    pub(super) sequence_number: i64,
    pub(super) first_row_id: Option<i64>,
    /// Which of the block's partitions it is in.
    pub(super) partition: u32,
}

/// Where the row groups of files begin, one file after the other.
#[derive(Debug, Default)]
struct Offsets {
    offsets: Box<[i64]>,
    ends: Box<[usize]>,
}

impl FileBlock {
    /// Of a manifest's bytes, given its line in the list.
    pub(crate) fn read(bytes: &[u8], line: &ManifestFile, table: &TableName) -> Result<Self> {
        let builder = read_manifest(bytes, line, table, FileBlockBuilder::new, FileBlockBuilder::add)?;
        Ok(builder.finish())
    }

    /// Of files that are at hand.
    #[cfg(test)]
    pub(crate) fn new(manifest: Manifest, table: &TableName, file: &str) -> Result<Self> {
        let corrupt = |reason: String| crate::error::Error::Corrupt {
            table: table.clone(),
            file: file.to_owned(),
            reason,
        };
        let mut builder = FileBlockBuilder::new(manifest.head).map_err(corrupt)?;
        for file in manifest.files {
            builder.add(file).map_err(corrupt)?;
        }
        Ok(builder.finish())
    }

    /// The first of the kept files that cannot be read, and why.
    pub(super) fn unsupported(&self, kept: &[bool]) -> Option<(String, &'static str)> {
        let (index, feature) = self.unsupported.iter().find(|(index, _)| kept[*index])?;
        Some((self.paths.get(*index), feature))
    }

    /// Where the row groups of the file at `index` begin; empty if that is not known.
    pub(super) fn split_offsets(&self, index: usize) -> &[i64] {
        let Offsets { offsets, ends } = &self.split_offsets;
        let start = index.checked_sub(1).map_or(0, |before| ends[before]);
        &offsets[start..ends[index]]
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
        let constants = self.constants.iter().map(|(_, values)| values.get_array_memory_size());
        let value =
            |value: &Option<ScalarValue>| value.as_ref().map_or(size_of_val(value), ScalarValue::size);
        let tuple = |tuple: &[Option<ScalarValue>]| {
            size_of::<Box<[Option<ScalarValue>]>>() + tuple.iter().map(value).sum::<usize>()
        };
        size_of::<Self>()
            + size_of_val(&*self.files)
            + self.paths.heap_bytes()
            + size_of_val(&*self.split_offsets.offsets)
            + size_of_val(&*self.split_offsets.ends)
            + constants.sum::<usize>()
            + self.partitions.iter().map(|key| size_of::<PartitionKey>() + key.heap_bytes()).sum::<usize>()
            + self.tuples.iter().map(|values| tuple(values)).sum::<usize>()
            + self.containers.heap_bytes()
    }
}

/// The format as a scan has it. Of a file that is not supported, which no scan sees, it does not matter.
pub(super) fn scan_format(format: FileFormat) -> tarn_scan::FileFormat {
    match format {
        FileFormat::Avro => tarn_scan::FileFormat::Avro,
        FileFormat::Parquet | FileFormat::Orc | FileFormat::Puffin => tarn_scan::FileFormat::Parquet,
    }
}

/// Takes in the files of a manifest one by one.
struct FileBlockBuilder {
    head: ManifestHead,
    files: Vec<FileEntry>,
    paths: PathsBuilder,
    offsets: Vec<i64>,
    offset_ends: Vec<usize>,
    size_bytes: u64,
    /// By place in the partition tuple.
    constants: Vec<(usize, Values)>,
    containers: Builder,
    partitions: Partitions,
    tuples: Vec<Box<[Option<ScalarValue>]>>,
    unsupported: Vec<(usize, &'static str)>,
}

impl FileBlockBuilder {
    fn new(head: ManifestHead) -> Result<Self, String> {
        let fields = head.spec.fields.iter().enumerate();
        let identity = fields.filter(|(_, field)| field.transform == Some(Transform::Identity));
        let constant = |(index, field): (usize, &PartitionField)| match &head.partition_types[index] {
            Some(data_type) => Ok((index, Values::new(data_type))),
            None => Err(format!("partition field {:?} has a type that cannot be read", field.name)),
        };
        let constants = identity.map(constant).collect::<Result<_, _>>()?;
        Ok(Self {
            head,
            files: Vec::new(),
            paths: PathsBuilder::default(),
            offsets: Vec::new(),
            offset_ends: Vec::new(),
            size_bytes: 0,
            constants,
            containers: Builder::default(),
            partitions: Partitions::default(),
            tuples: Vec::new(),
            unsupported: Vec::new(),
        })
    }

    fn add(&mut self, file: DataFile) -> Result<(), String> {
        add_file(&mut self.containers, &file, &self.head);
        for (place, values) in &mut self.constants {
            let known = file.partition[*place].as_ref().is_none_or(|value| values.push(value));
            if !known {
                let name = &self.head.spec.fields[*place].name;
                return Err(format!("the value of partition field {name:?} is not of its type"));
            }
            values.pad(self.files.len() + 1);
        }
        self.unsupported.extend(file.unsupported.map(|feature| (self.files.len(), feature)));
        self.paths.push(&file.path);
        self.offsets.extend_from_slice(&file.split_offsets);
        self.offset_ends.push(self.offsets.len());
        self.size_bytes = self.size_bytes.saturating_add(file.size_bytes);
        let partition = self.partitions.index_of(&file.partition);
        if partition as usize == self.tuples.len() {
            self.tuples.push(file.partition.into_boxed_slice());
        }
        self.files.push(FileEntry {
            format: scan_format(file.format),
            size_bytes: file.size_bytes,
            record_count: file.record_count,
            sequence_number: file.sequence_number,
            first_row_id: file.first_row_id,
            partition,
        });
        Ok(())
    }

    fn finish(self) -> FileBlock {
        let fields = &self.head.spec.fields;
        let constants =
            self.constants.into_iter().map(|(place, values)| (fields[place].source_id, values.finish()));
        FileBlock {
            spec_id: self.head.spec.id,
            files: self.files.into_boxed_slice(),
            paths: self.paths.finish(),
            split_offsets: Offsets {
                offsets: self.offsets.into_boxed_slice(),
                ends: self.offset_ends.into_boxed_slice(),
            },
            size_bytes: self.size_bytes,
            constants: constants.collect(),
            containers: self.containers.finish(),
            partitions: self.partitions.keys.into_boxed_slice(),
            tuples: self.tuples.into_boxed_slice(),
            partition_fields: fields.iter().map(|field| field.field_id).collect(),
            unsupported: self.unsupported,
        }
    }
}

fn add_file(builder: &mut Builder, file: &DataFile, head: &ManifestHead) {
    builder.start(Some(file.record_count));
    for (id, bounds) in &file.columns {
        if let Some(data_type) = head.column_types.get(id) {
            *builder.cell(*id, data_type) = column_cell(bounds, data_type, file.record_count);
        }
    }
    for (field, value) in head.spec.fields.iter().zip(&file.partition) {
        let (Some(transform), Some(source)) = (field.transform, head.column_types.get(&field.source_id))
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
    if rows == 0 {
        return Cell::of_no_rows();
    }
    let null_count = bounds.null_count.filter(|nulls| *nulls <= rows);
    if null_count == Some(rows) {
        return Cell { null_count, ..Cell::default() };
    }
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
    let is_garbage = min.as_ref().zip(max.as_ref()).is_some_and(|(min, max)| min > max);
    if is_garbage || are_of_milliseconds(&[&min, &max]) {
        return Cell { null_count, ..Cell::default() };
    }
    let attained = min.is_some() && max.is_some() && is_whole(data_type);
    Cell { min, max, null_count, attained }
}

/// Microseconds as which milliseconds until the year 2100 are taken: seven weeks. And until 9999, which stands for
/// "never": eight years.
const MILLISECONDS_MAX: u64 = 4_102_444_800_000;
const NEVER_MAX: u64 = 253_402_300_799_999;

/// Whether bounds of timestamps may be milliseconds. Some writers note those of imported files as they stand in the
/// file, and that a file's rows begin or end in the weeks around New Year 1970, and the others are not of today, is less
/// likely.
fn are_of_milliseconds(bounds: &[&Option<ScalarValue>]) -> bool {
    let micros = |bound: &ScalarValue| match bound {
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Some(micros.unsigned_abs()),
        _ => None,
    };
    let known: Vec<u64> = bounds.iter().filter_map(|bound| bound.as_ref().and_then(micros)).collect();
    known.iter().any(|micros| *micros <= MILLISECONDS_MAX) && known.iter().all(|micros| *micros <= NEVER_MAX)
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
        // It tells where the file stands, and of no row.
        _ if rows == 0 => *cell = Cell::of_no_rows(),
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
