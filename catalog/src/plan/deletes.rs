//! Delete files, decoded once for planning.

use tarn_scan::write::Transform;

use super::block::{column_cell, scan_format};
use super::containers::Cell;
use super::partition_key::PartitionKey;
use crate::error::{Error, Result};
use crate::iceberg::{
    Content, DELETE_FILE_PATH_ID, DataFile, FileFormat, Manifest, ManifestFile, decode_manifest,
};
use crate::name::TableName;

/// The live delete files of a manifest.
#[derive(Debug)]
pub(crate) struct DeleteBlock {
    pub(super) spec_id: i32,
    /// Whether the spec splits nothing: then equality deletes hold for the files of every spec.
    pub(super) unpartitioned: bool,
    pub(super) files: Vec<DeleteEntry>,
}

/// One delete file.
#[derive(Debug)]
pub(super) struct DeleteEntry {
    pub(super) path: Box<str>,
    pub(super) format: tarn_scan::FileFormat,
    /// What makes it unreadable for us, if anything.
    pub(super) unsupported: Option<&'static str>,
    pub(super) size_bytes: u64,
    pub(super) record_count: u64,
    pub(super) sequence_number: i64,
    pub(super) partition: PartitionKey,
    pub(super) kind: DeleteKind,
}

/// What a delete file deletes.
#[derive(Debug)]
pub(super) enum DeleteKind {
    /// Rows by data file and place.
    Positions {
        /// The only data file that it is about, if the manifest names one.
        data_file: Option<Box<str>>,
        /// At most every data file in it.
        lower: Option<Box<str>>,
        /// At least every data file in it; may be cut to a prefix of that.
        upper: Option<Box<str>>,
    },
    /// Rows of one data file, by place.
    Vector { data_file: Box<str>, offset: u64, size_bytes: u64 },
    /// Rows by the values of these columns, ascending, with what is known about the values.
    Equality { field_ids: Box<[i32]>, cells: Box<[Cell]> },
}

impl DeleteBlock {
    /// Of a manifest's bytes, given its line in the list.
    pub(crate) fn read(bytes: &[u8], line: &ManifestFile, table: &TableName) -> Result<Self> {
        Self::new(decode_manifest(bytes, line, table)?, table, &line.path)
    }

    pub(super) fn new(manifest: Manifest, table: &TableName, file: &str) -> Result<Self> {
        let corrupt = |reason: &str| Error::Corrupt {
            table: table.clone(),
            file: file.to_owned(),
            reason: reason.to_owned(),
        };
        let fields = &manifest.head.spec.fields;
        let unpartitioned = fields.iter().all(|field| field.transform == Some(Transform::Void));
        let files = manifest.files.iter().map(|file| entry(file, &manifest));
        let files = files.collect::<Result<_, _>>().map_err(corrupt)?;
        Ok(Self { spec_id: manifest.head.spec.id, unpartitioned, files })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let file = |file: &DeleteEntry| {
            size_of::<DeleteEntry>() + file.path.len() + file.partition.heap_bytes() + file.kind.heap_bytes()
        };
        size_of::<Self>() + self.files.iter().map(file).sum::<usize>()
    }
}

impl DeleteKind {
    fn heap_bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Self::Positions { data_file, lower, upper } => text(data_file) + text(lower) + text(upper),
            Self::Vector { data_file, .. } => data_file.len(),
            Self::Equality { field_ids, cells } => {
                let bound =
                    |value: &Option<datafusion::scalar::ScalarValue>| value.as_ref().map_or(0, |v| v.size());
                let values = cells.iter().map(|cell| bound(&cell.min) + bound(&cell.max) + size_of::<Cell>());
                size_of_val(&**field_ids) + values.sum::<usize>()
            }
        }
    }
}

fn entry(file: &DataFile, manifest: &Manifest) -> Result<DeleteEntry, &'static str> {
    let kind = match (file.content, file.format) {
        (Content::Data, _) => return Err("a data file among delete files"),
        (Content::PositionDeletes, FileFormat::Puffin) => vector(file)?,
        (Content::PositionDeletes, _) => positions(file),
        (Content::EqualityDeletes, _) => equality(file, manifest)?,
    };
    Ok(DeleteEntry {
        path: file.path.as_str().into(),
        format: scan_format(file.format),
        unsupported: file.unsupported,
        size_bytes: file.size_bytes,
        record_count: file.record_count,
        sequence_number: file.sequence_number,
        partition: PartitionKey::new(&file.partition),
        kind,
    })
}

fn vector(file: &DataFile) -> Result<DeleteKind, &'static str> {
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let data_file =
        file.referenced_data_file.as_deref().ok_or("a deletion vector that names no data file")?;
    let offset = number(file.content_offset).ok_or("a deletion vector without its place in its file")?;
    let size_bytes = number(file.content_size_bytes).ok_or("a deletion vector without its length")?;
    Ok(DeleteKind::Vector { data_file: data_file.into(), offset, size_bytes })
}

fn positions(file: &DataFile) -> DeleteKind {
    use datafusion::scalar::ScalarValue::Utf8View;
    let bounds = file.columns.iter().find(|(id, _)| *id == DELETE_FILE_PATH_ID).map(|(_, bounds)| bounds);
    let text = |value: Option<&datafusion::scalar::ScalarValue>| match value {
        Some(Utf8View(Some(text))) => Some(String::as_str(text).into()),
        _ => None,
    };
    DeleteKind::Positions {
        data_file: file.referenced_data_file.as_deref().map(Into::into),
        lower: text(bounds.and_then(|bounds| bounds.lower.as_ref())),
        upper: text(bounds.and_then(|bounds| bounds.upper.as_ref())),
    }
}

fn equality(file: &DataFile, manifest: &Manifest) -> Result<DeleteKind, &'static str> {
    if file.equality_ids.is_empty() {
        return Err("an equality delete file that names no columns");
    }
    let mut field_ids = file.equality_ids.clone();
    field_ids.sort_unstable();
    field_ids.dedup();
    let cell = |id: &i32| {
        let bounds = file.columns.iter().find(|(known, _)| known == id).map(|(_, bounds)| bounds);
        match (bounds, manifest.head.column_types.get(id)) {
            (Some(bounds), Some(data_type)) => column_cell(bounds, data_type, file.record_count),
            _ => Cell::default(),
        }
    };
    let cells = field_ids.iter().map(cell).collect();
    Ok(DeleteKind::Equality { field_ids: field_ids.into_boxed_slice(), cells })
}
