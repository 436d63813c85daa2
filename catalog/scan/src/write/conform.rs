//! Rows as the engine has them, made into rows as the file has them.
//!
//! The engine's batches come with its own nested field names, without field ids
//! and with views; a file has the table's fields, plain strings and no NULL in
//! a required column. Columns are matched by position, at every level.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};

use super::transform::plain;

/// The schema of a table's files: its own, without views.
pub(super) fn file_schema(table: &Schema) -> SchemaRef {
    Arc::new(Schema::new(file_fields(table.fields())))
}

/// `batch` with the columns of `schema`; an error names the column that does not fit.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef, table: &str) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        let column = conform_array(column, field, field.name())
            .map_err(|e| e.context(format!("cannot write to table {table}")))?;
        check_required(&column, field, field.name(), None, table)?;
        Ok(column)
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
}

fn file_fields(fields: &Fields) -> Fields {
    fields.iter().map(file_field).collect()
}

fn file_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(file_fields(fields)),
        DataType::List(element) | DataType::LargeList(element) | DataType::ListView(element) => {
            DataType::List(file_field(element))
        }
        DataType::Map(entries, sorted) => DataType::Map(file_field(entries), *sorted),
        other => plain(other),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

fn conform_array(array: &ArrayRef, field: &Field, path: &str) -> Result<ArrayRef> {
    match (array.data_type(), field.data_type()) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let array = array.as_struct();
            Ok(Arc::new(conform_struct(array, fields, path)?))
        }
        (DataType::List(_), DataType::List(element)) => {
            let array = array.as_list::<i32>();
            let values = conform_array(array.values(), element, &format!("{path}.element"))?;
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls)?))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let array = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return exec_err!("the entries of map column {path:?} are not a struct");
            };
            let values = conform_struct(array.entries(), fields, path)?;
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, values, nulls, *sorted)?))
        }
        (from, to) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, to, &options).map_err(|e| {
                DataFusionError::from(e).context(format!("column {path:?} of type {to} does not take {from}"))
            })
        }
    }
}

fn conform_struct(array: &StructArray, fields: &Fields, path: &str) -> Result<StructArray> {
    if array.num_columns() != fields.len() {
        return exec_err!(
            "struct column {path:?} has {} fields, but the value has {}",
            fields.len(),
            array.num_columns()
        );
    }
    let children = array.columns().iter().zip(fields);
    let children =
        children.map(|(child, field)| conform_array(child, field, &format!("{path}.{}", field.name())));
    let children = children.collect::<Result<Vec<_>>>()?;
    // The NULLs of required children are looked for afterwards, with a message of our own.
    let lenient =
        fields.iter().map(|field| Arc::new(Field::clone(field).with_nullable(true))).collect::<Fields>();
    let checked = StructArray::try_new_with_length(lenient, children, array.nulls().cloned(), array.len())?;
    for (child, field) in checked.columns().iter().zip(fields) {
        check_required(child, field, &format!("{path}.{}", field.name()), checked.nulls(), "")?;
    }
    let (_, children, nulls) = checked.into_parts();
    Ok(StructArray::try_new_with_length(fields.clone(), children, nulls, array.len())?)
}

/// An error if a required field holds a NULL that no NULL of its parent covers.
fn check_required(
    array: &ArrayRef,
    field: &Field,
    path: &str,
    parent: Option<&NullBuffer>,
    table: &str,
) -> Result<()> {
    if field.is_nullable() {
        return Ok(());
    }
    let Some(nulls) = array.logical_nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(());
    };
    if parent.is_some_and(|parent| parent.contains(&nulls)) {
        return Ok(());
    }
    let place = if table.is_empty() { String::new() } else { format!(" of table {table}") };
    Err(exec_datafusion_err!("column {path:?}{place} is required and takes no NULL"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn nested_columns_take_the_names_and_types_of_the_table() {
        let element = Arc::new(Field::new("element", DataType::Int64, true));
        let inner = Fields::from(vec![Field::new("a", DataType::Utf8View, true)]);
        let table = Schema::new(vec![
            Field::new("l", DataType::List(element), true),
            Field::new("s", DataType::Struct(inner), true),
        ]);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["x", "y"]));
        let row = StructArray::from(vec![(Arc::new(Field::new("c0", DataType::Utf8View, true)), text)]);
        let batch = RecordBatch::try_from_iter([
            ("c1", Arc::new(list) as ArrayRef),
            ("c2", Arc::new(row) as ArrayRef),
        ])
        .unwrap();

        let file = conform(&batch, &file_schema(&table), "t").unwrap();

        let values = file.column(0).as_list::<i32>().values();
        assert_eq!(values.as_ref(), &Int64Array::from(vec![Some(1), None]));
        assert_eq!(
            file.column(1).as_struct().column_by_name("a").unwrap().as_ref(),
            &StringArray::from(vec!["x", "y"])
        );
    }

    #[test]
    fn a_null_in_a_required_column_is_an_error_that_names_it() {
        let table = Schema::new(vec![Field::new("id", DataType::Int32, false)]);
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("x", ids, true)]).unwrap();
        let error = conform(&batch, &file_schema(&table), "c.s.t").unwrap_err().to_string();
        assert!(error.contains("column \"id\" of table c.s.t is required"), "{error}");
    }

    #[test]
    fn a_required_field_of_a_null_struct_may_be_null() {
        let fields = Fields::from(vec![Field::new("a", DataType::Int32, false)]);
        let table = Schema::new(vec![Field::new("s", DataType::Struct(fields), true)]);
        let given = Fields::from(vec![Field::new("a", DataType::Int32, true)]);
        let make = |values: Vec<Option<i32>>| {
            let child: ArrayRef = Arc::new(Int32Array::from(values));
            let nulls = NullBuffer::from(vec![true, false]);
            let row: ArrayRef = Arc::new(StructArray::new(given.clone(), vec![child], Some(nulls)));
            RecordBatch::try_from_iter([("s", row)]).unwrap()
        };
        assert!(conform(&make(vec![Some(1), None]), &file_schema(&table), "t").is_ok());
        let error = conform(&make(vec![None, None]), &file_schema(&table), "t").unwrap_err().to_string();
        assert!(error.contains("\"s.a\""), "{error}");
    }

    #[test]
    fn a_value_that_does_not_fit_its_type_is_an_error_not_a_null() {
        let table = Schema::new(vec![Field::new("n", DataType::Int32, true)]);
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        let batch = RecordBatch::try_from_iter([("n", wide)]).unwrap();
        assert!(conform(&batch, &file_schema(&table), "t").is_err());
    }
}
