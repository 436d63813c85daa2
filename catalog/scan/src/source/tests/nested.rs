//! Structs, lists and maps: what is read of them, however they evolved.

use arrow::array::{ListArray, StructArray};
use arrow::datatypes::Int32Type;
use datafusion::scalar::ScalarValue;
use parquet::file::writer::SerializedFileWriter;

use super::*;

#[tokio::test]
async fn nested_columns_are_read_and_evolve_by_id() {
    let fields = |fields: Vec<Field>| DataType::Struct(fields.into());
    let wanted = fields(vec![
        field(4, "renamed", DataType::Int64),
        field(6, "added", DataType::Utf8View),
        field(5, "n", DataType::Int32),
    ]);
    let list = |element| DataType::List(Arc::new(field(7, "element", element)));
    let stored = vec![
        (
            field(3, "s", fields(vec![field(5, "n", DataType::Int32), field(4, "old", DataType::Int32)])),
            Arc::new(StructArray::from(vec![
                (Arc::new(field(5, "n", DataType::Int32)), ints([1, 2])),
                (Arc::new(field(4, "old", DataType::Int32)), ints([10, 20])),
            ])) as ArrayRef,
        ),
        (field(2, "l", list(DataType::Int32)), {
            let values = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
            let (_, offsets, values, nulls) = values.into_parts();
            Arc::new(ListArray::new(Arc::new(field(7, "element", DataType::Int32)), offsets, values, nulls))
                as ArrayRef
        }),
    ];
    let table = || {
        Table::new(vec![field(2, "l", list(DataType::Int64)), field(3, "s", wanted.clone())])
            .file(stored.clone())
    };
    assert_eq!(
        table().sql("select * from t").await.unwrap(),
        "[1, ]|{renamed: 10, added: , n: 1}\n|{renamed: 20, added: , n: 2}"
    );
    assert_eq!(table().sql("select s['renamed'] from t where s['n'] = 2").await.unwrap(), "20");
    assert_eq!(
        table().sql("select s['n'] from t where s['added'] is null and s['renamed'] < 15").await.unwrap(),
        "1"
    );
    assert_eq!(table().sql("select s['n'] from t where l is null").await.unwrap(), "2");
}

#[tokio::test]
async fn a_struct_that_kept_none_of_its_fields_keeps_its_own_nulls() {
    let old = Arc::new(field(2, "old", DataType::Int32));
    let values = Int32Array::from(vec![Some(1), None, None]);
    let nulls = arrow::buffer::NullBuffer::from(vec![true, false, true]);
    let stored = StructArray::new(vec![Arc::clone(&old)].into(), vec![Arc::new(values)], Some(nulls));
    let new = row_type(vec![
        field(3, "new", DataType::Utf8View),
        with_default(field(4, "d", DataType::Int32), "8"),
    ]);
    let table = || {
        Table::new(vec![field(1, "s", new.clone()), field(9, "id", DataType::Int32)]).file(vec![
            (field(1, "s", row_type(vec![old.as_ref().clone()])), Arc::new(stored.clone()) as ArrayRef),
            (field(9, "id", DataType::Int32), ints(0..3)),
        ])
    };
    assert_eq!(table().sql("select id, s is null from t").await.unwrap(), "0|false\n1|true\n2|false");
    assert_eq!(table().sql("select id, s['d'], s['new'] from t").await.unwrap(), "0|8|\n1||\n2|8|");
    assert_eq!(table().sql("select id from t where s['d'] = 8").await.unwrap(), "0\n2");
    assert_eq!(table().sql("select id from t where s['new'] is null").await.unwrap(), "0\n1\n2");
}

#[tokio::test]
async fn a_field_read_alone_of_a_struct_that_evolved_is_the_same_as_within_it() {
    let inner =
        |name: &str, id: i32, t: DataType| row_type(vec![field(id, name, t), field(7, "z", DataType::Int32)]);
    let stored =
        row_type(vec![field(2, "a", DataType::Int32), field(3, "n", inner("x", 4, DataType::Int32))]);
    let DataType::Struct(fields) = &stored else { unreachable!() };
    let DataType::Struct(nested) = fields[1].data_type() else { unreachable!() };
    let nested = StructArray::new(nested.clone(), vec![ints([5, 6]), ints([7, 8])], None);
    let values = StructArray::new(fields.clone(), vec![ints([1, 2]), Arc::new(nested)], None);
    // `a` and `x` were renamed and widened, another `a` was added, `z` moved to the front.
    let wanted = row_type(vec![
        field(8, "a", DataType::Utf8View),
        field(3, "n", row_type(vec![field(7, "z", DataType::Int32), field(4, "y", DataType::Int64)])),
        field(2, "b", DataType::Int64),
    ]);
    let table = || {
        Table::new(vec![field(1, "s", wanted.clone())])
            .file(vec![(field(1, "s", stored.clone()), Arc::new(values.clone()) as ArrayRef)])
    };
    assert_eq!(
        table().sql("select * from t").await.unwrap(),
        "{a: , n: {z: 7, y: 5}, b: 1}\n{a: , n: {z: 8, y: 6}, b: 2}"
    );
    assert_eq!(table().sql("select s['n']['y'], s['b'], s['a'] from t").await.unwrap(), "5|1|\n6|2|");
    assert_eq!(table().sql("select s['n'], s['b'] from t").await.unwrap(), "{z: 7, y: 5}|1\n{z: 8, y: 6}|2");
    assert_eq!(table().sql("select s['b'] from t where s['n']['y'] > 5").await.unwrap(), "2");
    assert_eq!(table().sql("select arrow_typeof(s['n']['y']) from t limit 1").await.unwrap(), "Int64");
}

/// `s struct<a required, b, inner required struct<c required>, l required list>`, NULL in rows 2 and 4; `m` a list
/// of such structs without the last two. The files have one row group, and the table's very schema, or another.
fn required_in_optional(evolved: bool) -> Table {
    let inner = required(6, "inner", row_type(vec![required(7, "c", DataType::Int32)]));
    let list = required(8, "l", DataType::List(Arc::new(field(9, "element", DataType::Int32))));
    let s = row_type(vec![required(4, "a", DataType::Int32), field(5, "b", DataType::Int32), inner, list]);
    let pair = row_type(vec![required(12, "a", DataType::Int32), field(13, "b", DataType::Int32)]);
    let m = DataType::List(Arc::new(field(11, "element", pair.clone())));
    let columns = vec![required(1, "id", DataType::Int32), field(3, "s", s.clone()), field(10, "m", m)];

    let nulls = || Some(arrow::buffer::NullBuffer::from(vec![true, false, true, false]));
    let (DataType::Struct(fields), DataType::Struct(pair)) = (s, pair) else { unreachable!() };
    let DataType::Struct(inner) = fields[2].data_type() else { unreachable!() };
    let inner = StructArray::new(inner.clone(), vec![ints([7, 8, 9, 10])], None);
    let DataType::List(element) = fields[3].data_type() else { unreachable!() };
    let lengths = arrow::buffer::OffsetBuffer::from_lengths([1, 0, 1, 0]);
    let list = ListArray::new(Arc::clone(element), lengths, ints([1, 3]), None);
    let values: Vec<ArrayRef> =
        vec![ints([0, 20, 30, 40]), ints([1, 2, 3, 4]), Arc::new(inner), Arc::new(list)];
    let s = StructArray::new(fields, values, nulls());
    let pairs = StructArray::new(pair, vec![ints([0, 6, 7, 8]), ints([1, 2, 3, 4])], nulls());
    let DataType::List(element) = columns[2].data_type() else { unreachable!() };
    let lengths = arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1, 1]);
    let m = ListArray::new(Arc::clone(element), lengths, Arc::new(pairs), None);
    let file = columns.iter().cloned().zip([ints([1, 2, 3, 4]), Arc::new(s) as ArrayRef, Arc::new(m)]);
    let file = file.collect();
    let mut wanted = columns;
    if evolved {
        wanted[1] = wanted[1].clone().with_name("s");
        let DataType::Struct(fields) = wanted[1].data_type() else { unreachable!() };
        let mut fields: Vec<_> = fields.iter().map(|field| field.as_ref().clone()).collect();
        fields[0] = required(4, "a", DataType::Int64);
        fields.swap(0, 2);
        wanted[1] = field(3, "s", row_type(fields));
    }
    Table::new(wanted).file(file)
}

#[tokio::test]
async fn a_required_field_is_null_where_its_struct_is() {
    for evolved in [false, true] {
        for (sql, rows) in [
            ("select id from t where s.a is null", "2\n4"),
            ("select id from t where s.a is not null", "1\n3"),
            ("select id from t where s.a = 0", "1"),
            ("select id from t where s.a < 25", "1"),
            ("select id, s.a, s.b from t", "1|0|1\n2||\n3|30|3\n4||"),
            ("select count(s.a) as n, sum(s.a) as m, min(s.inner.c) as c from t", "2|30|7"),
            ("select id from t where s.inner is null", "2\n4"),
            ("select id from t where s.inner.c is null", "2\n4"),
            ("select id from t where s.l is null", "2\n4"),
            ("select id, coalesce(s.a, -1) as a from t where s.b is null", "2|-1\n4|-1"),
            ("select id, m[2]['a'] as a from t where m[2]['a'] is null", "1|\n2|\n3|\n4|"),
            ("select id, m[1]['a'] as a from t", "1|0\n2|\n3|7\n4|"),
            ("select id from t where s is null", "2\n4"),
            ("select s from t where id = 2", ""),
        ] {
            assert_eq!(
                required_in_optional(evolved).sql(sql).await.unwrap(),
                rows,
                "{sql}, evolved: {evolved}"
            );
        }
    }
}

#[tokio::test]
async fn a_field_that_the_file_lacks_has_the_value_of_its_partition() {
    let table = |with_field: bool| {
        let inner = |fields| required(4, "inner", row_type(fields));
        let region = required(5, "region", DataType::Utf8View);
        let wanted = row_type(vec![inner(vec![region.clone(), field(6, "x", DataType::Int32)])]);
        let x = field(6, "x", DataType::Int32);
        let (fields, values): (Vec<Field>, Vec<ArrayRef>) = match with_field {
            true => {
                (vec![region.with_data_type(DataType::Utf8), x], vec![strings(&["own"; 2]), ints([1, 2])])
            }
            false => (vec![x], vec![ints([1, 2])]),
        };
        let stored = inner(fields);
        let DataType::Struct(fields) = stored.data_type() else { unreachable!() };
        let values = StructArray::new(fields.clone(), values, None);
        let nulls = Some(arrow::buffer::NullBuffer::from(vec![true, false]));
        let s = StructArray::new(vec![stored].into(), vec![Arc::new(values)], nulls);
        let file = vec![
            (field(1, "id", DataType::Int32), ints([1, 2])),
            (field(3, "s", row_of(&s)), Arc::new(s) as _),
        ];
        let mut table = Table::new(vec![field(1, "id", DataType::Int32), field(3, "s", wanted)]).file(file);
        let constants = &mut table.task(0).constants;
        // Of a column that is gone, and of the field.
        constants.push((99, ScalarValue::Int32(Some(7))));
        constants.push((5, ScalarValue::Utf8View(Some("de".into()))));
        table
    };
    for (sql, rows) in [
        ("select id, s.inner.region, s.inner.x from t", "1|de|1\n2||"),
        ("select id from t where s.inner.region = 'de'", "1"),
        ("select id from t where s.inner.region is null", "2"),
        ("select s from t where id = 1", "{inner: {region: de, x: 1}}"),
        ("select count(s.inner.region) as n from t", "1"),
    ] {
        assert_eq!(table(false).sql(sql).await.unwrap(), rows, "{sql}");
    }
    let own = table(true).sql("select id from t where s.inner.region = 'own'").await;
    assert_eq!(own.unwrap(), "1");
    // Without the value it is missing.
    let mut without = table(false);
    without.task(0).constants.pop();
    let error = without.sql("select s from t").await.unwrap_err().to_string();
    assert!(error.contains("s.inner.region"), "{error}");
    let mut without = table(false);
    without.task(0).constants.pop();
    assert_eq!(without.sql("select sum(id) as n from t").await.unwrap(), "3");
}

fn row_of(array: &StructArray) -> DataType {
    use arrow::array::Array;
    array.data_type().clone()
}

#[tokio::test]
async fn lists_as_old_spark_wrote_them_are_read_by_name_mapping() {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    let message = "message spark_schema {
        optional group l (LIST) { repeated group bag { optional int64 array; } }
        optional group ls (LIST) { repeated group array { required int64 p; required binary q (UTF8); } }
        optional group m (MAP) { repeated group key_value (MAP_KEY_VALUE) {
            required binary key (UTF8); required int64 value; } } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
    let element = row_type(vec![field(7, "p", DataType::Int64), field(8, "q", DataType::Utf8View)]);
    let pair = vec![required(9, "key", DataType::Utf8View), field(10, "value", DataType::Int64)];
    let map = DataType::Map(Arc::new(Field::new("key_value", row_type(pair), false)), false);
    let mapping = r#"[{"field-id": 2, "names": ["l"], "fields": [{"field-id": 5, "names": ["element"]}]},
        {"field-id": 3, "names": ["ls"], "fields": [{"field-id": 6, "names": ["element"], "fields": [
            {"field-id": 7, "names": ["p"]}, {"field-id": 8, "names": ["q"]}]}]},
        {"field-id": 4, "names": ["m"], "fields": [
            {"field-id": 9, "names": ["key"]}, {"field-id": 10, "names": ["value"]}]}]"#;
    let mut table = Table::new(vec![
        field(2, "l", DataType::List(Arc::new(field(5, "element", DataType::Int64)))),
        field(3, "ls", DataType::List(Arc::new(field(6, "element", element)))),
        field(4, "m", map),
    ])
    .with_name_mapping(mapping)
    .file(vec![(field(1, "x", DataType::Int32), ints([0, 0, 0]))]);
    let file = std::fs::File::create(table.path(0)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // Three rows: one or two values, nothing there, an empty list.
    let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[1], Some(&[3, 2, 0, 1]), Some(&[0, 1, 0, 0])).unwrap();
    column.close().unwrap();
    let levels = (Some(&[2, 0, 1][..]), Some(&[0, 0, 0][..]));
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[2], levels.0, levels.1).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[text("q")], levels.0, levels.1).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[text("k")], levels.0, levels.1).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[3], levels.0, levels.1).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    table.task(0).size_bytes = std::fs::metadata(table.path(0)).unwrap().len();
    let ctx = table.context(&[]);
    assert_eq!(query(&ctx, "select l, m from t").await.unwrap(), "[1, ]|{k: 3}\n[]|{}\n|");
    assert_eq!(query(&ctx, "select ls from t").await.unwrap(), "\n[]\n[{p: 2, q: q}]");
}
