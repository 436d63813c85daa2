//! One line of a manifest as it is written, read straight from Avro.
//!
//! Fields are known by id, or by name where a writer put no ids. What the
//! reader does not want is skipped where it lies, so planning never touches
//! column sizes and value counts. The specification's section "Manifests" has
//! the table of fields.

use super::avro::{Cursor, Field, Kind, Result};

/// What is read of each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What planning needs.
    Planning,
    /// Everything.
    All,
}

/// One line of a manifest. Bytes are as the writer put them.
#[derive(Debug, Default)]
pub(crate) struct Entry<'a> {
    /// 0 existing, 1 added, 2 deleted.
    pub(crate) status: i32,
    pub(crate) snapshot_id: Option<i64>,
    pub(crate) sequence_number: Option<i64>,
    pub(crate) file_sequence_number: Option<i64>,
    pub(crate) content: i32,
    pub(crate) path: &'a str,
    pub(crate) format: &'a str,
    /// The partition tuple, by its fields' ids, or by place for those without.
    pub(crate) partition: Vec<(Option<i32>, Value<'a>)>,
    pub(crate) record_count: i64,
    pub(crate) size_bytes: i64,
    pub(crate) column_sizes: Vec<(i32, i64)>,
    pub(crate) value_counts: Vec<(i32, i64)>,
    pub(crate) null_counts: Vec<(i32, i64)>,
    pub(crate) nan_counts: Vec<(i32, i64)>,
    pub(crate) lower_bounds: Vec<(i32, &'a [u8])>,
    pub(crate) upper_bounds: Vec<(i32, &'a [u8])>,
    pub(crate) key_metadata: Option<&'a [u8]>,
    pub(crate) split_offsets: Vec<i64>,
    pub(crate) equality_ids: Vec<i32>,
    pub(crate) sort_order_id: Option<i32>,
    pub(crate) first_row_id: Option<i64>,
    pub(crate) referenced_data_file: Option<&'a str>,
    pub(crate) content_offset: Option<i64>,
    pub(crate) content_size_bytes: Option<i64>,
}

/// A partition value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Boolean(bool),
    Whole(i64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Reads entries of one manifest.
pub(super) struct EntryReader<'k> {
    fields: Vec<(Slot, &'k Kind)>,
    file: Vec<(Slot, &'k Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Status,
    SnapshotId,
    SequenceNumber,
    FileSequenceNumber,
    File,
    Content,
    Path,
    Format,
    Partition,
    RecordCount,
    Size,
    ColumnSizes,
    ValueCounts,
    NullCounts,
    NanCounts,
    LowerBounds,
    UpperBounds,
    KeyMetadata,
    SplitOffsets,
    EqualityIds,
    SortOrderId,
    FirstRowId,
    ReferencedDataFile,
    ContentOffset,
    ContentSize,
    Skipped,
}

/// Slots by id and by name.
const SLOTS: [(i32, &str, Slot); 25] = [
    (0, "status", Slot::Status),
    (1, "snapshot_id", Slot::SnapshotId),
    (2, "data_file", Slot::File),
    (3, "sequence_number", Slot::SequenceNumber),
    (4, "file_sequence_number", Slot::FileSequenceNumber),
    (100, "file_path", Slot::Path),
    (101, "file_format", Slot::Format),
    (102, "partition", Slot::Partition),
    (103, "record_count", Slot::RecordCount),
    (104, "file_size_in_bytes", Slot::Size),
    (108, "column_sizes", Slot::ColumnSizes),
    (109, "value_counts", Slot::ValueCounts),
    (110, "null_value_counts", Slot::NullCounts),
    (125, "lower_bounds", Slot::LowerBounds),
    (128, "upper_bounds", Slot::UpperBounds),
    (131, "key_metadata", Slot::KeyMetadata),
    (132, "split_offsets", Slot::SplitOffsets),
    (134, "content", Slot::Content),
    (135, "equality_ids", Slot::EqualityIds),
    (137, "nan_value_counts", Slot::NanCounts),
    (140, "sort_order_id", Slot::SortOrderId),
    (142, "first_row_id", Slot::FirstRowId),
    (143, "referenced_data_file", Slot::ReferencedDataFile),
    (144, "content_offset", Slot::ContentOffset),
    (145, "content_size_in_bytes", Slot::ContentSize),
];

impl<'k> EntryReader<'k> {
    /// A reader for records of this kind.
    pub(super) fn new(kind: &'k Kind, wanted: Wanted) -> Result<Self> {
        let fields = slots(record(kind)?, wanted);
        let file = fields.iter().find(|(slot, _)| *slot == Slot::File);
        let file = slots(record(file.ok_or("a manifest without files")?.1)?, wanted);
        for needed in [Slot::Path, Slot::RecordCount, Slot::Size] {
            if !file.iter().any(|(slot, _)| *slot == needed) {
                return Err(format!("a manifest without {needed:?}"));
            }
        }
        Ok(Self { fields, file })
    }

    /// The entry at the cursor.
    pub(super) fn read<'a>(&self, cursor: &mut Cursor<'a>) -> Result<Entry<'a>> {
        let mut entry = Entry { format: "parquet", ..Entry::default() };
        for (slot, kind) in &self.fields {
            match slot {
                Slot::File => {
                    cursor.branch(kind)?;
                    for (slot, kind) in &self.file {
                        entry.read_field(*slot, cursor, kind)?;
                    }
                }
                slot => entry.read_field(*slot, cursor, kind)?,
            }
        }
        Ok(entry)
    }
}

impl<'a> Entry<'a> {
    /// Whether the file is part of the table.
    pub(super) fn is_alive(&self) -> bool {
        self.status == 0 || self.status == 1
    }

    /// Whether the manifest's own commit added the file.
    pub(super) fn is_added(&self) -> bool {
        self.status == 1
    }

    fn read_field(&mut self, slot: Slot, cursor: &mut Cursor<'a>, kind: &Kind) -> Result<()> {
        match slot {
            Slot::Status => self.status = cursor.optional_int(kind)?.ok_or("an entry without status")?,
            Slot::SnapshotId => self.snapshot_id = cursor.optional_long(kind)?,
            Slot::SequenceNumber => self.sequence_number = cursor.optional_long(kind)?,
            Slot::FileSequenceNumber => self.file_sequence_number = cursor.optional_long(kind)?,
            Slot::Content => self.content = cursor.optional_int(kind)?.unwrap_or(0),
            Slot::Path => self.path = cursor.optional_text(kind)?.ok_or("a file without a path")?,
            Slot::Format => self.format = cursor.optional_text(kind)?.unwrap_or("parquet"),
            Slot::Partition => self.partition = partition(cursor, kind)?,
            Slot::RecordCount => {
                self.record_count = cursor.optional_long(kind)?.ok_or("a file without a row count")?;
            }
            Slot::Size => self.size_bytes = cursor.optional_long(kind)?.ok_or("a file without a size")?,
            Slot::ColumnSizes => self.column_sizes = counts(cursor, kind)?,
            Slot::ValueCounts => self.value_counts = counts(cursor, kind)?,
            Slot::NullCounts => self.null_counts = counts(cursor, kind)?,
            Slot::NanCounts => self.nan_counts = counts(cursor, kind)?,
            Slot::LowerBounds => self.lower_bounds = bounds(cursor, kind)?,
            Slot::UpperBounds => self.upper_bounds = bounds(cursor, kind)?,
            Slot::KeyMetadata => self.key_metadata = cursor.optional_bytes(kind)?,
            Slot::SplitOffsets => {
                let offsets = &mut self.split_offsets;
                cursor.each_item(kind, |cursor, kind| {
                    offsets.extend(cursor.optional_long(kind)?);
                    Ok(())
                })?;
            }
            Slot::EqualityIds => {
                let ids = &mut self.equality_ids;
                cursor.each_item(kind, |cursor, kind| {
                    ids.extend(cursor.optional_int(kind)?);
                    Ok(())
                })?;
            }
            Slot::SortOrderId => self.sort_order_id = cursor.optional_int(kind)?,
            Slot::FirstRowId => self.first_row_id = cursor.optional_long(kind)?,
            Slot::ReferencedDataFile => self.referenced_data_file = cursor.optional_text(kind)?,
            Slot::ContentOffset => self.content_offset = cursor.optional_long(kind)?,
            Slot::ContentSize => self.content_size_bytes = cursor.optional_long(kind)?,
            Slot::File | Slot::Skipped => cursor.skip(kind)?,
        }
        Ok(())
    }
}

/// The fields of a record, also of one that may be NULL.
pub(super) fn record(kind: &Kind) -> Result<&[Field]> {
    match kind {
        Kind::Record(fields) => Ok(fields),
        Kind::Union(branches) => match branches.iter().find(|branch| matches!(branch, Kind::Record(_))) {
            Some(branch) => record(branch),
            None => Err("a record is missing in an Avro schema".to_owned()),
        },
        other => Err(format!("a record of an Avro schema is {other}")),
    }
}

fn slots(fields: &[Field], wanted: Wanted) -> Vec<(Slot, &Kind)> {
    let slot = |field: &Field| {
        let known = SLOTS.iter().find(|(id, name, _)| match field.id {
            Some(own) => own == *id,
            None => field.name == *name,
        });
        let slot = known.map_or(Slot::Skipped, |(.., slot)| *slot);
        match (wanted, slot) {
            (Wanted::Planning, Slot::ColumnSizes | Slot::ValueCounts) => Slot::Skipped,
            (_, slot) => slot,
        }
    };
    fields.iter().map(|field| (slot(field), &field.kind)).collect()
}

fn partition<'a>(cursor: &mut Cursor<'a>, kind: &Kind) -> Result<Vec<(Option<i32>, Value<'a>)>> {
    let kind = match cursor.branch(kind)? {
        Kind::Null => return Ok(Vec::new()),
        kind => kind,
    };
    record(kind)?.iter().map(|field| Ok((field.id, value(cursor, &field.kind)?))).collect()
}

fn value<'a>(cursor: &mut Cursor<'a>, kind: &Kind) -> Result<Value<'a>> {
    Ok(match cursor.branch(kind)? {
        Kind::Null => Value::Null,
        Kind::Boolean => Value::Boolean(cursor.take(1)? != [0]),
        Kind::Int | Kind::Long => Value::Whole(cursor.long()?),
        Kind::Float => Value::Float(f32::from_le_bytes(fixed(cursor.take(4)?))),
        Kind::Double => Value::Double(f64::from_le_bytes(fixed(cursor.take(8)?))),
        Kind::Text => Value::Text(cursor.text()?),
        Kind::Bytes => Value::Bytes(cursor.bytes()?),
        Kind::Fixed(length) => Value::Bytes(cursor.take(*length)?),
        other => return Err(format!("a partition value is {other}")),
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// An id-to-number map, which Iceberg writes as an array of pairs. Pairs of NULL say nothing.
fn counts(cursor: &mut Cursor<'_>, kind: &Kind) -> Result<Vec<(i32, i64)>> {
    let mut found = Vec::new();
    cursor.each_item(kind, |cursor, kind| {
        let [key, value] = pair(kind)?;
        let pair = (cursor.optional_int(&key.kind)?, cursor.optional_long(&value.kind)?);
        if let (Some(key), Some(value)) = pair {
            found.push((key, value));
        }
        Ok(())
    })?;
    Ok(found)
}

/// An id-to-bytes map.
fn bounds<'a>(cursor: &mut Cursor<'a>, kind: &Kind) -> Result<Vec<(i32, &'a [u8])>> {
    let mut found = Vec::new();
    cursor.each_item(kind, |cursor, kind| {
        let [key, value] = pair(kind)?;
        let pair = (cursor.optional_int(&key.kind)?, cursor.optional_bytes(&value.kind)?);
        if let (Some(key), Some(value)) = pair {
            found.push((key, value));
        }
        Ok(())
    })?;
    Ok(found)
}

fn pair(kind: &Kind) -> Result<[&Field; 2]> {
    match record(kind)? {
        [key, value] => Ok([key, value]),
        _ => Err("a map of a manifest is not made of pairs".to_owned()),
    }
}
