//! Equality deletes applied to what is read: key columns are read besides, and taken away again.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema};
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};

use super::cache::LoadedIndex;
use super::equality::{Place, leaf, positions};
use super::{EqualityDeletes, EqualityKey};
use crate::error::Error;
use crate::task::{TableScan, field_id};

/// Begins the name of a column that is read only for its keys; no column of a table begins so.
const KEY_COLUMN: char = '\u{1e}';

/// The columns that some lists of deletes compare, found in a table or, if they were dropped, added to it.
#[derive(Debug)]
pub(crate) struct KeyColumns {
    /// The table with the dropped columns behind its own.
    pub(crate) scan: Arc<TableScan>,
    /// Indexes of the columns.
    columns: Vec<usize>,
    /// By list of deletes: for each key, which of the columns it is in and where.
    keys: Vec<Vec<Place>>,
}

impl KeyColumns {
    pub(crate) fn new(scan: &TableScan, lists: &[&[EqualityKey]], file: &str) -> Result<Self> {
        let mut fields: Vec<_> = scan.schema.fields().iter().cloned().collect();
        let mut columns = Vec::new();
        let mut keys = Vec::with_capacity(lists.len());
        for list in lists {
            let mut places = Vec::with_capacity(list.len());
            for key in *list {
                let id = field_id(&key.field);
                let known = fields.iter().position(|field| id.is_some() && field_id(field) == id);
                let index = known.unwrap_or_else(|| {
                    let name = format!("{KEY_COLUMN}{}", id.unwrap_or_default());
                    let field = Field::clone(&key.field).with_name(name).with_nullable(true);
                    fields.push(Arc::new(field));
                    fields.len() - 1
                });
                let place =
                    positions(fields[index].data_type(), &key.path).ok_or_else(|| Error::NotSupported {
                        table: scan.table.clone(),
                        feature: format!(
                            "an equality delete by a dropped field of column {:?}",
                            key.field.name()
                        ),
                        file: file.to_owned(),
                    })?;
                let column = columns.iter().position(|known| *known == index).unwrap_or_else(|| {
                    columns.push(index);
                    columns.len() - 1
                });
                places.push((column, place));
            }
            keys.push(places);
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { scan: Arc::new(TableScan { schema, ..scan.clone() }), columns, keys })
    }

    /// A projection with the key columns behind what it has.
    pub(crate) fn projection(&self, visible: &ProjectionExprs) -> ProjectionExprs {
        let key = |index: &usize| {
            let name = self.scan.schema.field(*index).name();
            let alias = format!("{KEY_COLUMN}key {index}");
            ProjectionExpr::new(Arc::new(Column::new(name, *index)), alias)
        };
        visible.iter().cloned().chain(self.columns.iter().map(key)).collect()
    }
}

/// Takes deleted rows out of the batches of one data file.
#[derive(Debug)]
pub(crate) struct EqualityFilter {
    columns: Arc<KeyColumns>,
    indexes: Vec<LoadedIndex>,
    data_sequence_number: i64,
    /// Columns of a batch in front of the key columns.
    visible: usize,
}

impl EqualityFilter {
    /// `indexes` are those of the lists that `columns` was made of, in the same order.
    pub(crate) fn new(
        columns: Arc<KeyColumns>,
        indexes: Vec<LoadedIndex>,
        data_sequence_number: i64,
        visible: usize,
    ) -> Self {
        Self { columns, indexes, data_sequence_number, visible }
    }

    /// The rows that are left, without the key columns.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let visible: Vec<usize> = (0..self.visible).collect();
        let mut kept = None;
        for (loaded, keys) in self.indexes.iter().zip(&self.columns.keys) {
            let key = |(column, place): &Place| leaf(batch.column(self.visible + column), place);
            let keys = keys.iter().map(key).collect::<Result<Vec<_>>>()?;
            let more = loaded.index().kept(&keys, self.data_sequence_number)?;
            kept = Some(match kept {
                Some(kept) => &kept & &more,
                None => more,
            });
        }
        let shown = batch.project(&visible)?;
        match kept {
            Some(kept) if kept.count_set_bits() < batch.num_rows() => {
                Ok(filter_record_batch(&shown, &BooleanArray::new(kept, None))?)
            }
            _ => Ok(shown),
        }
    }
}

/// The keys of some lists.
pub(crate) fn keys_of(lists: &[Arc<EqualityDeletes>]) -> Vec<&[EqualityKey]> {
    lists.iter().map(|list| list.keys.as_slice()).collect()
}
