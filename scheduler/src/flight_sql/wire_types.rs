//! The Arrow types that go over the wire, and what column metadata says of them.
//!
//! The engine's own types (views, dictionaries, small decimals) break JDBC, ODBC and others, so
//! the default profile `compat` sends plain types only; `native` keeps what modern Arrow readers
//! take. One function computes the schema for prepare, FlightInfo, stream and table listing, so
//! that they cannot differ. Applying it twice changes nothing. The casting of batches is in
//! [`super::wire_stream`].

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit,
};

use super::type_name::{precision_and_scale, sql_type_name};

/// Which types results are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// What every client reads.
    #[default]
    Compat,
    /// Views, large and small types as they are.
    Native,
}

impl Profile {
    /// The profile of a name, as the session setting `wire_profile` spells it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "compat" => Some(Self::Compat),
            "native" => Some(Self::Native),
            _ => None,
        }
    }
}

/// The schema of a result as it is announced and sent.
///
/// Every column is nullable: the engine's logical and physical plans disagree about nullability
/// at times, and drivers refuse a stream that differs from its announcement. Metadata is ours
/// alone, except for extension types in the native profile.
pub fn wire_schema(schema: &Schema, profile: Profile) -> SchemaRef {
    let field = |field: &FieldRef| {
        let metadata = column_metadata(field, profile, true);
        wire_field(field, profile, true).with_nullable(true).with_metadata(metadata)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The schema of a table as GetTables lists it: nullability as the table declares it, the
/// table's name and the columns' comments in the metadata.
pub(super) fn table_schema(
    schema: &Schema,
    profile: Profile,
    (catalog, db_schema, table): (&str, &str, &str),
) -> Schema {
    let field = |field: &FieldRef| {
        let mut metadata = column_metadata(field, profile, false);
        metadata.insert(key("CATALOG_NAME"), catalog.to_string());
        metadata.insert(key("SCHEMA_NAME"), db_schema.to_string());
        metadata.insert(key("TABLE_NAME"), table.to_string());
        // On a result this would replace the column's label in JDBC: only here.
        if let Some(comment) = field.metadata().get("comment") {
            metadata.insert(key("REMARKS"), comment.clone());
        }
        wire_field(field, profile, false).with_nullable(field.is_nullable()).with_metadata(metadata)
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

/// The types in which parameters are declared: plain, nullable, and such that the value that
/// JDBC writes is the value that was meant.
pub(super) fn parameter_schema(parameters: &[FieldRef]) -> SchemaRef {
    let field = |field: &FieldRef| {
        let data_type = match wire_type(field.data_type(), Profile::Compat, true, true) {
            // Unknown: a text is cast by the engine where it is used.
            DataType::Null => DataType::Utf8,
            // JDBC writes epoch milliseconds whatever unit is declared.
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone),
            DataType::Date64 => DataType::Date32,
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
                DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale)
            }
            other => other,
        };
        Field::new(field.name(), data_type, true)
    };
    Arc::new(Schema::new(parameters.iter().map(field).collect::<Vec<_>>()))
}

fn wire_field(field: &Field, profile: Profile, relaxed: bool) -> Field {
    let data_type = wire_type(field.data_type(), profile, true, relaxed);
    Field::new(field.name(), data_type, field.is_nullable())
}

/// The type sent for a type of the engine. `top` is false inside lists, structs and maps, where
/// views cannot be cut to size cheaply; `relaxed` makes nested values nullable.
fn wire_type(data_type: &DataType, profile: Profile, top: bool, relaxed: bool) -> DataType {
    use DataType as T;
    let nested = |field: &FieldRef, may_relax: bool| -> FieldRef {
        let data_type = wire_type(field.data_type(), profile, false, relaxed);
        let nullable = field.is_nullable() || (relaxed && may_relax);
        Arc::new(Field::new(field.name(), data_type, nullable))
    };
    let compat = profile == Profile::Compat;
    match data_type {
        T::Dictionary(_, values) => wire_type(values, profile, top, relaxed),
        T::Utf8View if compat || !top => T::Utf8,
        T::BinaryView if compat || !top => T::Binary,
        T::LargeUtf8 if compat => T::Utf8,
        T::LargeBinary if compat => T::Binary,
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) if compat => {
            T::Decimal128(*precision, *scale)
        }
        T::Float16 if compat => T::Float32,
        T::RunEndEncoded(_, values) if compat || !top => wire_type(values.data_type(), profile, top, relaxed),
        // The encoder turns large lists into lists, so that is what must be announced.
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) => {
            T::List(nested(item, true))
        }
        T::FixedSizeList(item, size) => T::FixedSizeList(nested(item, true), *size),
        T::Struct(fields) => T::Struct(fields.iter().map(|field| nested(field, true)).collect()),
        T::Map(entries, sorted) => {
            let fields: Fields = match entries.data_type() {
                T::Struct(pair) => {
                    // Keys and entries are never null, by the format.
                    pair.iter().enumerate().map(|(index, field)| nested(field, index == 1)).collect()
                }
                _ => return data_type.clone(),
            };
            T::Map(Arc::new(Field::new(entries.name(), T::Struct(fields), false)), *sorted)
        }
        other => other.clone(),
    }
}

fn column_metadata(field: &Field, profile: Profile, read_only: bool) -> HashMap<String, String> {
    let data_type = wire_type(field.data_type(), profile, true, false);
    let flag = |yes: bool| if yes { "1" } else { "0" }.to_string();
    let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let mut metadata = HashMap::from([
        (key("TYPE_NAME"), sql_type_name(&data_type).to_string()),
        (key("IS_AUTO_INCREMENT"), flag(false)),
        (key("IS_CASE_SENSITIVE"), flag(text)),
        (key("IS_READ_ONLY"), flag(read_only)),
        (key("IS_SEARCHABLE"), flag(!data_type.is_nested())),
    ]);
    let (precision, scale) = precision_and_scale(&data_type);
    if let Some(precision) = precision {
        metadata.insert(key("PRECISION"), precision.to_string());
    }
    if let Some(scale) = scale {
        metadata.insert(key("SCALE"), scale.to_string());
    }
    if profile == Profile::Native {
        let extension = field.metadata().iter().filter(|(name, _)| name.starts_with("ARROW:extension:"));
        metadata.extend(extension.map(|(name, value)| (name.clone(), value.clone())));
    }
    metadata
}

fn key(name: &str) -> String {
    format!("ARROW:FLIGHT:SQL:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compat_has_only_types_that_every_client_reads() {
        let cases = [
            (DataType::Utf8View, DataType::Utf8),
            (DataType::LargeBinary, DataType::Binary),
            (dictionary(DataType::Utf8View), DataType::Utf8),
            (DataType::Decimal32(7, 2), DataType::Decimal128(7, 2)),
            (DataType::Decimal64(17, 2), DataType::Decimal128(17, 2)),
            (DataType::Float16, DataType::Float32),
            (run_ends(DataType::Utf8View), DataType::Utf8),
            (
                DataType::LargeList(item(dictionary(DataType::LargeUtf8), false)),
                DataType::List(item(DataType::Utf8, true)),
            ),
            (
                DataType::Struct(vec![Field::new("a", DataType::BinaryView, false)].into()),
                DataType::Struct(vec![Field::new("a", DataType::Binary, true)].into()),
            ),
            (DataType::Decimal256(60, 3), DataType::Decimal256(60, 3)),
        ];
        for (from, to) in cases {
            let schema = Schema::new(vec![Field::new("c", from.clone(), false)]);
            let wire = wire_schema(&schema, Profile::Compat);
            assert_eq!(wire.field(0).data_type(), &to, "{from}");
            assert!(wire.field(0).is_nullable());
        }
    }

    #[test]
    fn map_keys_stay_required() {
        let pair = Fields::from(vec![
            Field::new("key", DataType::Utf8View, false),
            Field::new("value", DataType::Utf8View, false),
        ]);
        let entries = Arc::new(Field::new("entries", DataType::Struct(pair), false));
        let schema = Schema::new(vec![Field::new("m", DataType::Map(entries, false), true)]);
        let wire = wire_schema(&schema, Profile::Compat);
        let DataType::Map(entries, _) = wire.field(0).data_type() else { panic!("not a map") };
        let DataType::Struct(pair) = entries.data_type() else { panic!("not a struct") };
        assert!(!entries.is_nullable() && !pair[0].is_nullable() && pair[1].is_nullable());
        assert_eq!(pair[0].data_type(), &DataType::Utf8);
    }

    #[test]
    fn native_keeps_views_at_the_top_and_hydrates_dictionaries() {
        let schema = Schema::new(vec![
            Field::new("v", DataType::Utf8View, true),
            Field::new("d", dictionary(DataType::Utf8View), true),
            Field::new("l", DataType::List(item(DataType::Utf8View, true)), true),
        ]);
        let wire = wire_schema(&schema, Profile::Native);
        assert_eq!(wire.field(0).data_type(), &DataType::Utf8View);
        assert_eq!(wire.field(1).data_type(), &DataType::Utf8View);
        assert_eq!(wire.field(2).data_type(), &DataType::List(item(DataType::Utf8, true)));
    }

    #[test]
    fn twice_is_as_once() {
        let schema = Schema::new(vec![
            Field::new("", DataType::Decimal64(18, 4), false),
            Field::new("", dictionary(DataType::Utf8View), false),
            Field::new("l", DataType::ListView(item(DataType::Float16, false)), false),
        ]);
        for profile in [Profile::Compat, Profile::Native] {
            let once = wire_schema(&schema, profile);
            assert_eq!(wire_schema(&once, profile), once);
        }
    }

    #[test]
    fn columns_say_their_type_name_precision_and_scale() {
        let schema = Schema::new(vec![Field::new("price", DataType::Decimal128(18, 4), true)]);
        let wire = wire_schema(&schema, Profile::Compat);
        let said = |name: &str| wire.field(0).metadata().get(&key(name)).cloned();
        assert_eq!(said("TYPE_NAME").as_deref(), Some("DECIMAL"));
        assert_eq!(said("PRECISION").as_deref(), Some("18"));
        assert_eq!(said("SCALE").as_deref(), Some("4"));
        assert_eq!(said("IS_SEARCHABLE").as_deref(), Some("1"));
        assert_eq!(said("REMARKS"), None);
    }

    #[test]
    fn a_listed_table_keeps_required_columns_and_comments() {
        let comment = HashMap::from([("comment".to_string(), "net price".to_string())]);
        let field = Field::new("price", DataType::Int64, false).with_metadata(comment);
        let listed = table_schema(&Schema::new(vec![field]), Profile::Compat, ("lake", "shop", "sales"));
        assert!(!listed.field(0).is_nullable());
        assert_eq!(listed.field(0).metadata().get(&key("REMARKS")).unwrap(), "net price");
        assert_eq!(listed.field(0).metadata().get(&key("TABLE_NAME")).unwrap(), "sales");
    }

    #[test]
    fn parameters_are_declared_in_types_that_drivers_write_right() {
        let parameters = [
            DataType::Null,
            DataType::Utf8View,
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Decimal64(10, 2),
            DataType::Date64,
            DataType::Int64,
        ]
        .map(|data_type| Arc::new(Field::new("$1", data_type, false)));
        let declared = parameter_schema(&parameters);
        let types: Vec<_> = declared.fields().iter().map(|field| field.data_type().clone()).collect();
        let expected = [
            DataType::Utf8,
            DataType::Utf8,
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            DataType::Decimal128(38, 2),
            DataType::Date32,
            DataType::Int64,
        ];
        assert_eq!(types, expected);
        assert!(declared.fields().iter().all(|field| field.is_nullable()));
    }

    fn dictionary(values: DataType) -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(values))
    }

    fn run_ends(values: DataType) -> DataType {
        let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
        DataType::RunEndEncoded(ends, Arc::new(Field::new("values", values, true)))
    }

    fn item(data_type: DataType, nullable: bool) -> FieldRef {
        Arc::new(Field::new("item", data_type, nullable))
    }
}
