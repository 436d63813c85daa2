//! Position deletes: rows by data file and place.
//!
//! A file of them is read once and kept whole, by data file, since it is
//! likely to be about many. Rows are in no order that could be relied on, some
//! are there twice, and some are about data files or rows that do not exist.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

use crate::task::FIELD_ID_KEY;

/// Field ids of the columns: reserved by the specification.
const FILE_PATH_ID: i32 = 2_147_483_546;
const POS_ID: i32 = 2_147_483_545;

/// Deleted positions, by the data file's location exactly as it is written.
#[derive(Debug, Default)]
pub(super) struct FilePositions {
    files: HashMap<Box<str>, Arc<RoaringTreemap>>,
}

impl FilePositions {
    /// Takes in rows read with [`schema`].
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let paths = batch.column(0).as_string_view();
        let positions = batch.column(1).as_primitive::<Int64Type>();
        if paths.null_count() > 0 || positions.null_count() > 0 {
            return Err("a position delete with a NULL".to_owned());
        }
        // Rows of one data file are nearly always neighbours.
        let mut start = 0;
        while start < paths.len() {
            let path = paths.value(start);
            let end = (start + 1..paths.len()).find(|row| paths.value(*row) != path).unwrap_or(paths.len());
            let bitmap = match self.files.get_mut(path) {
                Some(bitmap) => bitmap,
                None => self.files.entry(path.into()).or_default(),
            };
            let bitmap = Arc::make_mut(bitmap);
            for position in &positions.values()[start..end] {
                let position =
                    u64::try_from(*position).map_err(|_| format!("position {position} is negative"))?;
                bitmap.insert(position);
            }
            start = end;
        }
        Ok(())
    }

    pub(super) fn of(&self, data_file: &str) -> Option<&Arc<RoaringTreemap>> {
        self.files.get(data_file)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.files.iter().map(|(path, bitmap)| path.len() + 64 + bitmap_bytes(bitmap)).sum()
    }
}

/// The columns that are read of a position delete file.
pub(super) fn schema() -> SchemaRef {
    let field = |id: i32, name, data_type| {
        let metadata = [(FIELD_ID_KEY.to_owned(), id.to_string())].into();
        Field::new(name, data_type, false).with_metadata(metadata)
    };
    Arc::new(Schema::new(vec![
        field(FILE_PATH_ID, "file_path", DataType::Utf8View),
        field(POS_ID, "pos", DataType::Int64),
    ]))
}

/// About what a bitmap takes in memory.
pub(super) fn bitmap_bytes(bitmap: &RoaringTreemap) -> usize {
    size_of::<RoaringTreemap>() + bitmap.serialized_size() + bitmap.bitmaps().count() * 64
}

/// The rows of a file that are left; `None` if none is deleted. Positions beyond the file mean nothing.
pub(super) fn selection(deleted: &RoaringTreemap, rows: u64) -> Option<ParquetRowSelection> {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = 0;
    for position in deleted.iter().take_while(|position| *position < rows) {
        if position > next || selectors.is_empty() {
            if position > next {
                selectors.push(RowSelector::select((position - next) as usize));
            }
            selectors.push(RowSelector::skip(1));
        } else if let Some(last) = selectors.last_mut() {
            last.row_count += 1;
        }
        next = position + 1;
    }
    if selectors.is_empty() {
        return None;
    }
    if next < rows {
        selectors.push(RowSelector::select((rows - next) as usize));
    }
    Some(ParquetRowSelection::new(RowSelection::from(selectors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_cover_the_file_and_ignore_what_is_beyond() {
        let of = |deleted: &[u64], rows| {
            let deleted = deleted.iter().copied().collect();
            selection(&deleted, rows).map(|selection| Vec::<RowSelector>::from(selection.into_inner()))
        };
        let (skip, select) = (RowSelector::skip, RowSelector::select);
        assert_eq!(of(&[], 10), None);
        assert_eq!(of(&[10, 99], 10), None);
        assert_eq!(of(&[0, 1, 5, 9], 10), Some(vec![skip(2), select(3), skip(1), select(3), skip(1)]));
        assert_eq!(of(&[4, 200], 10), Some(vec![select(4), skip(1), select(5)]));
        assert_eq!(of(&[0, 1, 2], 3), Some(vec![skip(3)]));
        assert_eq!(of(&[0], 0), None);
    }
}
