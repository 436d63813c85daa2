//! One line of a manifest list as it is written, read straight from Avro.
//!
//! Fields are known by id, or by name where a writer put no ids. Whatever a
//! writer left out is `None`: version 1 may say neither counts nor partitions.

use super::avro::{Container, Cursor, Field, Kind, Result};
use super::entry::record;

/// One line of a manifest list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ListEntry {
    /// URI of the manifest.
    pub(crate) path: String,
    /// Its length.
    pub(crate) length: i64,
    /// The partition spec of its files.
    pub(crate) spec_id: i32,
    /// 0 data, 1 deletes.
    pub(crate) content: i32,
    /// Sequence number of the commit that added it; 0 if that was before version 2.
    pub(crate) sequence_number: i64,
    /// Lowest sequence number of its live files.
    pub(crate) min_sequence_number: i64,
    /// The snapshot that added it.
    pub(crate) added_snapshot_id: Option<i64>,
    /// Files added, there before, and deleted by that snapshot.
    pub(crate) files: [Option<i64>; 3],
    /// Rows of these.
    pub(crate) rows: [Option<i64>; 3],
    /// What is said about each field of the partition spec.
    pub(crate) partitions: Vec<FieldSummary>,
    /// Whether it is encrypted.
    pub(crate) encrypted: bool,
    /// Where the row ids of its data files begin, for those that have none written down.
    pub(crate) first_row_id: Option<i64>,
}

/// What a line says about one partition field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FieldSummary {
    /// Whether a file has NULL there.
    pub(crate) contains_null: bool,
    /// Whether a file has NaN there, if that is said.
    pub(crate) contains_nan: Option<bool>,
    /// Least value, in Iceberg's single-value encoding.
    pub(crate) lower: Option<Vec<u8>>,
    /// Greatest value.
    pub(crate) upper: Option<Vec<u8>>,
}

/// Every line of a manifest list.
pub(super) fn read_list(bytes: &[u8]) -> Result<Vec<ListEntry>> {
    let container = Container::open(bytes)?;
    let fields: Vec<(i32, &Kind)> =
        record(container.kind())?.iter().map(|field| (id(field, &FIELDS), &field.kind)).collect();
    if !fields.iter().any(|(id, _)| *id == PATH) {
        return Err("a manifest list without paths".to_owned());
    }
    let mut entries = Vec::new();
    container.for_each(|cursor| {
        let mut entry = ListEntry::default();
        for (id, kind) in &fields {
            entry.read_field(*id, cursor, kind)?;
        }
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

const PATH: i32 = 500;

/// Ids by the names that writers have used.
const FIELDS: [(i32, &str); 19] = [
    (PATH, "manifest_path"),
    (501, "manifest_length"),
    (502, "partition_spec_id"),
    (503, "added_snapshot_id"),
    (504, "added_files_count"),
    (504, "added_data_files_count"),
    (505, "existing_files_count"),
    (505, "existing_data_files_count"),
    (506, "deleted_files_count"),
    (506, "deleted_data_files_count"),
    (507, "partitions"),
    (512, "added_rows_count"),
    (513, "existing_rows_count"),
    (514, "deleted_rows_count"),
    (515, "sequence_number"),
    (516, "min_sequence_number"),
    (517, "content"),
    (519, "key_metadata"),
    (520, "first_row_id"),
];

const SUMMARY_FIELDS: [(i32, &str); 4] =
    [(509, "contains_null"), (510, "lower_bound"), (511, "upper_bound"), (518, "contains_nan")];

fn id(field: &Field, names: &[(i32, &str)]) -> i32 {
    let named = || names.iter().find(|(_, name)| *name == field.name).map(|(id, _)| *id);
    field.id.or_else(named).unwrap_or(-1)
}

impl ListEntry {
    fn read_field(&mut self, id: i32, cursor: &mut Cursor<'_>, kind: &Kind) -> Result<()> {
        match id {
            PATH => self.path = cursor.optional_text(kind)?.ok_or("a manifest without a path")?.to_owned(),
            501 => self.length = cursor.optional_long(kind)?.unwrap_or(0),
            502 => self.spec_id = cursor.optional_int(kind)?.unwrap_or(0),
            503 => self.added_snapshot_id = cursor.optional_long(kind)?,
            504..=506 => self.files[(id - 504) as usize] = cursor.optional_long(kind)?,
            512..=514 => self.rows[(id - 512) as usize] = cursor.optional_long(kind)?,
            507 => {
                let partitions = &mut self.partitions;
                cursor.each_item(kind, |cursor, kind| {
                    partitions.push(summary(cursor, kind)?);
                    Ok(())
                })?;
            }
            515 => self.sequence_number = cursor.optional_long(kind)?.unwrap_or(0),
            516 => self.min_sequence_number = cursor.optional_long(kind)?.unwrap_or(0),
            517 => self.content = cursor.optional_int(kind)?.unwrap_or(0),
            519 => self.encrypted = cursor.optional_bytes(kind)?.is_some(),
            520 => self.first_row_id = cursor.optional_long(kind)?,
            _ => cursor.skip(kind)?,
        }
        Ok(())
    }
}

fn summary(cursor: &mut Cursor<'_>, kind: &Kind) -> Result<FieldSummary> {
    // Without a word NULL may be there.
    let mut summary = FieldSummary { contains_null: true, ..FieldSummary::default() };
    for field in record(cursor.branch(kind)?)? {
        match id(field, &SUMMARY_FIELDS) {
            509 => summary.contains_null = cursor.optional_boolean(&field.kind)?.unwrap_or(true),
            510 => summary.lower = cursor.optional_bytes(&field.kind)?.map(<[u8]>::to_vec),
            511 => summary.upper = cursor.optional_bytes(&field.kind)?.map(<[u8]>::to_vec),
            518 => summary.contains_nan = cursor.optional_boolean(&field.kind)?,
            _ => cursor.skip(&field.kind)?,
        }
    }
    Ok(summary)
}
