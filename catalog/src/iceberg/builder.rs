//! New versions of table metadata: tables made and replaced, snapshots added.
//!
//! Everything here is computed in memory from one version to the next; writing
//! it and swapping the pointer is the backend's. Field ids of a new table count
//! from 1, all columns of a level before what is inside them, as in Java's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ::iceberg::spec::{
    FormatVersion, ListType, MAIN_BRANCH, MapType, NestedField, NestedFieldRef, Operation, PrimitiveType,
    Schema, Snapshot, SortOrder, StructType, Summary, TableMetadata, TableMetadataBuilder,
    Transform as IcebergTransform, Type, UnboundPartitionSpec,
};
use arrow::datatypes::{DataType, Field};
use tarn_scan::write::Transform;

use super::Metadata;
use crate::error::{Error, Result};
use crate::write::{NewPartitionField, NewTable};

/// The property that chooses a new table's format version; it is not kept as a property.
const FORMAT_VERSION: &str = "format-version";

const EXTENSION_NAME: &str = "ARROW:extension:name";
const UUID_EXTENSION: &str = "arrow.uuid";

/// A snapshot to be added to the main branch; its parent is the current one.
#[derive(Clone, Debug)]
pub(crate) struct NewSnapshot {
    pub(crate) snapshot_id: i64,
    /// URI of its manifest list.
    pub(crate) manifest_list: String,
    /// All of the summary but the operation, which is `append`.
    pub(crate) summary: BTreeMap<String, String>,
}

/// The first version of a table at `location`, with no snapshot.
pub(crate) fn new_table(new: &NewTable, location: &str) -> Result<Metadata> {
    let mut ids = Ids { last: 0, reusable: None };
    let schema = ids.schema(new)?;
    let spec = partition_spec(&new.partition, &schema)?;
    let (format, mut properties) = properties(new)?;
    properties.entry("write.parquet.compression-codec".to_owned()).or_insert_with(|| "zstd".to_owned());
    let built = TableMetadataBuilder::new(
        schema,
        spec,
        SortOrder::unsorted_order(),
        location.to_owned(),
        format.unwrap_or(FormatVersion::V2),
        properties,
    );
    finish(built.and_then(TableMetadataBuilder::build))
}

/// The columns of a view, with ids from 1; none is required, since nothing keeps its query from giving NULL.
pub(super) fn view_schema(columns: &arrow::datatypes::Schema) -> Result<Schema> {
    let optional = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let new = NewTable {
        schema: arrow::datatypes::Schema::new(optional.collect::<Vec<_>>()),
        partition: Vec::new(),
        properties: BTreeMap::new(),
        location: None,
    };
    Ids { last: 0, reusable: None }.schema(&new)
}

/// `base` with other columns, another partition spec and no current snapshot. Its history stays.
///
/// `base_file` is where `base` is stored, for the log of metadata files.
pub(crate) fn replacement(base: &Metadata, base_file: &str, new: &NewTable) -> Result<Metadata> {
    base.check_whole()?;
    let base = base.spec();
    let mut ids =
        Ids { last: base.last_column_id(), reusable: Some(base.current_schema().as_struct().clone()) };
    let schema = ids.schema(new)?;
    let spec = partition_spec(&new.partition, &schema)?;
    let (format, properties) = properties(new)?;
    let format = format.unwrap_or(FormatVersion::V2).max(base.format_version());
    let build = || {
        let mut builder = TableMetadata::clone(base)
            .into_builder(Some(base_file.to_owned()))
            .upgrade_format_version(format)?
            .remove_ref(MAIN_BRANCH)
            .add_current_schema(schema)?
            .add_default_partition_spec(spec)?
            .add_sort_order(SortOrder::unsorted_order())?
            .set_default_sort_order(-1)?
            .set_properties(properties)?;
        if let Some(location) = &new.location {
            builder = builder.set_location(location.clone());
        }
        builder.build()
    };
    finish(build())
}

/// `base` with one more snapshot, which becomes the current one.
///
/// `base_file` is where `base` is stored; `None` if it was not stored yet.
pub(crate) fn with_snapshot(base: &Metadata, base_file: Option<&str>, new: &NewSnapshot) -> Result<Metadata> {
    base.check_whole()?;
    let base = base.spec();
    let summary = Summary {
        operation: Operation::Append,
        additional_properties: new.summary.clone().into_iter().collect(),
    };
    // Later than the version before, whatever the clocks of its writers said.
    let timestamp_ms = chrono::Utc::now().timestamp_millis().max(base.last_updated_ms() + 1);
    let snapshot = Snapshot::builder()
        .with_snapshot_id(new.snapshot_id)
        .with_parent_snapshot_id(base.current_snapshot_id())
        .with_sequence_number(base.next_sequence_number())
        .with_timestamp_ms(timestamp_ms)
        .with_manifest_list(new.manifest_list.clone())
        .with_summary(summary)
        .with_schema_id(base.current_schema_id())
        .build();
    let builder = TableMetadata::clone(base).into_builder(base_file.map(str::to_owned));
    finish(builder.set_branch_snapshot(snapshot, MAIN_BRANCH).and_then(TableMetadataBuilder::build))
}

/// Why rows written for `base` cannot be appended to `now`, a newer version of the table; `None` if they can.
///
/// Columns are known by id, so added and dropped ones do no harm, and types may have been widened.
pub(crate) fn why_not_appendable(base: &Metadata, spec_id: i32, now: &Metadata) -> Option<String> {
    let (base, now) = (base.spec(), now.spec());
    if base.uuid() != now.uuid() {
        return Some("the table was dropped and made again".to_owned());
    }
    if base.partition_spec_by_id(spec_id) != now.partition_spec_by_id(spec_id) {
        return Some("its partition spec was removed".to_owned());
    }
    let (written, current) = (base.current_schema(), now.current_schema());
    if written.schema_id() == current.schema_id() {
        return None;
    }
    current.as_struct().fields().iter().find_map(|field| match written.as_struct().field_by_id(field.id) {
        None if field.required => Some(format!("required column {:?} was added", field.name)),
        None => None,
        Some(before) if field.required && !before.required => {
            Some(format!("column {:?} became required", field.name))
        }
        Some(before) if before.field_type == field.field_type => None,
        Some(before) if is_widened(&before.field_type, &field.field_type) => None,
        Some(_) => Some(format!("the type of column {:?} was changed", field.name)),
    })
}

/// Whether a replacement computed for `base` gives the same ids when computed for `now`.
pub(crate) fn has_same_ids(base: &Metadata, now: &Metadata) -> bool {
    let (base, now) = (base.spec(), now.spec());
    base.uuid() == now.uuid()
        && base.last_column_id() == now.last_column_id()
        && base.last_partition_id() == now.last_partition_id()
        && base.partition_specs_iter().len() == now.partition_specs_iter().len()
        && base.current_schema_id() == now.current_schema_id()
}

fn is_widened(before: &Type, after: &Type) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (before.as_primitive_type(), after.as_primitive_type()) {
        (Some(Int), Some(Long)) | (Some(Float), Some(Double)) => true,
        (Some(Decimal { precision: p, scale: s }), Some(Decimal { precision, scale })) => {
            s == scale && p <= precision
        }
        _ => false,
    }
}

fn finish(built: ::iceberg::Result<::iceberg::spec::TableMetadataBuildResult>) -> Result<Metadata> {
    let built = built.map_err(|e| Error::Invalid(decapitalised(e.message())))?;
    Metadata::from_spec(built.metadata).map_err(Error::Internal)
}

fn decapitalised(message: &str) -> String {
    let mut characters = message.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

fn properties(new: &NewTable) -> Result<(Option<FormatVersion>, HashMap<String, String>)> {
    let mut properties: HashMap<_, _> = new.properties.clone().into_iter().collect();
    let format = match properties.remove(FORMAT_VERSION).as_deref() {
        None => None,
        Some("1") => Some(FormatVersion::V1),
        Some("2") => Some(FormatVersion::V2),
        Some(other) => {
            return Err(Error::Invalid(format!("format-version {other:?} is not supported: use 1 or 2")));
        }
    };
    Ok((format, properties))
}

fn partition_spec(fields: &[NewPartitionField], schema: &Schema) -> Result<UnboundPartitionSpec> {
    let mut spec = UnboundPartitionSpec::builder();
    for field in fields {
        let column = &field.column;
        let source = schema
            .field_by_name(column)
            .or_else(|| schema.field_by_name_case_insensitive(column))
            .ok_or_else(|| Error::Invalid(format!("partition column {column:?} not found")))?;
        let transform = iceberg_transform(field.transform);
        // Only columns at the top or in structs can be read by rows.
        if schema.accessor_by_field_id(source.id).is_none()
            || transform.result_type(&source.field_type).is_err()
        {
            return Err(Error::Invalid(format!(
                "cannot partition by {} of column {column:?}: it has type {}",
                field.transform, source.field_type
            )));
        }
        if is_unwritable(&transform, &source.field_type) {
            return Err(Error::Invalid(format!(
                "partitioning by the value of UUID column {column:?} is not supported yet: use bucket"
            )));
        }
        let full_name = schema.name_by_field_id(source.id).unwrap_or(&source.name);
        let name = field.name.clone().unwrap_or_else(|| default_name(full_name, field.transform));
        spec = spec
            .add_partition_field(source.id, name, transform)
            .map_err(|e| Error::Invalid(decapitalised(e.message())))?;
    }
    Ok(spec.build())
}

/// Values that the crate encodes as no other reader expects them: UUIDs.
fn is_unwritable(transform: &IcebergTransform, source: &Type) -> bool {
    let result = transform.result_type(source);
    result.is_ok_and(|result| result == Type::Primitive(PrimitiveType::Uuid))
}

/// The first field of the table's partition spec whose values we cannot write.
pub(crate) fn unwritable_partition_field(metadata: &Metadata) -> Option<String> {
    let table = metadata.spec();
    let schema = table.current_schema();
    let mut fields = table.default_partition_spec().fields().iter();
    let found = fields.find(|field| {
        let source = schema.field_by_id(field.source_id);
        source.is_some_and(|source| is_unwritable(&field.transform, &source.field_type))
    });
    found.map(|field| field.name.clone())
}

fn default_name(column: &str, transform: Transform) -> String {
    match transform {
        Transform::Identity => column.to_owned(),
        Transform::Bucket(_) => format!("{column}_bucket"),
        Transform::Truncate(_) => format!("{column}_trunc"),
        Transform::Void => format!("{column}_null"),
        Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
            format!("{column}_{transform}")
        }
    }
}

fn iceberg_transform(transform: Transform) -> IcebergTransform {
    match transform {
        Transform::Identity => IcebergTransform::Identity,
        Transform::Bucket(n) => IcebergTransform::Bucket(n),
        Transform::Truncate(width) => IcebergTransform::Truncate(width),
        Transform::Year => IcebergTransform::Year,
        Transform::Month => IcebergTransform::Month,
        Transform::Day => IcebergTransform::Day,
        Transform::Hour => IcebergTransform::Hour,
        Transform::Void => IcebergTransform::Void,
    }
}

/// Hands out field ids.
struct Ids {
    last: i32,
    /// Columns of the table to be replaced: one with the same name and type keeps its ids.
    reusable: Option<StructType>,
}

impl Ids {
    fn schema(&mut self, new: &NewTable) -> Result<Schema> {
        let columns = new.schema.fields();
        if columns.is_empty() {
            return Err(Error::Invalid("a table needs at least one column".to_owned()));
        }
        let mut fields = Vec::with_capacity(columns.len());
        let fresh: Vec<_> = columns.iter().map(|_| self.next()).collect();
        for (column, id) in columns.iter().zip(fresh) {
            if column.name().is_empty() {
                return Err(Error::Invalid("a column needs a name".to_owned()));
            }
            let field = self.field(column, id, column.name())?;
            let same = self.reusable.as_ref().and_then(|base| base.field_by_name(column.name()));
            fields.push(match same.filter(|same| same_type(&same.field_type, &field.field_type)) {
                Some(same) => NestedFieldRef::new(NestedField {
                    id: same.id,
                    field_type: same.field_type.clone(),
                    ..NestedField::clone(&field)
                }),
                None => field,
            });
        }
        Schema::builder().with_fields(fields).build().map_err(|e| Error::Invalid(decapitalised(e.message())))
    }

    fn next(&mut self) -> i32 {
        self.last += 1;
        self.last
    }

    fn field(&mut self, field: &Field, id: i32, path: &str) -> Result<NestedFieldRef> {
        let is_uuid = field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == UUID_EXTENSION);
        let field_type = match field.data_type() {
            DataType::FixedSizeBinary(16) if is_uuid => Type::Primitive(PrimitiveType::Uuid),
            other => self.data_type(other, path)?,
        };
        let mut made = NestedField::new(id, field.name(), field_type, !field.is_nullable());
        made.doc = field.metadata().get("comment").cloned();
        Ok(Arc::new(made))
    }

    fn data_type(&mut self, data_type: &DataType, path: &str) -> Result<Type> {
        let primitive = match data_type {
            DataType::Boolean => PrimitiveType::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
                PrimitiveType::Int
            }
            // Iceberg has no unsigned types; a value beyond the signed range is an error when it is written.
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => PrimitiveType::Long,
            DataType::Float16 | DataType::Float32 => PrimitiveType::Float,
            DataType::Float64 => PrimitiveType::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale)
                if *precision <= 38 && *scale >= 0 =>
            {
                PrimitiveType::Decimal { precision: (*precision).into(), scale: scale.unsigned_abs().into() }
            }
            DataType::Date32 | DataType::Date64 => PrimitiveType::Date,
            DataType::Time32(_) | DataType::Time64(_) => PrimitiveType::Time,
            DataType::Timestamp(_, None) => PrimitiveType::Timestamp,
            DataType::Timestamp(_, Some(_)) => PrimitiveType::Timestamptz,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => PrimitiveType::String,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => PrimitiveType::Binary,
            DataType::FixedSizeBinary(length) => PrimitiveType::Fixed((*length).unsigned_abs().into()),
            DataType::Dictionary(_, values) => return self.data_type(values, path),
            DataType::Struct(fields) => {
                let fresh: Vec<_> = fields.iter().map(|_| self.next()).collect();
                let fields = fields.iter().zip(fresh);
                let fields =
                    fields.map(|(field, id)| self.field(field, id, &format!("{path}.{}", field.name())));
                return Ok(Type::Struct(StructType::new(fields.collect::<Result<_>>()?)));
            }
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _) => {
                let id = self.next();
                let made = self.field(element, id, &format!("{path}.element"))?;
                let element = NestedField::list_element(id, *made.field_type.clone(), made.required);
                return Ok(Type::List(ListType::new(Arc::new(element))));
            }
            DataType::Map(entries, _) => return self.map(entries, path),
            DataType::Null => {
                return Err(Error::Invalid(format!("column {path:?} has no type: cast its NULL to one")));
            }
            other => {
                return Err(Error::Invalid(format!(
                    "column {path:?} has type {other}, which tables cannot hold"
                )));
            }
        };
        Ok(Type::Primitive(primitive))
    }

    fn map(&mut self, entries: &Field, path: &str) -> Result<Type> {
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(Error::Internal(format!("the entries of map {path:?} are not a struct")));
        };
        let [key, value] = &fields[..] else {
            return Err(Error::Internal(format!("the entries of map {path:?} are not pairs")));
        };
        let (key_id, value_id) = (self.next(), self.next());
        let key = self.field(key, key_id, &format!("{path}.key"))?;
        let value = self.field(value, value_id, &format!("{path}.value"))?;
        let key = NestedField::map_key_element(key_id, *key.field_type.clone());
        let value = NestedField::map_value_element(value_id, *value.field_type.clone(), value.required);
        Ok(Type::Map(MapType::new(Arc::new(key), Arc::new(value))))
    }
}

/// Whether two types differ in nothing but their field ids and comments.
pub(super) fn same_type(a: &Type, b: &Type) -> bool {
    let same = |a: &NestedField, b: &NestedField| {
        a.name == b.name && a.required == b.required && same_type(&a.field_type, &b.field_type)
    };
    match (a, b) {
        (Type::Primitive(a), Type::Primitive(b)) => a == b,
        (Type::Struct(a), Type::Struct(b)) => {
            a.fields().len() == b.fields().len() && a.fields().iter().zip(b.fields()).all(|(a, b)| same(a, b))
        }
        (Type::List(a), Type::List(b)) => same(&a.element_field, &b.element_field),
        (Type::Map(a), Type::Map(b)) => {
            same(&a.key_field, &b.key_field) && same(&a.value_field, &b.value_field)
        }
        _ => false,
    }
}

/// The snapshot whose summary has this value under this key.
pub(crate) fn snapshot_with(metadata: &Metadata, key: &str, value: &str) -> Option<i64> {
    let mut snapshots = metadata.spec().snapshots();
    let found = snapshots.find(|snapshot| {
        snapshot.summary().additional_properties.get(key).is_some_and(|found| found == value)
    });
    found.map(|snapshot| snapshot.snapshot_id())
}

/// Id of a column of the current schema; dots lead into structs.
pub(crate) fn column_id(metadata: &Metadata, name: &str) -> Option<i32> {
    metadata.spec().current_schema().field_id_by_name(name)
}

/// Files of a table that are neither data nor manifests: older metadata files and statistics.
pub(crate) fn other_files(metadata: &Metadata) -> Vec<String> {
    let table = metadata.spec();
    let versions = table.metadata_log().iter().map(|log| log.metadata_file.clone());
    let statistics = table.statistics_iter().map(|file| file.statistics_path.clone());
    let partitions = table.partition_statistics_iter().map(|file| file.statistics_path.clone());
    versions.chain(statistics).chain(partitions).collect()
}
