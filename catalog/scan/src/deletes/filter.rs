//! Equality deletes applied to what is read: key columns are read besides, and taken away again.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr::utils::collect_columns;

use super::cache::LoadedIndex;
use super::equality::{Place, leaf, positions};
use super::joined::{Keys, no_keys};
use super::{Deletes, EqualityKey, JoinColumn};
use crate::error::Error;
use crate::task::{FileTask, TableScan, field_id};

/// Begins the name of a column that is read only for its keys; no column of a table begins so.
pub(super) const KEY_COLUMN: char = '\u{1e}';

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

/// Takes deleted rows out of the batches of one data file, and puts keys in for a join.
#[derive(Debug)]
pub(crate) struct EqualityFilter {
    columns: Arc<KeyColumns>,
    indexes: Vec<LoadedIndex>,
    data_sequence_number: i64,
    /// Columns of a batch in front of the key columns.
    visible: usize,
    /// The columns of a batch that are keys for a join.
    joined: Vec<JoinedKey>,
}

/// A column that is made of key columns.
#[derive(Debug)]
struct JoinedKey {
    /// Which of the visible columns it is.
    position: usize,
    /// The list that it is by, and how; `None` for a file that no delete of this layer is about.
    keys: Option<(usize, Keys)>,
}

impl EqualityFilter {
    /// `indexes` are those of the first of the lists that `columns` was made of, in the same order; the other lists
    /// are joined. `visible` are the expressions in front of the key columns, over the scan's schema.
    pub(crate) fn new(
        columns: Arc<KeyColumns>,
        indexes: Vec<LoadedIndex>,
        task: &FileTask,
        visible: &ProjectionExprs,
    ) -> Result<Self> {
        let mut joined = Vec::new();
        for (position, expr) in visible.expr_iter().enumerate() {
            let schema = &columns.scan.schema;
            let layer = |column: &Column| match JoinColumn::of_field(schema.fields().get(column.index())?) {
                Some(JoinColumn::Key(layer)) => Some(layer),
                _ => None,
            };
            let layer = match expr.downcast_ref::<Column>() {
                Some(column) => layer(column),
                None if collect_columns(&expr).iter().any(|column| layer(column).is_some()) => {
                    return internal_err!("a key of a join inside of an expression");
                }
                None => None,
            };
            let Some(layer) = layer else { continue };
            let place = task.deletes.joined.iter().position(|deletes| deletes.layer == layer);
            let keys = match place {
                Some(place) => Some((indexes.len() + place, Keys::new(&task.deletes.joined[place])?)),
                None => None,
            };
            joined.push(JoinedKey { position, keys });
        }
        let visible = visible.iter().count();
        Ok(Self { columns, indexes, data_sequence_number: task.data_sequence_number, visible, joined })
    }

    /// The rows that are left, without the key columns.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let visible: Vec<usize> = (0..self.visible).collect();
        let key = |(column, place): &Place| leaf(batch.column(self.visible + column), place);
        let mut kept = None;
        for (loaded, keys) in self.indexes.iter().zip(&self.columns.keys) {
            let keys = keys.iter().map(key).collect::<Result<Vec<_>>>()?;
            let more = loaded.index().kept(&keys, self.data_sequence_number)?;
            kept = Some(match kept {
                Some(kept) => &kept & &more,
                None => more,
            });
        }
        let mut shown = batch.project(&visible)?;
        if !self.joined.is_empty() {
            let mut columns = shown.columns().to_vec();
            for JoinedKey { position, keys } in &self.joined {
                columns[*position] = match keys {
                    Some((list, encoder)) => {
                        let keys = self.columns.keys[*list].iter().map(key).collect::<Result<Vec<_>>>()?;
                        encoder.encode(&keys)?
                    }
                    None => no_keys(batch.num_rows()),
                };
            }
            shown = RecordBatch::try_new(shown.schema(), columns)?;
        }
        match kept {
            Some(kept) if kept.count_set_bits() < batch.num_rows() => {
                Ok(filter_record_batch(&shown, &BooleanArray::new(kept, None))?)
            }
            _ => Ok(shown),
        }
    }
}

/// The keys of the lists of a file.
pub(crate) fn keys_of(deletes: &Deletes) -> Vec<&[EqualityKey]> {
    deletes.lists().map(|list| list.keys.as_slice()).collect()
}
