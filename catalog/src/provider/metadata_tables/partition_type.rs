//! The struct that the partition values of all of a table's specs fit into.
//!
//! One field for each partition field id, as Iceberg's `Partitioning.partitionType`
//! has it; a file has NULL in the fields that its own spec lacks.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use chrono::{Datelike, NaiveDate};
use datafusion::scalar::ScalarValue;
use tarn_scan::write::Transform;

use super::internal;
use crate::error::Result;
use crate::iceberg::Metadata;

/// A partition tuple by its fields' ids.
pub(super) type Tuple = Vec<(i32, Option<ScalarValue>)>;

/// The fields of all specs.
#[derive(Clone, Debug)]
pub(super) struct PartitionType {
    ids: Vec<i32>,
    fields: Fields,
}

impl PartitionType {
    pub(super) fn new(metadata: &Metadata) -> Self {
        let (mut ids, mut fields): (Vec<i32>, Vec<Field>) = (Vec::new(), Vec::new());
        // The newest name and transform of a field count.
        for spec in metadata.partition_specs().iter().rev() {
            for field in &spec.fields {
                let Some(data_type) = metadata.partition_field_type(field) else { continue };
                if ids.contains(&field.field_id) {
                    continue;
                }
                ids.push(field.field_id);
                fields.push(Field::new(&field.name, data_type, true));
            }
        }
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|index| ids[*index]);
        Self {
            fields: order.iter().map(|index| fields[*index].clone()).collect(),
            ids: order.iter().map(|index| ids[*index]).collect(),
        }
    }

    /// Whether no spec has any field.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn data_type(&self) -> DataType {
        DataType::Struct(self.fields.clone())
    }

    /// Tuples as an array.
    pub(super) fn array(&self, tuples: &[Tuple]) -> Result<ArrayRef> {
        let column = |(id, field): (&i32, &Arc<Field>)| {
            let null = ScalarValue::try_new_null(field.data_type()).map_err(internal)?;
            let value = |tuple: &Tuple| {
                let value = tuple.iter().find(|(own, _)| own == id).and_then(|(_, value)| value.clone());
                // A value from before the column's type was widened.
                let value = value.and_then(|value| value.cast_to(field.data_type()).ok());
                value.unwrap_or_else(|| null.clone())
            };
            if tuples.is_empty() {
                return Ok(arrow::array::new_empty_array(field.data_type()));
            }
            ScalarValue::iter_to_array(tuples.iter().map(value)).map_err(internal)
        };
        let columns = self.ids.iter().zip(&self.fields).map(column).collect::<Result<Vec<_>>>()?;
        let array = StructArray::try_new_with_length(self.fields.clone(), columns, None, tuples.len());
        Ok(Arc::new(array.map_err(internal)?))
    }
}

/// A partition value as people read it: a month as `2024-03`, an hour as `2024-03-01-17`.
pub(super) fn human(transform: Transform, value: &ScalarValue) -> Option<String> {
    let number = match value {
        ScalarValue::Int32(Some(number)) | ScalarValue::Date32(Some(number)) => i64::from(*number),
        _ => return Some(plain(value)),
    };
    let day = |number: i64| NaiveDate::default().checked_add_signed(chrono::TimeDelta::try_days(number)?);
    match transform {
        Transform::Year => Some((1970 + number).to_string()),
        Transform::Month => {
            Some(format!("{:04}-{:02}", 1970 + number.div_euclid(12), number.rem_euclid(12) + 1))
        }
        Transform::Hour => {
            let date = day(number.div_euclid(24))?;
            let (year, month, day) = (date.year(), date.month(), date.day());
            Some(format!("{year:04}-{month:02}-{day:02}-{:02}", number.rem_euclid(24)))
        }
        Transform::Day => day(number).map(|date| date.to_string()),
        _ if matches!(value, ScalarValue::Date32(_)) => day(number).map(|date| date.to_string()),
        _ => Some(plain(value)),
    }
}

fn plain(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Utf8View(Some(text)) => text.clone(),
        other => other.to_string(),
    }
}
