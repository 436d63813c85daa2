//! Bound parameters: whatever arrays a client sends, made plain.
//!
//! Clients bind what they have, not what was declared: a DenseUnion for each value
//! (flightsql-dbapi), Arrow types of Python values (ADBC), dictionaries and views (polars). Here
//! they become plain arrays; a value is given its declared type only if nothing is lost by it.

use std::sync::Arc;

use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{concat_batches, interleave, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use futures::{StreamExt, TryStreamExt, future};
use tonic::Status;

use super::row_size::batch_bytes;
use super::service::Incoming;
use super::status;
use super::wire_stream::cast_array;
use super::wire_types::{Profile, wire_schema};
use crate::error::{Error, ErrorCode, Result};

/// Bytes of parameters that one call may bind.
const BYTES_MAX: usize = 64 << 20;

/// Reads the batches of a DoPut into one; `None` if there are no columns.
pub(super) async fn read(messages: Incoming) -> std::result::Result<Option<RecordBatch>, Status> {
    // The descriptor may come in a message of its own, without an Arrow message in it.
    let messages = messages.try_filter(|message: &FlightData| future::ready(!message.data_header.is_empty()));
    let mut decoder = FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into));
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = decoder.next().await {
        let batch = batch.map_err(|failure| match failure {
            arrow_flight::error::FlightError::Tonic(status) => *status,
            other => status::invalid(format!("the bound parameters cannot be read: {other}")),
        })?;
        bytes += batch_bytes(&batch);
        if bytes > BYTES_MAX {
            let large = format!("more than {BYTES_MAX} bytes of parameters in one call");
            return Err(status::status(Error::new(ErrorCode::LimitExceeded, large)));
        }
        batches.push(batch);
    }
    let Some(schema) = decoder.schema().cloned().filter(|schema| !schema.fields().is_empty()) else {
        return Ok(None);
    };
    // Unions and dictionaries of different batches do not concatenate as they are.
    let plain: Vec<_> = batches.iter().map(plain_batch).collect::<Result<_>>().map_err(status::status)?;
    match plain.as_slice() {
        [] => Ok(Some(RecordBatch::new_empty(schema))),
        [batch] => Ok(Some(batch.clone())),
        [first, ..] => {
            let plain = concat_batches(&first.schema(), &plain);
            plain.map(Some).map_err(|_| status::invalid("the batches of parameters differ in their types"))
        }
    }
}

/// How bound values meet the types that the statement expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// A value takes the expected type if nothing is lost by it, and else keeps its own: in
    /// `a > ?`, 1.5 must not become 1 because `a` is an integer.
    Lossless,
    /// A value is stored in a column: it is cast to the column's type, as a literal would be.
    Assign,
}

/// Fits bound values to the parameters that the engine expects.
///
/// The engine plans with the expected types and inserts no cast when values take their place,
/// so a value of another unit or encoding would end up in the column as it is.
pub(super) fn fit(batch: &RecordBatch, expected: &[FieldRef], how: Fit) -> Result<RecordBatch> {
    let batch = plain_batch(batch)?;
    let (wanted, given) = (expected.len(), batch.num_columns());
    if wanted != given {
        return Err(Error::invalid(format!("the statement has {wanted} parameters, {given} were bound")));
    }
    let pairs = batch.columns().iter().zip(expected).enumerate();
    let columns = pairs.map(|(index, (column, field))| {
        fit_column(column, field.data_type(), how)
            .map_err(|failure| Error::invalid(format!("parameter {}: {}", index + 1, failure.message())))
    });
    with_columns(&batch, columns.collect::<Result<Vec<_>>>()?)
}

fn fit_column(column: &ArrayRef, expected: &DataType, how: Fit) -> Result<ArrayRef> {
    if column.data_type() == &DataType::Null {
        return Ok(new_null_array(expected, column.len()));
    }
    // Plain text is also what an unknown parameter is called: the value knows better.
    if expected == &DataType::Utf8 || column.data_type() == expected {
        return Ok(Arc::clone(column));
    }
    if how == Fit::Assign {
        return cast_array(column, expected);
    }
    let there_and_back = || -> Option<ArrayRef> {
        let there = cast_array(column, expected).ok()?;
        let back = cast_array(&there, column.data_type()).ok()?;
        (back.as_ref() == column.as_ref()).then_some(there)
    };
    Ok(there_and_back().unwrap_or_else(|| Arc::clone(column)))
}

fn plain_batch(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(plain_array).collect::<Result<Vec<_>>>()?;
    with_columns(batch, columns)
}

fn plain_array(array: &ArrayRef) -> Result<ArrayRef> {
    if let DataType::Union(..) = array.data_type() {
        return plain_array(&chosen_values(array)?);
    }
    let field = Field::new("parameter", array.data_type().clone(), true);
    let wire = wire_schema(&Schema::new(vec![field]), Profile::Compat);
    cast_array(array, wire.field(0).data_type())
}

/// The values of a union in one array: of their own type if all have the same, else as double
/// if all are numbers, else as text.
fn chosen_values(array: &ArrayRef) -> Result<ArrayRef> {
    let union = array.as_union();
    let rows: Vec<(i8, usize)> =
        (0..union.len()).map(|row| (union.type_id(row), union.value_offset(row))).collect();
    let is_null = |(id, offset): &(i8, usize)| {
        let child = union.child(*id);
        child.data_type() == &DataType::Null || child.is_null(*offset)
    };
    let mut used: Vec<i8> = rows.iter().filter(|row| !is_null(row)).map(|(id, _)| *id).collect();
    used.sort_unstable();
    used.dedup();
    match used.as_slice() {
        [] => Ok(new_null_array(&DataType::Null, rows.len())),
        [id] => {
            let offset = |row: &(i8, usize)| (!is_null(row)).then_some(row.1 as u32);
            Ok(take(union.child(*id), &rows.iter().map(offset).collect::<UInt32Array>(), None)?)
        }
        several => {
            let numeric = several.iter().all(|id| union.child(*id).data_type().is_numeric());
            let common = if numeric { DataType::Float64 } else { DataType::Utf8 };
            let children = several
                .iter()
                .map(|id| cast_array(&plain_array(union.child(*id))?, &common))
                .collect::<Result<Vec<_>>>()?;
            let nothing = new_null_array(&common, 1);
            let mut sources: Vec<&dyn Array> = children.iter().map(AsRef::as_ref).collect();
            sources.push(nothing.as_ref());
            let index = |row: &(i8, usize)| match several.iter().position(|id| *id == row.0) {
                Some(source) if !is_null(row) => (source, row.1),
                _ => (children.len(), 0),
            };
            Ok(interleave(&sources, &rows.iter().map(index).collect::<Vec<_>>())?)
        }
    }
}

fn with_columns(batch: &RecordBatch, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let schema = batch.schema();
    let named = schema.fields().iter().zip(&columns);
    let fields: Vec<_> =
        named.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray, NullArray, StringArray,
        StringViewArray, TimestampMillisecondArray, UnionArray,
    };
    use datafusion::arrow::buffer::ScalarBuffer;
    use datafusion::arrow::datatypes::{
        Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UnionFields,
    };

    use super::*;

    #[test]
    fn text_in_any_encoding_becomes_plain_text() {
        let dictionary: DictionaryArray<Int32Type> = vec!["a"].into_iter().collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(LargeStringArray::from(vec!["a"])),
            Arc::new(StringViewArray::from(vec!["a"])),
            Arc::new(dictionary),
        ];
        let plain =
            fit(&batch(columns), &expected(&[DataType::Utf8, DataType::Utf8, DataType::Utf8]), Fit::Lossless)
                .unwrap();
        for column in plain.columns() {
            assert_eq!(column.as_string::<i32>().value(0), "a");
        }
    }

    #[test]
    fn a_union_of_one_kind_keeps_its_type_and_its_nulls() {
        let children: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![7, 8])),
            Arc::new(StringArray::from(vec!["unused"])),
            Arc::new(NullArray::new(1)),
        ];
        let values = union(children, vec![0, 2, 0], vec![1, 0, 0]);
        let plain = fit(&batch(vec![values]), &expected(&[DataType::Utf8]), Fit::Lossless).unwrap();
        let column = plain.column(0).as_primitive::<Int64Type>();
        assert_eq!(column.iter().collect::<Vec<_>>(), [Some(8), None, Some(7)]);
    }

    #[test]
    fn a_union_of_numbers_is_a_number_and_of_anything_a_text() {
        let numbers: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![7])), Arc::new(Float64Array::from(vec![0.5]))];
        let plain = fit(
            &batch(vec![union(numbers, vec![0, 1], vec![0, 0])]),
            &expected(&[DataType::Utf8]),
            Fit::Lossless,
        )
        .unwrap();
        assert_eq!(plain.column(0).data_type(), &DataType::Float64);
        let mixed: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["x"]))];
        let plain = fit(
            &batch(vec![union(mixed, vec![1, 0], vec![0, 0])]),
            &expected(&[DataType::Utf8]),
            Fit::Lossless,
        )
        .unwrap();
        let texts: Vec<_> = plain.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["x", "7"]);
    }

    #[test]
    fn a_value_takes_its_declared_type_only_without_loss() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![5])),
            Arc::new(Float64Array::from(vec![1.5])),
            Arc::new(StringArray::from(vec!["2024-02-29"])),
            Arc::new(StringArray::from(vec!["not a date"])),
            Arc::new(NullArray::new(1)),
            Arc::new(Int64Array::from(vec![5_000_000_000])),
        ];
        let wanted = [
            DataType::Int64,
            DataType::Int64,
            DataType::Date32,
            DataType::Date32,
            DataType::Int64,
            DataType::Int32,
        ];
        let fitted = fit(&batch(columns), &expected(&wanted), Fit::Lossless).unwrap();
        let types: Vec<_> = fitted.columns().iter().map(|column| column.data_type().clone()).collect();
        let left = [
            DataType::Int64,
            DataType::Float64,
            DataType::Date32,
            DataType::Utf8,
            DataType::Int64,
            DataType::Int64,
        ];
        assert_eq!(types, left);
        assert!(fitted.column(4).is_null(0));
    }

    #[test]
    fn a_value_that_is_stored_is_cast_to_its_column_or_refused() {
        let millis = Arc::new(TimestampMillisecondArray::from(vec![1_500])) as ArrayRef;
        let columns: Vec<ArrayRef> =
            vec![millis, Arc::new(StringArray::from(vec!["x"])), Arc::new(Float64Array::from(vec![0.1]))];
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let wanted = [micros, DataType::Utf8View, DataType::Float32];
        let fitted = fit(&batch(columns), &expected(&wanted), Fit::Assign).unwrap();
        let types: Vec<_> = fitted.columns().iter().map(|column| column.data_type().clone()).collect();
        assert_eq!(types, wanted);
        assert_eq!(fitted.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_500_000);

        let text = batch(vec![Arc::new(StringArray::from(vec!["many"]))]);
        let refused = fit(&text, &expected(&[DataType::Int64]), Fit::Assign).unwrap_err();
        assert!(refused.message().starts_with("parameter 1: "), "{refused}");
    }

    #[test]
    fn too_few_values_are_refused() {
        let one = batch(vec![Arc::new(Int32Array::from(vec![5]))]);
        let refused = fit(&one, &expected(&[DataType::Int64, DataType::Int64]), Fit::Lossless).unwrap_err();
        assert_eq!(refused.message(), "the statement has 2 parameters, 1 were bound");
    }

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().enumerate().map(|(index, column)| (format!("{index}"), column, true)),
        )
        .unwrap()
    }

    fn expected(types: &[DataType]) -> Vec<FieldRef> {
        types.iter().map(|data_type| Arc::new(Field::new("$", data_type.clone(), true))).collect()
    }

    fn union(children: Vec<ArrayRef>, ids: Vec<i8>, offsets: Vec<i32>) -> ArrayRef {
        let fields = children.iter().enumerate();
        let fields = fields.map(|(index, child)| {
            (index as i8, Arc::new(Field::new(format!("{index}"), child.data_type().clone(), true)))
        });
        let fields: UnionFields = fields.collect();
        let (ids, offsets) = (ScalarBuffer::from(ids), ScalarBuffer::from(offsets));
        Arc::new(UnionArray::try_new(fields, ids, Some(offsets), children).unwrap())
    }
}
