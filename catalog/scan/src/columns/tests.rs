//! Types and names, without files.

use parquet::schema::parser::parse_message_type;

use super::*;
use crate::testing::{field, required};
use arrow::datatypes::TimeUnit;

fn columns(table: Vec<Field>, mapping: Option<&str>, message: &str) -> Result<FileColumns> {
    resolve(&scan(table, mapping, 2), &descriptor(message), "s3://b/f.parquet")
}

fn scan(table: Vec<Field>, mapping: Option<&str>, format_version: u8) -> TableScan {
    TableScan {
        table: "lake.db.t".to_owned(),
        table_uuid: uuid::Uuid::nil(),
        snapshot_id: None,
        schema: Arc::new(Schema::new(table)),
        format_version,
        name_mapping: mapping.map(str::to_owned),
    }
}

fn descriptor(message: &str) -> SchemaDescPtr {
    Arc::new(SchemaDescriptor::new(Arc::new(parse_message_type(message).unwrap())))
}

/// Type read for a single column, or the problem.
fn read(wanted: DataType, column: &str) -> std::result::Result<DataType, String> {
    let columns =
        columns(vec![field(1, "c", wanted)], None, &format!("message m {{ optional {column}; }}")).unwrap();
    match columns.problems.first() {
        Some((_, problem)) => Err(format!("{problem:?}")),
        None => Ok(columns.schema.field(0).data_type().clone()),
    }
}

#[test]
fn types_may_grow_and_not_change() {
    use DataType::*;
    let utc = || Some(Arc::from("+00:00"));
    let us = TimeUnit::Microsecond;
    let good = [
        (Int64, "int32 c = 1", Int32),
        (Int32, "int32 c (INTEGER(16,true)) = 1", Int16),
        (Float64, "float c = 1", Float32),
        (Decimal128(20, 2), "int32 c (DECIMAL(9,2)) = 1", Decimal128(9, 2)),
        (Decimal128(20, 2), "int64 c (DECIMAL(18,2)) = 1", Decimal128(18, 2)),
        (Decimal128(20, 2), "fixed_len_byte_array(9) c (DECIMAL(20,2)) = 1", Decimal128(20, 2)),
        (Decimal128(38, 2), "fixed_len_byte_array(17) c (DECIMAL(38,2)) = 1", Decimal256(38, 2)),
        (Utf8View, "binary c (UTF8) = 1", Utf8View),
        (Utf8View, "binary c = 1", Utf8View),
        (BinaryView, "binary c = 1", BinaryView),
        (FixedSizeBinary(16), "fixed_len_byte_array(16) c (UUID) = 1", FixedSizeBinary(16)),
        (Timestamp(us, None), "int64 c (TIMESTAMP(MICROS,false)) = 1", Timestamp(us, None)),
        (Timestamp(us, utc()), "int64 c (TIMESTAMP(MICROS,true)) = 1", Timestamp(us, utc())),
        (
            Timestamp(us, utc()),
            "int64 c (TIMESTAMP(MILLIS,true)) = 1",
            Timestamp(TimeUnit::Millisecond, utc()),
        ),
        (Timestamp(us, utc()), "int96 c = 1", Timestamp(us, utc())),
        (Timestamp(us, None), "int96 c = 1", Timestamp(us, None)),
        (Time64(us), "int64 c (TIME(MICROS,false)) = 1", Time64(us)),
        (Date32, "int32 c (DATE) = 1", Date32),
        (Timestamp(us, None), "int32 c (DATE) = 1", Date32),
        (Timestamp(TimeUnit::Nanosecond, None), "int32 c (DATE) = 1", Date32),
        (
            Timestamp(TimeUnit::Nanosecond, utc()),
            "int64 c (TIMESTAMP(NANOS,true)) = 1",
            Timestamp(TimeUnit::Nanosecond, utc()),
        ),
        (Decimal128(20, 2), "binary c (DECIMAL(20,2)) = 1", Decimal128(20, 2)),
        (FixedSizeBinary(7), "fixed_len_byte_array(7) c = 1", FixedSizeBinary(7)),
        (Time64(us), "int32 c (TIME(MILLIS,false)) = 1", Time32(TimeUnit::Millisecond)),
    ];
    for (wanted, stored, expected) in good {
        assert_eq!(read(wanted.clone(), stored), Ok(expected), "{stored} as {wanted}");
    }
    let bad = [
        (Int32, "int64 c = 1"),
        (Int64, "int32 c (INTEGER(32,false)) = 1"),
        (Float32, "double c = 1"),
        (Float64, "int32 c = 1"),
        (Decimal128(9, 2), "int64 c (DECIMAL(10,2)) = 1"),
        (Decimal128(9, 2), "int32 c (DECIMAL(9,3)) = 1"),
        (Utf8View, "int32 c = 1"),
        (BinaryView, "binary c (UTF8) = 1"),
        (Int64, "int64 c (TIMESTAMP(MICROS,true)) = 1"),
        (Timestamp(us, None), "int64 c = 1"),
        (Timestamp(us, None), "int64 c (TIMESTAMP(MICROS,true)) = 1"),
        (Timestamp(us, utc()), "int64 c (TIMESTAMP(MICROS,false)) = 1"),
        (Timestamp(us, utc()), "int64 c (TIMESTAMP(NANOS,true)) = 1"),
        (FixedSizeBinary(16), "fixed_len_byte_array(8) c = 1"),
        (Boolean, "int32 c = 1"),
        (Int32, "int32 c (INTEGER(32,false)) = 1"),
        (Int64, "int64 c (INTEGER(64,false)) = 1"),
        (Int32, "int32 c (INTEGER(16,false)) = 1"),
        (Timestamp(us, utc()), "int32 c (DATE) = 1"),
        (Timestamp(TimeUnit::Nanosecond, None), "int64 c (TIMESTAMP(MICROS,false)) = 1"),
        (Date32, "int64 c (TIMESTAMP(MICROS,false)) = 1"),
        (Decimal128(20, 3), "int64 c (DECIMAL(18,2)) = 1"),
        (FixedSizeBinary(16), "binary c (UTF8) = 1"),
        (Null, "int32 c = 1"),
    ];
    for (wanted, stored) in bad {
        assert!(read(wanted.clone(), stored).unwrap_err().starts_with("Type"), "{stored} as {wanted}");
    }
}

#[test]
fn a_file_that_agrees_with_the_table_is_left_as_it_is() {
    let table = vec![required(1, "a", DataType::Int64), field(2, "b", DataType::Utf8View)];
    let file = "message m { required int64 a = 1; optional binary b (UTF8) = 2; optional int32 old = 9; }";
    let columns = columns(table.clone(), None, file).unwrap();
    assert!(columns.renamed.is_none());
    assert!(columns.absent.is_empty() && columns.problems.is_empty());
    assert_eq!(columns.schema.field(0), &table[0]);
    assert_eq!(columns.schema.field(1), &table[1]);
    assert_eq!(columns.schema.field(2).name(), "old");
}

#[test]
fn names_follow_ids_at_every_level() {
    let inner = DataType::Struct(vec![field(4, "x", DataType::Int32), field(9, "y", DataType::Int32)].into());
    let list = DataType::List(Arc::new(field(3, "element", inner)));
    let table = vec![field(7, "a", DataType::Int64), field(1, "b", DataType::Int32), field(2, "l", list)];
    let file = "message m {
        optional int32 a = 1;
        optional group items (LIST) = 2 { repeated group list { optional group element = 3 {
            optional int32 y = 4; optional int32 old = 5; } } }
        optional int32 l = 6; }";
    let columns = columns(table, None, file).unwrap();
    let shown = columns.renamed.unwrap();
    let paths: Vec<_> = shown.columns().iter().map(|c| c.path().string()).collect();
    assert_eq!(paths, ["b", "l.list.element.x", "l.list.element.old", "\u{1f}2"]);
    assert_eq!(columns.absent, [0]);
    assert!(columns.problems.is_empty());
}

#[test]
fn files_without_ids_need_a_name_mapping() {
    let list = DataType::List(Arc::new(field(3, "element", DataType::Int32)));
    let table =
        || vec![field(1, "a", DataType::Int32), field(2, "l", list.clone()), field(8, "c", DataType::Int32)];
    let file = "message m { optional int32 old_a; optional group l (LIST) { repeated group list {
        optional int32 element; } } optional int32 c; }";
    let error = columns(table(), None, file).unwrap_err().to_string();
    assert!(error.contains("lake.db.t") && error.contains("name mapping"), "{error}");
    let mapping = r#"[{"field-id": 1, "names": ["a", "old_a"]},
        {"field-id": 2, "names": ["l"], "fields": [{"field-id": 3, "names": ["element"]}]}]"#;
    let columns = columns(table(), Some(mapping), file).unwrap();
    assert_eq!(columns.absent, [2], "a column that the mapping does not name is not the table's");
    assert_eq!(columns.schema.field(0).name(), "a");
}

#[test]
fn nested_fields_without_ids_are_refused_and_not_read_as_null() {
    let inner = DataType::Struct(vec![field(2, "x", DataType::Int32)].into());
    let file = "message m { optional group s = 1 { optional int32 x; } optional int32 a = 3; }";
    let found = columns(vec![field(1, "s", inner), field(3, "a", DataType::Int32)], None, file).unwrap();
    let scan = scan(Vec::new(), None, 2);
    let error = found.check(&scan, "s3://b/f", &[true, false], &[]).unwrap_err();
    assert!(matches!(error, Error::NotSupported { .. }) && error.to_string().contains("\"s\""), "{error}");
    found.check(&scan, "s3://b/f", &[false, true], &[]).unwrap();
}

#[test]
fn a_column_without_an_id_beside_others_that_have_one_is_refused_and_not_read_as_null() {
    let file = "message m { optional int32 a = 1; optional int32 b; optional int32 c; }";
    let table =
        vec![field(1, "a", DataType::Int32), field(2, "b", DataType::Int32), field(3, "d", DataType::Int32)];
    let found = columns(table.clone(), None, file).unwrap();
    let scan = scan(table, None, 2);
    let error = found.check(&scan, "s3://b/f", &[true, true, false], &[]).unwrap_err();
    assert!(matches!(error, Error::NotSupported { .. }) && error.to_string().contains("\"b\""), "{error}");
    // It is not asked for, the partition gives it, or the file has nothing of the kind.
    found.check(&scan, "s3://b/f", &[true, false, true], &[]).unwrap();
    found.check(&scan, "s3://b/f", &[true, true, true], &[2]).unwrap();
}

#[test]
fn columns_of_types_to_come_leave_the_others_of_the_file_alone() {
    use parquet::basic::{LogicalType, Repetition, Type as Physical};
    use parquet::schema::types::Type;

    let bytes = |name: &str| {
        let part =
            Type::primitive_type_builder(name, Physical::BYTE_ARRAY).with_repetition(Repetition::REQUIRED);
        Arc::new(part.build().unwrap())
    };
    let variant = Type::group_type_builder("v")
        .with_id(Some(2))
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::variant(Some(1))))
        .with_fields(vec![bytes("metadata"), bytes("value")]);
    let shape = Type::primitive_type_builder("g", Physical::BYTE_ARRAY)
        .with_id(Some(3))
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::geometry(None)));
    let plain = Type::primitive_type_builder("a", Physical::INT64).with_id(Some(1)).build().unwrap();
    let fields = [plain, variant.build().unwrap(), shape.build().unwrap()].map(Arc::new).to_vec();
    let root = Type::group_type_builder("m").with_fields(fields).build().unwrap();
    let scan = scan(vec![field(1, "a", DataType::Int64), field(4, "later", DataType::Int64)], None, 3);
    let found = resolve(&scan, &Arc::new(SchemaDescriptor::new(Arc::new(root))), "s3://b/f.parquet").unwrap();
    found.check(&scan, "s3://b/f.parquet", &[true, true], &[]).unwrap();
    assert_eq!(found.absent, [1]);
}

#[test]
fn maps_and_structs_may_evolve_inside_and_required_fields_must_be_there() {
    let map = |value: Vec<Field>| {
        let value = field(3, "value", DataType::Struct(value.into()));
        let entries = DataType::Struct(vec![required(2, "key", DataType::Utf8View), value].into());
        DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
    };
    let file = "message m { optional group m (MAP) = 1 { repeated group map {
        required binary k (UTF8) = 2; optional group v = 3 { optional int32 x = 4; } } } }";
    let scan = scan(Vec::new(), None, 2);
    let check = |value: Vec<Field>| {
        let columns = columns(vec![field(1, "m", map(value))], None, file).unwrap();
        columns.check(&scan, "s3://b/f", &[true], &[])
    };
    check(vec![field(5, "y", DataType::Int32), field(4, "x", DataType::Int64)]).unwrap();
    check(vec![field(5, "y", DataType::Int32)]).unwrap();
    let with_default = |json: &str| {
        let mut metadata = required(5, "y", DataType::Int32).metadata().clone();
        metadata.insert(default::INITIAL_DEFAULT_KEY.to_owned(), json.to_owned());
        required(5, "y", DataType::Int32).with_metadata(metadata)
    };
    check(vec![with_default("7")]).unwrap();
    let error = check(vec![with_default("\"x\"")]).unwrap_err();
    assert!(matches!(&error, Error::DefaultValue { column, .. } if column == "m.value.y"), "{error}");
    let error = check(vec![required(5, "y", DataType::Int32)]).unwrap_err();
    assert!(
        matches!(&error, Error::RequiredColumnMissing { column, .. } if column == "m.value.y"),
        "{error}"
    );
    let error = check(vec![field(4, "x", DataType::Utf8View)]).unwrap_err();
    assert!(matches!(&error, Error::ColumnType { column, .. } if column == "m.value.x"), "{error}");
}

#[test]
fn old_files_of_version_1_are_read_by_place() {
    let file =
        "message m { optional int32 x; optional binary y (UTF8); optional group s { optional int32 z; } }";
    let inner = DataType::Struct(vec![field(4, "z", DataType::Int32)].into());
    let table = vec![field(2, "b", DataType::Utf8View), field(1, "a", DataType::Int64), field(3, "s", inner)];
    let read = |version| resolve(&scan(table.clone(), None, version), &descriptor(file), "s3://b/f.parquet");
    let columns = read(1).unwrap();
    let names: Vec<_> = columns.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["a", "b", "s"]);
    assert_eq!(columns.problems.len(), 1, "what is in a struct has no place of its own");
    assert!(read(2).is_err());
}

#[test]
fn lists_and_maps_of_old_writers_are_found() {
    let inner = DataType::Struct(vec![field(3, "x", DataType::Int32)].into());
    let list = |element: DataType| DataType::List(Arc::new(field(2, "element", element)));
    let good = [
        (list(DataType::Int64), "optional group c (LIST) = 1 { repeated int32 array = 2; }"),
        (
            list(DataType::Int64),
            "optional group c (LIST) = 1 { repeated group bag { optional int32 array_element = 2; } }",
        ),
        (
            list(inner.clone()),
            "optional group c (LIST) = 1 { repeated group array = 2 { optional int32 old = 3; } }",
        ),
        (
            list(inner.clone()),
            "optional group c (LIST) = 1 { repeated group c_tuple = 2 { optional int32 old = 3; } }",
        ),
        (
            list(inner),
            "optional group c (LIST) = 1 { repeated group element = 2 { optional int32 old = 3; optional int32 gone = 9; } }",
        ),
    ];
    for (wanted, stored) in good {
        let columns =
            columns(vec![field(1, "c", wanted)], None, &format!("message m {{ {stored} }}")).unwrap();
        assert!(columns.problems.is_empty(), "{stored}: {:?}", columns.problems);
        let DataType::List(element) = columns.schema.field(0).data_type() else { panic!("{stored}") };
        if let DataType::Struct(fields) = element.data_type() {
            assert_eq!(fields[0].name(), "x", "{stored}");
        }
    }
}

#[test]
fn a_mapping_names_nested_fields_and_parts_of_lists_and_maps() {
    let inner = DataType::Struct(vec![field(5, "x", DataType::Int32)].into());
    let entries =
        DataType::Struct(vec![required(3, "key", DataType::Utf8View), field(4, "value", inner)].into());
    let map = DataType::Map(Arc::new(Field::new("key_value", entries, false)), false);
    let list = DataType::List(Arc::new(field(
        7,
        "element",
        DataType::Struct(vec![field(8, "y", DataType::Int32)].into()),
    )));
    let mapping = r#"[
        {"field-id": 2, "names": ["m"], "fields": [
            {"field-id": 3, "names": ["key"]},
            {"field-id": 4, "names": ["value"], "fields": [{"field-id": 5, "names": ["x", "was_x"]}]}]},
        {"field-id": 6, "names": ["l"], "fields": [
            {"field-id": 7, "names": ["element"], "fields": [{"field-id": 8, "names": ["y"]}]}]}]"#;
    let file = "message m {
        optional group m (MAP) { repeated group map { required binary k (UTF8); optional group v { optional int32 was_x; } } }
        optional group l (LIST) { repeated group array { optional int32 y; optional int32 z; } } }";
    let columns = columns(vec![field(2, "m", map), field(6, "l", list)], Some(mapping), file).unwrap();
    assert!(columns.problems.is_empty(), "{:?}", columns.problems);
    let shown = columns.renamed.unwrap();
    let paths: Vec<_> = shown.columns().iter().map(|c| c.path().string()).collect();
    assert_eq!(paths, ["m.map.k", "m.map.v.x", "l.array.y", "l.array.z"]);
}
