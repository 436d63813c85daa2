//! Which partition each row of a batch belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, NullArray, RecordBatch, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::scalar::ScalarValue;

use super::{PartitionSpec, Transform};
use crate::field_id;

/// A partition tuple in a form that can be compared and hashed.
pub(super) type Key = Box<[u8]>;

/// The rows of one batch that share a partition.
pub(super) struct Group {
    pub(super) key: Key,
    /// Row numbers, ascending.
    pub(super) rows: Vec<u32>,
}

/// Splits batches of a table's file schema by partition tuple.
pub(super) struct Splitter {
    fields: Vec<Source>,
    converter: RowConverter,
}

struct Source {
    name: String,
    transform: Transform,
    /// Positions from the schema's root down to the column; empty for a void field.
    path: Vec<usize>,
    result_type: DataType,
}

impl Splitter {
    pub(super) fn new(spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        let fields =
            spec.fields.iter().map(|field| Source::new(field, schema)).collect::<Result<Vec<_>>>()?;
        let sorted = fields.iter().map(|field| SortField::new(field.result_type.clone())).collect();
        Ok(Self { fields, converter: RowConverter::new(sorted)? })
    }

    pub(super) fn is_partitioned(&self) -> bool {
        !self.fields.is_empty()
    }

    /// The fields of the partition tuple, as columns to be sorted by.
    pub(super) fn key_fields(&self) -> Vec<Field> {
        let fields = self.fields.iter().enumerate();
        fields
            .map(|(i, field)| Field::new(format!("#{i}:{}", field.name), field.result_type.clone(), true))
            .collect()
    }

    /// The partition tuples of `batch`, one column a field.
    pub(super) fn keys(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.fields.iter().map(|field| field.values(batch)).collect()
    }

    /// The groups of rows with equal `keys`, in the order in which they appear.
    pub(super) fn groups(&self, keys: &[ArrayRef]) -> Result<Vec<Group>> {
        let rows = self.converter.convert_columns(keys)?;
        let mut groups: Vec<Group> = Vec::new();
        let mut index: HashMap<Key, usize> = HashMap::new();
        let mut last: Option<usize> = None;
        for (i, row) in rows.iter().enumerate() {
            let key = row.as_ref();
            let group = match last {
                // Rows often come in runs.
                Some(group) if groups[group].key.as_ref() == key => group,
                _ => *index.entry(Key::from(key)).or_insert_with(|| {
                    groups.push(Group { key: Key::from(key), rows: Vec::new() });
                    groups.len() - 1
                }),
            };
            groups[group].rows.push(i as u32);
            last = Some(group);
        }
        Ok(groups)
    }

    /// The partition tuple of row `row`.
    pub(super) fn tuple(keys: &[ArrayRef], row: usize) -> Result<Vec<Option<ScalarValue>>> {
        let values = keys.iter().map(|key| {
            let value = ScalarValue::try_from_array(key, row)?;
            Ok((!value.is_null()).then_some(value))
        });
        values.collect()
    }
}

impl Source {
    fn new(field: &super::PartitionField, schema: &Schema) -> Result<Self> {
        let (path, result_type) = if field.transform == Transform::Void {
            // The column may be gone from the schema.
            (Vec::new(), DataType::Null)
        } else {
            let Some((path, source)) = find(schema.fields(), field.source_id) else {
                return plan_err!(
                    "partition field {:?}: there is no column with field id {}",
                    field.name,
                    field.source_id
                );
            };
            (path, field.transform.result_type(source.data_type())?)
        };
        Ok(Self { name: field.name.clone(), transform: field.transform, path, result_type })
    }

    fn values(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let Some((first, rest)) = self.path.split_first() else {
            return Ok(Arc::new(NullArray::new(batch.num_rows())));
        };
        let mut column = Arc::clone(batch.column(*first));
        for position in rest {
            let Some(parent) = column.as_struct_opt() else {
                return exec_err!("the source of partition field {:?} is not in a struct", self.name);
            };
            let nulls = parent.nulls().cloned();
            column = mask(parent.column(*position), nulls.as_ref())?;
        }
        self.transform.apply(&column)
    }
}

/// The position and field of the column with this id, also inside structs.
fn find(fields: &Fields, id: i32) -> Option<(Vec<usize>, &Field)> {
    fields.iter().enumerate().find_map(|(position, field)| {
        if field_id(field) == Some(id) {
            return Some((vec![position], field.as_ref()));
        }
        let DataType::Struct(children) = field.data_type() else {
            return None;
        };
        let (mut path, field) = find(children, id)?;
        path.insert(0, position);
        Some((path, field))
    })
}

/// `array` with the NULLs of its parent added.
fn mask(array: &ArrayRef, parent: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(parent) = parent else {
        return Ok(Arc::clone(array));
    };
    let nulls = NullBuffer::union(Some(parent), array.nulls());
    Ok(make_array(array.to_data().into_builder().nulls(nulls).build()?))
}
