//! How many bytes the rows of a batch take on the wire, with every encoding expanded.
//!
//! Counts the rows of a slice, not the buffers behind it: a slice of three rows out of a million
//! is three rows. Walks offsets and views, never values, except for the keys of dictionaries.

use datafusion::arrow::array::{
    Array, AsArray, GenericByteArray, GenericByteViewArray, GenericListArray, OffsetSizeTrait, RecordBatch,
};
use datafusion::arrow::datatypes::{ByteArrayType, ByteViewType, DataType};

/// Bytes of a batch's rows.
pub(super) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| array_bytes(column)).sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    let validity = if array.nulls().is_some() { array.len().div_ceil(8) } else { 0 };
    validity + value_bytes(array)
}

fn value_bytes(array: &dyn Array) -> usize {
    use DataType as T;
    let rows = array.len();
    match array.data_type() {
        T::Utf8 => byte_array(array.as_string::<i32>()),
        T::LargeUtf8 => byte_array(array.as_string::<i64>()),
        T::Binary => byte_array(array.as_binary::<i32>()),
        T::LargeBinary => byte_array(array.as_binary::<i64>()),
        T::Utf8View => view_array(array.as_string_view()),
        T::BinaryView => view_array(array.as_binary_view()),
        T::List(_) => list_array(array.as_list::<i32>()),
        T::LargeList(_) => list_array(array.as_list::<i64>()),
        T::Map(..) => {
            let map = array.as_map();
            let (start, end) = (map.value_offsets()[0] as usize, map.value_offsets()[rows] as usize);
            4 * rows + array_bytes(&map.entries().slice(start, end - start))
        }
        T::FixedSizeList(_, size) => {
            let list = array.as_fixed_size_list();
            let start = list.value_offset(0) as usize;
            array_bytes(&list.values().slice(start, rows * *size as usize))
        }
        T::Struct(_) => array.as_struct().columns().iter().map(|column| array_bytes(column)).sum(),
        T::Dictionary(..) => dictionary_bytes(array),
        T::Boolean => rows.div_ceil(8),
        T::Null => 0,
        other => match other.primitive_width() {
            Some(width) => rows * width,
            None => match other {
                T::FixedSizeBinary(width) => rows * *width as usize,
                // Unions and run ends: the stored size is what can be said cheaply.
                _ => {
                    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size())
                }
            },
        },
    }
}

fn byte_array<T: ByteArrayType>(array: &GenericByteArray<T>) -> usize {
    use datafusion::arrow::datatypes::ArrowNativeType;
    let offsets = array.value_offsets();
    let width = size_of::<T::Offset>();
    width * array.len() + offsets[array.len()].as_usize() - offsets[0].as_usize()
}

fn view_array<T: ByteViewType + ?Sized>(array: &GenericByteViewArray<T>) -> usize {
    // The low 32 bits of a view are the length of its value.
    array.views().iter().map(|view| 16 + (*view as u32) as usize).sum()
}

fn list_array<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> usize {
    let offsets = array.value_offsets();
    let (start, end) = (offsets[0].as_usize(), offsets[array.len()].as_usize());
    size_of::<O>() * array.len() + array_bytes(&array.values().slice(start, end - start))
}

/// Bytes after each key has been replaced by its value.
fn dictionary_bytes(array: &dyn Array) -> usize {
    let dictionary = array.as_any_dictionary();
    let values = dictionary.values();
    if values.is_empty() {
        return 0;
    }
    let lengths: Vec<usize> = (0..values.len()).map(|index| array_bytes(&values.slice(index, 1))).collect();
    dictionary
        .normalized_keys()
        .into_iter()
        .enumerate()
        .filter(|(row, _)| dictionary.is_valid(*row))
        .map(|(_, key)| lengths[key])
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, DictionaryArray, Int64Array, ListArray, StringArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn a_slice_counts_its_rows_and_no_more() {
        let text = "t".repeat(1000);
        let texts = StringArray::from(vec![text.as_str(); 100]);
        assert_eq!(array_bytes(&texts.slice(10, 2)), 2 * 1004);
        let views = StringViewArray::from(vec![text.as_str(); 100]);
        assert_eq!(array_bytes(&views.slice(10, 2)), 2 * 1016);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..100).map(|_| Some((0..50).map(Some))).collect::<Vec<_>>(),
        );
        // The child's validity may or may not be kept.
        assert!((2 * 204..2 * 204 + 30).contains(&array_bytes(&list.slice(10, 2))));
    }

    #[test]
    fn a_dictionary_counts_what_its_keys_stand_for() {
        let long = "v".repeat(500);
        let values = [Some(long.as_str()), Some("s"), None, Some(long.as_str())];
        let dictionary: DictionaryArray<Int32Type> = values.into_iter().collect();
        let bytes = array_bytes(&dictionary);
        assert!((1000..1030).contains(&bytes), "{bytes}");
    }

    #[test]
    fn columns_add_up() {
        let numbers = Arc::new(Int64Array::from(vec![1; 10])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", Arc::clone(&numbers)), ("b", numbers)]).unwrap();
        assert_eq!(batch_bytes(&batch), 160);
    }
}
