//! Manifest lists and manifests, decoded into our own types.
//!
//! What is in them decides which rows a query sees, so everything that this
//! crate does not understand is an error here or a mark on the file that makes
//! planning refuse it. Only what merely helps to prune may be left out.

use std::collections::HashMap;

use ::iceberg::spec::{
    DataContentType, DataFileFormat, Datum, FieldSummary, FormatVersion, Literal, Manifest as SpecManifest,
    ManifestContentType, ManifestEntry, ManifestFile as SpecManifestFile, ManifestList, ManifestStatus,
    PrimitiveType, Type,
};
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::metadata::{Metadata, PartitionSpec};
use super::schema::primitive_type;
use super::value::{scalar, scalar_of};
use super::{guarded, metadata};
use crate::error::{Error, Result};
use crate::name::TableName;

/// Field id of the column of a position delete file that names the data file.
pub(crate) const DELETE_FILE_PATH_ID: i32 = 2_147_483_546;

/// One line of a manifest list.
#[derive(Clone, Debug)]
pub(crate) struct ManifestFile {
    /// URI of the manifest.
    pub(crate) path: String,
    /// Whether it lists delete files.
    pub(crate) deletes: bool,
    /// The partition spec of its files.
    #[allow(dead_code, reason = "metadata tables show it")]
    pub(crate) spec_id: i32,
    /// Sequence number of the commit that added it.
    pub(crate) sequence_number: i64,
    /// Where the row ids of its data files begin, for those that have none written down.
    pub(crate) first_row_id: Option<i64>,
    /// Files in it that are alive; `None` if that is not said.
    pub(crate) live_files: Option<u64>,
    /// Their rows; `None` if that is not said.
    pub(crate) live_rows: Option<u64>,
    /// Whether it is encrypted.
    pub(crate) encrypted: bool,
    /// What is said about each field of its partition spec; empty if nothing is.
    pub(crate) partitions: Vec<PartitionSummary>,
}

/// What a manifest list says about one partition field of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct PartitionSummary {
    /// The column that the field is derived from.
    pub(crate) source_id: i32,
    /// How.
    pub(crate) transform: tarn_scan::write::Transform,
    /// Whether a file has NULL there.
    pub(crate) contains_null: bool,
    /// Whether a file may have NaN there.
    pub(crate) may_contain_nan: bool,
    /// At most every value that is not NULL.
    pub(crate) lower: Option<ScalarValue>,
    /// At least every value that is not NULL.
    pub(crate) upper: Option<ScalarValue>,
}

/// A manifest: the files in it that are alive.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The partition spec of its files, as the manifest itself has it.
    pub(crate) spec: PartitionSpec,
    /// Types of the partition fields; `None` for one that cannot be read.
    pub(crate) partition_types: Vec<Option<DataType>>,
    /// Types of the top-level columns that are not nested, by field id, as they were when it was written.
    pub(crate) column_types: HashMap<i32, DataType>,
    /// Its files.
    pub(crate) files: Vec<DataFile>,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Content {
    /// Rows.
    #[default]
    Data,
    /// Places of deleted rows: a file of pairs, or a deletion vector if its format is Puffin.
    PositionDeletes,
    /// Values of deleted rows.
    EqualityDeletes,
}

/// The formats of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FileFormat {
    #[default]
    Parquet,
    Avro,
    Orc,
    Puffin,
}

/// One line of a manifest: a data file, or a delete file.
#[derive(Clone, Debug, Default)]
pub(crate) struct DataFile {
    /// What is in it.
    pub(crate) content: Content,
    /// How that is written.
    pub(crate) format: FileFormat,
    /// URI of the file.
    pub(crate) path: String,
    /// Its length.
    pub(crate) size_bytes: u64,
    /// Its rows.
    pub(crate) record_count: u64,
    /// Data sequence number; 0 in tables of version 1.
    pub(crate) sequence_number: i64,
    /// What makes the file unreadable for us, if anything.
    pub(crate) unsupported: Option<&'static str>,
    /// The partition tuple; `None` is NULL.
    pub(crate) partition: Vec<Option<ScalarValue>>,
    /// Where its row groups begin.
    pub(crate) split_offsets: Vec<i64>,
    /// What is known about its columns, by field id, ascending.
    pub(crate) columns: Vec<(i32, ColumnBounds)>,
    /// Row id of its first row; `None` for files without row ids.
    pub(crate) first_row_id: Option<i64>,
    /// Sort order of its rows, if any is stated.
    #[allow(dead_code, reason = "metadata tables show it")]
    pub(crate) sort_order_id: Option<i32>,
    /// Field ids of the columns that an equality delete file compares.
    pub(crate) equality_ids: Vec<i32>,
    /// URI of the only data file that a position delete file is about.
    pub(crate) referenced_data_file: Option<String>,
    /// Where in the file a deletion vector begins.
    pub(crate) content_offset: Option<i64>,
    /// Its length there.
    pub(crate) content_size_bytes: Option<i64>,
}

/// What a manifest says about one column of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnBounds {
    /// At most every value that is neither NULL nor NaN.
    pub(crate) lower: Option<ScalarValue>,
    /// At least every value that is neither NULL nor NaN.
    pub(crate) upper: Option<ScalarValue>,
    /// NULLs.
    pub(crate) null_count: Option<u64>,
    /// NaNs.
    pub(crate) nan_count: Option<u64>,
}

/// The manifests of a snapshot.
pub(crate) fn decode_list(
    bytes: &[u8],
    metadata: &Metadata,
    table: &TableName,
    file: &str,
) -> Result<Vec<ManifestFile>> {
    let list = spec_list(bytes, metadata, table, file)?;
    let specs = metadata.partition_specs();
    let decode = |entry: &SpecManifestFile| {
        let spec = specs.iter().find(|spec| spec.id == entry.partition_spec_id);
        ManifestFile {
            path: entry.manifest_path.clone(),
            deletes: entry.content == ManifestContentType::Deletes,
            spec_id: entry.partition_spec_id,
            sequence_number: entry.sequence_number,
            first_row_id: entry.first_row_id.and_then(|id| i64::try_from(id).ok()),
            live_files: sum(
                entry.added_files_count.map(u64::from),
                entry.existing_files_count.map(u64::from),
            ),
            live_rows: sum(entry.added_rows_count, entry.existing_rows_count),
            encrypted: entry.key_metadata.is_some(),
            partitions: spec.map(|spec| summaries(entry, spec, metadata)).unwrap_or_default(),
        }
    };
    Ok(list.iter().map(decode).collect())
}

/// The manifests of a snapshot in the crate's own type, for the next snapshot's list.
pub(super) fn spec_list(
    bytes: &[u8],
    metadata: &Metadata,
    table: &TableName,
    file: &str,
) -> Result<Vec<SpecManifestFile>> {
    let parse = |version| guarded(|| ManifestList::parse_with_version(bytes, version));
    let version = metadata.spec().format_version();
    // A snapshot from before an upgrade has a list of the older version, which the parser of the newer one may
    // not take. Nothing but the newest may be tried first: an older parser drops what it does not know.
    let list = parse(version).or_else(|error| match version {
        FormatVersion::V1 => Err(error),
        _ if is_version_1_list(bytes) => parse(FormatVersion::V1).map_err(|_| error),
        FormatVersion::V2 => Err(error),
        FormatVersion::V3 => parse(FormatVersion::V2).map_err(|_| error),
    });
    let corrupt = |reason| Error::Corrupt { table: table.clone(), file: file.to_owned(), reason };
    Ok(list.map_err(corrupt)?.consume_entries().into_iter().collect())
}

/// Whether a list's own Avro schema has no `content`, which tells deletes from data: so only version 1 wrote it.
fn is_version_1_list(bytes: &[u8]) -> bool {
    let header = &bytes[..bytes.len().min(64 << 10)];
    let names = |name: &[u8]| header.windows(name.len()).any(|window| window == name);
    names(b"avro.schema") && names(b"\"manifest_path\"") && !names(b"\"content\"")
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a?.checked_add(b?)
}

fn summaries(entry: &SpecManifestFile, spec: &PartitionSpec, metadata: &Metadata) -> Vec<PartitionSummary> {
    let given = entry.partitions.as_deref().unwrap_or_default();
    if given.len() != spec.fields.len() {
        return Vec::new();
    }
    let summary = |(field, given): (&metadata::PartitionField, &FieldSummary)| {
        let transform = field.transform?;
        let bound = |bytes: &Option<::iceberg::spec::ByteBuf>| {
            let bytes = bytes.as_ref()?;
            let primitive = result_type(field, metadata)?;
            guarded(|| Datum::try_from_bytes(bytes, primitive)).ok().as_ref().and_then(scalar_of)
        };
        Some(PartitionSummary {
            source_id: field.source_id,
            transform,
            contains_null: given.contains_null,
            may_contain_nan: given.contains_nan.unwrap_or(true),
            lower: bound(&given.lower_bound),
            upper: bound(&given.upper_bound),
        })
    };
    spec.fields.iter().zip(given).filter_map(summary).collect()
}

/// The type of a partition field's values.
fn result_type(field: &metadata::PartitionField, metadata: &Metadata) -> Option<PrimitiveType> {
    use tarn_scan::write::Transform;
    match field.transform? {
        Transform::Identity | Transform::Truncate(_) => {
            let schema = metadata.schema_with_field(field.source_id)?;
            schema.field_by_id(field.source_id)?.field_type.as_primitive_type().cloned()
        }
        Transform::Bucket(_) | Transform::Year | Transform::Month | Transform::Hour => {
            Some(PrimitiveType::Int)
        }
        Transform::Day => Some(PrimitiveType::Date),
        Transform::Void => None,
    }
}

/// The live files of a manifest, with what they inherit from their line in the list.
pub(crate) fn decode_manifest(bytes: &[u8], line: &ManifestFile, table: &TableName) -> Result<Manifest> {
    let corrupt = |reason| Error::Corrupt { table: table.clone(), file: line.path.clone(), reason };
    let manifest = guarded(|| SpecManifest::parse_avro(bytes)).map_err(corrupt)?;
    let (entries, header) = manifest.into_parts();
    let spec = metadata::own_spec(header.partition_spec());
    let types = partition_types(&header).map_err(|e| corrupt(e.to_string()))?;
    let column = |field: &::iceberg::spec::NestedFieldRef| Some((field.id, arrow_type(&field.field_type)?));
    let column_types: HashMap<_, _> =
        header.schema().as_struct().fields().iter().filter_map(column).collect();
    let live = entries.iter().filter(|entry| entry.is_alive());
    let mut files = live
        .map(|entry| {
            let sequence_number = sequence_number(entry, line)
                .ok_or_else(|| corrupt("a file that was there before has no sequence number".to_owned()))?;
            data_file(entry, sequence_number, line, &types, &column_types).map_err(corrupt)
        })
        .collect::<Result<Vec<_>>>()?;
    inherit_row_ids(&mut files, line.first_row_id);
    let partition_types = types.iter().map(arrow_type).collect();
    Ok(Manifest { spec, partition_types, column_types, files })
}

fn arrow_type(data_type: &Type) -> Option<DataType> {
    data_type.as_primitive_type().and_then(primitive_type)
}

fn partition_types(header: &::iceberg::spec::ManifestMetadata) -> ::iceberg::Result<Vec<Type>> {
    let types = header.partition_spec().partition_type(header.schema())?;
    Ok(types.fields().iter().map(|field| field.field_type.as_ref().clone()).collect())
}

/// The data sequence number: written down, or inherited by files that this manifest's commit added.
fn sequence_number(entry: &ManifestEntry, line: &ManifestFile) -> Option<i64> {
    match entry.sequence_number() {
        Some(number) if number >= 0 => Some(number),
        _ if entry.status() == ManifestStatus::Added => Some(line.sequence_number),
        // Before version 2 nothing has a sequence number, and all of it counts as 0.
        _ if line.sequence_number == 0 => Some(0),
        _ => None,
    }
}

/// Gives row ids to the live data files that have none written down, one after the other from the manifest's own
/// on. A manifest without one is from before the table had row ids, and then its files have none either.
fn inherit_row_ids(files: &mut [DataFile], manifest_first: Option<i64>) {
    let mut next = manifest_first;
    for file in files.iter_mut().filter(|file| file.content == Content::Data) {
        if manifest_first.is_none() {
            file.first_row_id = None;
        } else if file.first_row_id.is_none() {
            file.first_row_id = next;
            next = next.and_then(|next| next.checked_add(i64::try_from(file.record_count).ok()?));
        }
    }
}

/// Why a file cannot be read, if it cannot.
fn unsupported(
    content: Content,
    format: FileFormat,
    file: &::iceberg::spec::DataFile,
    line: &ManifestFile,
) -> Option<&'static str> {
    if line.deletes == (content == Content::Data) {
        return Some("a manifest with both data files and delete files");
    }
    if file.key_metadata().is_some() {
        return Some("encryption");
    }
    match (content, format) {
        (Content::Data, FileFormat::Parquet) => None,
        (Content::Data, FileFormat::Orc) => Some("an ORC data file"),
        (Content::Data, FileFormat::Avro) => Some("an Avro data file"),
        (Content::Data, FileFormat::Puffin) => Some("a Puffin data file"),
        (Content::PositionDeletes, FileFormat::Parquet | FileFormat::Puffin) => None,
        (Content::EqualityDeletes, FileFormat::Parquet) => None,
        (_, FileFormat::Orc) => Some("an ORC delete file"),
        (_, FileFormat::Avro) => Some("an Avro delete file"),
        (Content::EqualityDeletes, FileFormat::Puffin) => Some("a Puffin file of equality deletes"),
    }
}

fn data_file(
    entry: &ManifestEntry,
    sequence_number: i64,
    line: &ManifestFile,
    partition_types: &[Type],
    column_types: &HashMap<i32, DataType>,
) -> Result<DataFile, String> {
    let file = entry.data_file();
    let content = match file.content_type() {
        DataContentType::Data => Content::Data,
        DataContentType::PositionDeletes => Content::PositionDeletes,
        DataContentType::EqualityDeletes => Content::EqualityDeletes,
    };
    let format = match file.file_format() {
        DataFileFormat::Parquet => FileFormat::Parquet,
        DataFileFormat::Avro => FileFormat::Avro,
        DataFileFormat::Orc => FileFormat::Orc,
        DataFileFormat::Puffin => FileFormat::Puffin,
    };
    let partition = file.partition();
    if partition.fields().len() != partition_types.len() {
        return Err("a partition tuple has not as many values as its spec".to_owned());
    }
    let value = |(value, kind): (Option<&Literal>, &Type)| match (value, kind) {
        (None, _) => Ok(None),
        (Some(Literal::Primitive(value)), Type::Primitive(primitive)) => scalar(value, primitive)
            .map(Some)
            .ok_or_else(|| format!("a partition value is not of type {primitive}")),
        _ => Err("a partition value is nested".to_owned()),
    };
    let partition = partition.iter().zip(partition_types).map(value).collect::<Result<_, _>>()?;
    Ok(DataFile {
        path: file.file_path().to_owned(),
        size_bytes: file.file_size_in_bytes(),
        record_count: file.record_count(),
        sequence_number,
        unsupported: unsupported(content, format, file, line),
        content,
        format,
        partition,
        split_offsets: file.split_offsets().unwrap_or_default().to_vec(),
        columns: columns(file, column_types),
        first_row_id: file.first_row_id(),
        sort_order_id: file.sort_order_id(),
        equality_ids: file.equality_ids().unwrap_or_default(),
        referenced_data_file: file.referenced_data_file(),
        content_offset: file.content_offset(),
        content_size_bytes: file.content_size_in_bytes(),
    })
}

/// What is known about the top-level columns. Planning has no use for what is below them.
fn columns(
    file: &::iceberg::spec::DataFile,
    column_types: &HashMap<i32, DataType>,
) -> Vec<(i32, ColumnBounds)> {
    let column = |id: &i32| {
        let bounds = ColumnBounds {
            lower: file.lower_bounds().get(id).and_then(scalar_of),
            upper: file.upper_bounds().get(id).and_then(scalar_of),
            null_count: file.null_value_counts().get(id).copied(),
            nan_count: file.nan_value_counts().get(id).copied(),
        };
        let known = bounds.lower.is_some() || bounds.upper.is_some() || bounds.null_count.is_some();
        known.then_some((*id, bounds))
    };
    let reserved = (file.content_type() == DataContentType::PositionDeletes).then_some(DELETE_FILE_PATH_ID);
    let mut columns: Vec<_> = column_types.keys().chain(&reserved).filter_map(column).collect();
    columns.sort_by_key(|(id, _)| *id);
    columns
}
