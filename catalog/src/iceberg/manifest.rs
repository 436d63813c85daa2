//! Manifest lists and manifests, decoded into our own types.
//!
//! What is in them decides which rows a query sees, so everything that this
//! crate does not understand is an error here or a mark on the file that makes
//! planning refuse it. Only what merely helps to prune may be left out.

use std::collections::HashMap;

use ::iceberg::spec::{FormatVersion, ManifestFile as SpecManifestFile, ManifestList, PrimitiveType};
use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::avro::Container;
use super::entry::{Entry, EntryReader, Value, Wanted};
use super::guarded;
use super::list_entry::{FieldSummary, ListEntry, read_list};
use super::manifest_header::Header;
use super::metadata::{Metadata, PartitionField, PartitionSpec};
use super::schema::primitive_type;
use super::value::{scalar_of_bytes, scalar_of_value};
use crate::error::{Error, Result};
use crate::name::TableName;

/// Field id of the column of a position delete file that names the data file.
pub(crate) const DELETE_FILE_PATH_ID: i32 = 2_147_483_546;

/// One line of a manifest list.
#[derive(Clone, Debug, Default)]
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

/// What a manifest says about itself.
#[derive(Debug)]
pub(crate) struct ManifestHead {
    /// The partition spec of its files, as the manifest itself has it.
    pub(crate) spec: PartitionSpec,
    /// Types of the partition fields; `None` for one that cannot be read.
    pub(crate) partition_types: Vec<Option<DataType>>,
    /// Types of the top-level columns that are not nested, by field id, as they were when it was written.
    pub(crate) column_types: HashMap<i32, DataType>,
}

/// A manifest: the files in it that are alive.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// What it says about itself.
    pub(crate) head: ManifestHead,
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
    let specs = metadata.partition_specs();
    let decode = |entry: ListEntry| {
        let spec = specs.iter().find(|spec| spec.id == entry.spec_id);
        ManifestFile {
            deletes: entry.content != 0,
            spec_id: entry.spec_id,
            sequence_number: entry.sequence_number,
            first_row_id: entry.first_row_id,
            live_files: sum(entry.files[0], entry.files[1]),
            live_rows: sum(entry.rows[0], entry.rows[1]),
            encrypted: entry.encrypted,
            partitions: spec.map(|spec| summaries(&entry, spec, metadata)).unwrap_or_default(),
            path: entry.path,
        }
    };
    Ok(list_entries(bytes, table, file)?.into_iter().map(decode).collect())
}

/// The lines of a manifest list as they are written.
pub(crate) fn list_entries(bytes: &[u8], table: &TableName, file: &str) -> Result<Vec<ListEntry>> {
    let corrupt = |reason| Error::Corrupt { table: table.clone(), file: file.to_owned(), reason };
    read_list(bytes).map_err(corrupt)
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

fn sum(a: Option<i64>, b: Option<i64>) -> Option<u64> {
    // A count below zero is none.
    u64::try_from(a?).ok()?.checked_add(u64::try_from(b?).ok()?)
}

fn summaries(entry: &ListEntry, spec: &PartitionSpec, metadata: &Metadata) -> Vec<PartitionSummary> {
    if entry.partitions.len() != spec.fields.len() {
        return Vec::new();
    }
    let summary = |(field, given): (&PartitionField, &FieldSummary)| {
        let transform = field.transform?;
        let bound = |bytes: &Option<Vec<u8>>| metadata.partition_value(field, bytes.as_deref()?);
        Some(PartitionSummary {
            source_id: field.source_id,
            transform,
            contains_null: given.contains_null,
            may_contain_nan: given.contains_nan.unwrap_or(true),
            lower: bound(&given.lower),
            upper: bound(&given.upper),
        })
    };
    spec.fields.iter().zip(&entry.partitions).filter_map(summary).collect()
}

/// Hands the live files of a manifest to `add`, one by one, with what they inherit from their line in the list.
pub(crate) fn read_manifest<S>(
    bytes: &[u8],
    line: &ManifestFile,
    table: &TableName,
    start: impl FnOnce(ManifestHead) -> Result<S, String>,
    mut add: impl FnMut(&mut S, DataFile) -> Result<(), String>,
) -> Result<S> {
    let corrupt = |reason| Error::Corrupt { table: table.clone(), file: line.path.clone(), reason };
    let read = || {
        let container = Container::open(bytes)?;
        let header = Header::read(&container)?;
        let reader = EntryReader::new(container.kind(), Wanted::Planning)?;
        let columns = Columns::new(&header);
        let arrow = |primitive: &Option<PrimitiveType>| primitive.as_ref().and_then(primitive_type);
        let mut state = start(ManifestHead {
            partition_types: header.partition_types.iter().map(arrow).collect(),
            column_types: columns.arrow_types(),
            spec: header.spec.clone(),
        })?;
        let mut row_ids = RowIds::new(line.first_row_id);
        container.for_each(|cursor| {
            let entry = reader.read(cursor)?;
            if entry.is_alive() {
                let mut file = data_file(&entry, line, &header, &columns)?;
                row_ids.give(&mut file);
                add(&mut state, file)?;
            }
            Ok(())
        })?;
        Ok(state)
    };
    read().map_err(corrupt)
}

/// The live files of a manifest.
pub(crate) fn decode_manifest(bytes: &[u8], line: &ManifestFile, table: &TableName) -> Result<Manifest> {
    let start = |head| Ok(Manifest { head, files: Vec::new() });
    read_manifest(bytes, line, table, start, |manifest, file| {
        manifest.files.push(file);
        Ok(())
    })
}

/// One line of a manifest with what it inherits, for those who want all of it.
pub(crate) struct EntryRow<'a> {
    entry: Entry<'a>,
    line: &'a ListEntry,
    header: &'a Header,
}

/// Calls `visit` for every line of a manifest, those of removed files included.
pub(crate) fn each_entry(
    bytes: &[u8],
    line: &ListEntry,
    table: &TableName,
    mut visit: impl FnMut(EntryRow<'_>) -> Result<(), String>,
) -> Result<()> {
    let mut read = || {
        let container = Container::open(bytes)?;
        let header = Header::read(&container)?;
        let reader = EntryReader::new(container.kind(), Wanted::All)?;
        container.for_each(|cursor| visit(EntryRow { entry: reader.read(cursor)?, line, header: &header }))
    };
    let corrupt = |reason| Error::Corrupt { table: table.clone(), file: line.path.clone(), reason };
    read().map_err(corrupt)
}

impl<'a> EntryRow<'a> {
    /// The line as it is written.
    pub(crate) fn entry(&self) -> &Entry<'a> {
        &self.entry
    }

    /// Whether the file is part of the table.
    pub(crate) fn is_alive(&self) -> bool {
        self.entry.is_alive()
    }

    /// The snapshot that added or removed the file.
    pub(crate) fn snapshot_id(&self) -> Option<i64> {
        self.entry.snapshot_id.or(self.line.added_snapshot_id)
    }

    /// The data sequence number.
    pub(crate) fn sequence_number(&self) -> Option<i64> {
        self.inherited(self.entry.sequence_number)
    }

    /// The sequence number of the commit that added the file.
    pub(crate) fn file_sequence_number(&self) -> Option<i64> {
        self.inherited(self.entry.file_sequence_number)
    }

    /// The partition spec of the file.
    pub(crate) fn spec_id(&self) -> i32 {
        self.header.spec.id
    }

    /// The partition tuple, by the ids of the partition fields.
    pub(crate) fn partition(&self) -> Result<Vec<(i32, Option<ScalarValue>)>, String> {
        let ids = self.header.spec.fields.iter().map(|field| field.field_id);
        Ok(ids.zip(partition(&self.entry, self.header)?).collect())
    }

    fn inherited(&self, number: Option<i64>) -> Option<i64> {
        let inherits = self.entry.is_added() || self.line.sequence_number == 0;
        number.filter(|number| *number >= 0).or(inherits.then_some(self.line.sequence_number))
    }
}

/// The columns that something may be known about, by rising field id.
struct Columns {
    known: Vec<(i32, PrimitiveType)>,
}

impl Columns {
    fn new(header: &Header) -> Self {
        let readable = header.columns.iter().filter(|(_, primitive)| primitive_type(primitive).is_some());
        let mut known: Vec<_> = readable.map(|(id, primitive)| (*id, primitive.clone())).collect();
        // The column of a position delete file that names the data file is in no table's schema.
        known.push((DELETE_FILE_PATH_ID, PrimitiveType::String));
        known.sort_by_key(|(id, _)| *id);
        Self { known }
    }

    fn arrow_types(&self) -> HashMap<i32, DataType> {
        let columns = self.known.iter().filter(|(id, _)| *id != DELETE_FILE_PATH_ID);
        columns.filter_map(|(id, primitive)| Some((*id, primitive_type(primitive)?))).collect()
    }

    /// What an entry says about them. Planning has no use for what is below the top level.
    fn bounds(&self, entry: &Entry<'_>) -> Vec<(i32, ColumnBounds)> {
        let mut found = vec![ColumnBounds::default(); self.known.len()];
        let place = |id: &i32| self.known.binary_search_by_key(id, |(id, _)| *id).ok();
        let count = |count: &i64| u64::try_from(*count).ok();
        for (id, nulls) in &entry.null_counts {
            place(id).into_iter().for_each(|at| found[at].null_count = count(nulls));
        }
        for (id, nans) in &entry.nan_counts {
            place(id).into_iter().for_each(|at| found[at].nan_count = count(nans));
        }
        for (id, bound) in &entry.lower_bounds {
            place(id).into_iter().for_each(|at| found[at].lower = scalar_of_bytes(bound, &self.known[at].1));
        }
        for (id, bound) in &entry.upper_bounds {
            place(id).into_iter().for_each(|at| found[at].upper = scalar_of_bytes(bound, &self.known[at].1));
        }
        let said = |bounds: &ColumnBounds| {
            bounds.lower.is_some() || bounds.upper.is_some() || bounds.null_count.is_some()
        };
        self.known.iter().map(|(id, _)| *id).zip(found).filter(|(_, bounds)| said(bounds)).collect()
    }
}

/// The data sequence number: written down, or inherited by files that this manifest's commit added.
fn sequence_number(entry: &Entry<'_>, line: &ManifestFile) -> Option<i64> {
    match entry.sequence_number {
        Some(number) if number >= 0 => Some(number),
        _ if entry.is_added() => Some(line.sequence_number),
        // Before version 2 nothing has a sequence number, and all of it counts as 0.
        _ if line.sequence_number == 0 => Some(0),
        _ => None,
    }
}

/// Row ids for the live data files that have none written down, one after the other from the manifest's own on. A
/// manifest without one is from before the table had row ids, and then its files have none either.
struct RowIds {
    inherited: bool,
    next: Option<i64>,
}

impl RowIds {
    fn new(manifest_first: Option<i64>) -> Self {
        Self { inherited: manifest_first.is_some(), next: manifest_first }
    }

    fn give(&mut self, file: &mut DataFile) {
        if file.content != Content::Data {
            return;
        }
        if !self.inherited {
            file.first_row_id = None;
        } else if file.first_row_id.is_none() {
            file.first_row_id = self.next;
            self.next = self.next.and_then(|next| next.checked_add(i64::try_from(file.record_count).ok()?));
        }
    }
}

/// Why a file cannot be read, if it cannot.
fn unsupported(
    content: Content,
    format: FileFormat,
    entry: &Entry<'_>,
    line: &ManifestFile,
) -> Option<&'static str> {
    if line.deletes == (content == Content::Data) {
        return Some("a manifest with both data files and delete files");
    }
    if entry.key_metadata.is_some() {
        return Some("encryption");
    }
    match (content, format) {
        (_, FileFormat::Parquet | FileFormat::Avro) => None,
        (Content::Data, FileFormat::Orc) => Some("an ORC data file"),
        (Content::Data, FileFormat::Puffin) => Some("a Puffin data file"),
        (Content::PositionDeletes, FileFormat::Puffin) => None,
        (_, FileFormat::Orc) => Some("an ORC delete file"),
        (Content::EqualityDeletes, FileFormat::Puffin) => Some("a Puffin file of equality deletes"),
    }
}

fn data_file(
    entry: &Entry<'_>,
    line: &ManifestFile,
    header: &Header,
    columns: &Columns,
) -> Result<DataFile, String> {
    let content = match entry.content {
        0 => Content::Data,
        1 => Content::PositionDeletes,
        2 => Content::EqualityDeletes,
        other => return Err(format!("content {other} of a file is not known")),
    };
    let format = match entry.format {
        name if name.eq_ignore_ascii_case("parquet") => FileFormat::Parquet,
        name if name.eq_ignore_ascii_case("avro") => FileFormat::Avro,
        name if name.eq_ignore_ascii_case("orc") => FileFormat::Orc,
        name if name.eq_ignore_ascii_case("puffin") => FileFormat::Puffin,
        other => return Err(format!("file format {other:?} is not known")),
    };
    let count = |value: i64, what: &str| u64::try_from(value).map_err(|_| format!("a {what} is below zero"));
    Ok(DataFile {
        path: entry.path.to_owned(),
        size_bytes: count(entry.size_bytes, "file size")?,
        record_count: count(entry.record_count, "row count")?,
        sequence_number: sequence_number(entry, line)
            .ok_or("a file that was there before has no sequence number")?,
        unsupported: unsupported(content, format, entry, line),
        content,
        format,
        partition: partition(entry, header)?,
        split_offsets: entry.split_offsets.clone(),
        columns: columns.bounds(entry),
        first_row_id: entry.first_row_id,
        sort_order_id: entry.sort_order_id,
        equality_ids: entry.equality_ids.clone(),
        referenced_data_file: entry.referenced_data_file.map(str::to_owned),
        content_offset: entry.content_offset,
        content_size_bytes: entry.content_size_bytes,
    })
}

/// The partition tuple, in the order of the spec.
fn partition(entry: &Entry<'_>, header: &Header) -> Result<Vec<Option<ScalarValue>>, String> {
    let value = |(index, field): (usize, &PartitionField)| {
        let by_id = entry.partition.iter().find(|(id, _)| *id == Some(field.field_id));
        // Without ids the fields are those of the spec, in its order.
        let by_place = || entry.partition.get(index).filter(|(id, _)| id.is_none());
        let (_, value) = by_id
            .or_else(by_place)
            .ok_or_else(|| format!("a file without a value for partition field {:?}", field.name))?;
        match (value, &header.partition_types[index]) {
            (Value::Null, _) => Ok(None),
            (value, primitive) => scalar_of_value(value, primitive.as_ref())
                .map(Some)
                .ok_or_else(|| format!("the value of partition field {:?} is not of its type", field.name)),
        }
    };
    header.spec.fields.iter().enumerate().map(value).collect()
}
