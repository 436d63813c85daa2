//! One version of a table's metadata, parsed and checked.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;

use ::iceberg::spec::{FormatVersion, PrimitiveType, SchemaRef as SpecSchemaRef, TableMetadata};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use parking_lot::Mutex;
use serde_json::Value;
use tarn_scan::FIELD_ID_KEY;
use tarn_scan::write::Transform;
use uuid::Uuid;

use super::guarded;
use super::leaves::{self, Leaf};
use super::manifest_header::result_type;
use super::normalise::{self, Extras};
use super::older::{self, TakenOut};
use super::past::{self, Past};
use super::schema::{TableSchema, primitive_type, table_schema};
use super::transform::transform;
use super::value::scalar_of_bytes;
use crate::error::{Error, Result};
use crate::name::TableName;

/// The last version of the format that this crate knows.
const FORMAT_VERSION_MAX: u64 = 3;

/// One version of a table's metadata. Immutable.
#[derive(Debug)]
pub struct Metadata {
    spec: Arc<TableMetadata>,
    refs: BTreeMap<String, Reference>,
    taken_out: TakenOut,
    json_bytes: usize,
    /// Whether all snapshots and logs are in it, see [`past`].
    is_whole: bool,
    extras: Extras,
    /// Arrow schemas made so far, by schema id.
    schemas: Mutex<HashMap<i32, Arc<TableSchema>>>,
}

/// A named snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The snapshot.
    pub snapshot_id: i64,
    /// Whether it moves with commits.
    pub kind: ReferenceKind,
    /// How long it and its snapshots are kept.
    pub retention: Retention,
}

/// How long a named snapshot is kept; what is not said is as the table's properties say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Age from which on it may be removed.
    pub max_ref_age_ms: Option<i64>,
    /// Age from which on the snapshots of a branch may be removed.
    pub max_snapshot_age_ms: Option<i64>,
    /// As many of a branch are kept whatever their age.
    pub min_snapshots_to_keep: Option<i32>,
}

/// The kinds of named snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// Moves with commits to it.
    Branch,
    /// Stays.
    Tag,
}

/// One snapshot, without its files.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: i64,
    /// The snapshot that it was made from.
    pub parent_id: Option<i64>,
    /// Its place in the order of commits; 0 in tables of version 1.
    pub sequence_number: i64,
    /// When it was made, in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The schema it was written with, if that is known.
    pub schema_id: Option<i32>,
    /// URI of its manifest list; empty if it has none.
    pub manifest_list: String,
    /// URIs of its manifests, if it has no list of them, as some of version 1.
    pub manifests: Option<Arc<[String]>>,
    /// `append`, `overwrite`, `replace` or `delete`.
    pub operation: String,
    /// What the writer said about it.
    pub summary: HashMap<String, String>,
    /// Whether its manifest list is encrypted.
    pub encrypted: bool,
}

/// From when on a snapshot was the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The snapshot.
    pub snapshot_id: i64,
    /// From then on, in milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// How files are split by values.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSpec {
    /// Its id in the table.
    pub id: i32,
    /// Its fields, in order.
    pub fields: Vec<PartitionField>,
}

/// One field of a partition spec.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionField {
    /// Field id of the column it is derived from.
    pub source_id: i32,
    /// Its own field id.
    pub field_id: i32,
    /// Its name.
    pub name: String,
    /// What is done to the column's value; `None` for a transform that we do not know.
    pub transform: Option<Transform>,
}

impl Metadata {
    /// Reads the bytes of a metadata file, gzipped or not.
    ///
    /// Fails with [`Error::Corrupt`] for what is no metadata and [`Error::NotSupported`] for types and versions
    /// that we do not know; both name the table.
    #[cfg(test)]
    pub(crate) async fn parse(bytes: Bytes, table: &TableName, file: &str) -> Result<Self> {
        Self::read(bytes, table, file, Past::Whole)
    }

    /// The same with as much of the past as is wanted.
    pub(crate) fn read(bytes: Bytes, table: &TableName, file: &str, past: Past) -> Result<Self> {
        let corrupt = |reason: String| Error::Corrupt { table: table.clone(), file: file.to_owned(), reason };
        let bytes = unpacked(bytes).map_err(corrupt)?;
        let mut json: Value = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        check_known(&json, table)?;
        let refs = references(&json);
        let taken_out = older::take_out(&mut json);
        let extras = normalise::table(&mut json);
        let is_whole = past == Past::Whole || !past::leave_out(&mut json, &refs);
        let json_bytes = if is_whole { bytes.len() } else { json.to_string().len() };
        let spec = guarded(|| Ok(serde_json::from_value::<TableMetadata>(json)?)).map_err(corrupt)?;
        Ok(Self { taken_out, is_whole, ..Self::new(spec, refs, extras, json_bytes) })
    }

    /// The same without what only the past is about, if that is much; `None` if it is little.
    pub(crate) fn without_past(&self) -> Result<Option<Self>> {
        let failed = |error: String| Error::Internal(format!("metadata without its past: {error}"));
        let mut json = serde_json::to_value(self.spec.as_ref()).map_err(|error| failed(error.to_string()))?;
        if !self.is_whole || !past::leave_out(&mut json, &self.refs) {
            return Ok(None);
        }
        let spec = serde_json::from_value(json).map_err(|error| failed(error.to_string()))?;
        let slim = Self::from_spec(spec).map_err(failed)?;
        Ok(Some(Self { is_whole: false, ..slim }))
    }

    /// Metadata of a new version, as the builder made it.
    pub(super) fn from_spec(spec: TableMetadata) -> Result<Self, String> {
        let mut json = serde_json::to_value(&spec).map_err(|e| e.to_string())?;
        let json_bytes = json.to_string().len();
        let extras = normalise::table(&mut json);
        Ok(Self::new(spec, references(&json), extras, json_bytes))
    }

    /// Fails with [`Error::NotSupported`] if a commit would lose what the crate does not know of the table.
    pub(crate) fn check_committable(&self, table: &TableName) -> Result<()> {
        let not_supported = |feature| Err(Error::NotSupported { table: table.clone(), feature });
        if let Some(data_type) = self.extras.rewritten() {
            return not_supported(format!("writing to a table with a column of type {data_type}"));
        }
        let lost = |(schema, field, extra): (i32, i32, &normalise::FieldExtra)| {
            let field = self.spec.schema_by_id(schema).and_then(|schema| schema.field_by_id(field));
            field.is_none_or(|field| {
                extra.initial_default.is_some() != field.initial_default.is_some()
                    || extra.write_default.is_some() != field.write_default.is_some()
            })
        };
        match self.extras.defaults().find(|default| lost(*default)) {
            Some((_, field, _)) => {
                let name = self.column_name(field).unwrap_or_else(|| field.to_string());
                not_supported(format!("writing to a table with the default value of column {name:?}"))
            }
            None => Ok(()),
        }
    }

    fn new(
        spec: TableMetadata,
        mut refs: BTreeMap<String, Reference>,
        extras: Extras,
        json_bytes: usize,
    ) -> Self {
        // Tables of version 1 need not say what their main branch is.
        if let Some(snapshot_id) = spec.current_snapshot_id() {
            refs.entry(MAIN_BRANCH.to_owned()).or_insert(Reference {
                snapshot_id,
                kind: ReferenceKind::Branch,
                retention: Retention::default(),
            });
        }
        let taken_out = TakenOut::default();
        let schemas = Mutex::default();
        Self { spec: Arc::new(spec), refs, taken_out, json_bytes, is_whole: true, extras, schemas }
    }

    /// Whether all snapshots and logs are in it.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Fails unless all snapshots and logs are in it: a next version made without them would have lost them.
    pub(crate) fn check_whole(&self) -> Result<()> {
        match self.is_whole {
            true => Ok(()),
            false => {
                Err(Error::Internal("a version of a table is made of metadata without its past".to_owned()))
            }
        }
    }

    /// The bytes of a metadata file.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        self.check_whole()?;
        serde_json::to_vec(self.spec.as_ref())
            .map_err(|e| Error::Internal(format!("table metadata as JSON: {e}")))
    }

    /// The crate's own type, for the modules of this border.
    pub(super) fn spec(&self) -> &Arc<TableMetadata> {
        &self.spec
    }

    /// The table's identity, which a table made again under its name does not share.
    pub fn uuid(&self) -> Uuid {
        self.spec.uuid()
    }

    /// The table's folder, without a slash at the end.
    pub fn location(&self) -> &str {
        self.spec.location()
    }

    /// Version of the format: 1, 2 or 3.
    pub fn format_version(&self) -> u8 {
        match self.spec.format_version() {
            FormatVersion::V1 => 1,
            FormatVersion::V2 => 2,
            FormatVersion::V3 => 3,
        }
    }

    /// The table's properties.
    pub fn properties(&self) -> &HashMap<String, String> {
        self.spec.properties()
    }

    /// Id of the schema that new rows have.
    pub fn current_schema_id(&self) -> i32 {
        self.spec.current_schema_id()
    }

    /// The current snapshot; `None` for a table that was never written to.
    pub fn current_snapshot_id(&self) -> Option<i64> {
        self.spec.current_snapshot_id()
    }

    /// When this version was made, in milliseconds since the epoch.
    pub fn last_updated_ms(&self) -> i64 {
        self.spec.last_updated_ms()
    }

    /// Branches and tags, by name; `main` is among them if there is a current snapshot.
    pub fn refs(&self) -> &BTreeMap<String, Reference> {
        &self.refs
    }

    /// Which snapshots were the current one, in the order of time. Only whole metadata knows.
    pub fn history(&self) -> Vec<HistoryEntry> {
        let entry = |log: &::iceberg::spec::SnapshotLog| HistoryEntry {
            snapshot_id: log.snapshot_id,
            timestamp_ms: log.timestamp_ms(),
        };
        self.spec.history().iter().map(entry).collect()
    }

    /// The snapshot with this id; metadata without its past knows the current one and those with names.
    pub fn snapshot(&self, id: i64) -> Option<Snapshot> {
        self.spec.snapshot_by_id(id).map(|snapshot| self.own_snapshot(snapshot))
    }

    /// All snapshots, in the order of time. Only whole metadata knows them.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut snapshots: Vec<_> =
            self.spec.snapshots().map(|snapshot| self.own_snapshot(snapshot)).collect();
        snapshots.sort_by_key(|snapshot| (snapshot.sequence_number, snapshot.timestamp_ms, snapshot.id));
        snapshots
    }

    fn own_snapshot(&self, snapshot: &::iceberg::spec::Snapshot) -> Snapshot {
        let manifests = self.taken_out.manifests.get(&snapshot.snapshot_id()).cloned();
        Snapshot { manifests, ..own_snapshot(snapshot) }
    }

    /// The metadata files before this one, oldest first: when each was replaced, and its URI.
    pub(crate) fn metadata_log(&self) -> Vec<(i64, String)> {
        let log = self.spec.metadata_log().iter();
        log.map(|entry| (entry.timestamp_ms, entry.metadata_file.clone())).collect()
    }

    /// The partition spec that new files have.
    pub fn default_partition_spec(&self) -> PartitionSpec {
        own_spec(self.spec.default_partition_spec())
    }

    /// All partition specs, sorted by id.
    pub fn partition_specs(&self) -> Vec<PartitionSpec> {
        let mut specs: Vec<_> = self.spec.partition_specs_iter().map(|spec| own_spec(spec)).collect();
        specs.sort_by_key(|spec| spec.id);
        specs
    }

    /// The fields of all partition specs together, sorted by id and called as in the newest spec that has them.
    pub(crate) fn partition_type(&self) -> Fields {
        let mut fields: BTreeMap<i32, FieldRef> = BTreeMap::new();
        for spec in self.partition_specs().iter().rev() {
            for field in &spec.fields {
                // Void says nothing about rows.
                let known = field.transform.is_some_and(|transform| transform != Transform::Void);
                if let Some(data_type) = self.partition_field_type(field).filter(|_| known) {
                    let id = HashMap::from([(FIELD_ID_KEY.to_owned(), field.field_id.to_string())]);
                    let field_of = || Arc::new(Field::new(&field.name, data_type, true).with_metadata(id));
                    fields.entry(field.field_id).or_insert_with(field_of);
                }
            }
        }
        fields.into_values().collect()
    }

    /// A schema of the table as Arrow has it, made once.
    pub(crate) fn schema(&self, id: i32, table: &TableName) -> Result<Arc<TableSchema>> {
        if let Some(schema) = self.schemas.lock().get(&id) {
            return Ok(Arc::clone(schema));
        }
        let spec = self.spec.schema_by_id(id).ok_or_else(|| {
            Error::Invalid(format!("table {:?} has no schema with id {id}", table.to_string()))
        })?;
        let schema = Arc::new(table_schema(spec, &self.extras, table)?);
        self.schemas.lock().insert(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// A schema of the table as JSON.
    pub(crate) fn schema_json(&self, id: i32) -> Option<String> {
        serde_json::to_string(self.spec.schema_by_id(id)?.as_ref()).ok()
    }

    /// The same, not yet as text.
    pub(crate) fn schema_value(&self, id: i32) -> Option<Value> {
        serde_json::to_value(self.spec.schema_by_id(id)?.as_ref()).ok()
    }

    /// Whether a commit would lose what the crate cannot hold: see [`older`].
    pub(crate) fn is_read_only(&self) -> bool {
        !self.taken_out.is_empty()
    }

    /// Whether the table's files are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.spec.encryption_keys_iter().len() > 0 || self.properties().contains_key("encryption.key-id")
    }

    /// The newest schema that still has this field.
    pub(super) fn schema_with_field(&self, field_id: i32) -> Option<&SpecSchemaRef> {
        let current = self.spec.current_schema();
        if current.field_by_id(field_id).is_some() {
            return Some(current);
        }
        self.spec
            .schemas_iter()
            .filter(|schema| schema.field_by_id(field_id).is_some())
            .max_by_key(|schema| schema.schema_id())
    }

    /// The id of the newest schema that still has this field.
    pub(crate) fn schema_id_with_field(&self, field_id: i32) -> Option<i32> {
        self.schema_with_field(field_id).map(|schema| schema.schema_id())
    }

    /// The name of a column; dots lead into structs.
    pub(crate) fn column_name(&self, field_id: i32) -> Option<String> {
        self.schema_with_field(field_id)?.name_by_field_id(field_id).map(str::to_owned)
    }

    /// The columns of the current schema that are not nested, at any depth, by name.
    pub(crate) fn leaves(&self) -> Vec<Leaf> {
        leaves::leaves(self.spec.current_schema())
    }

    /// The type of a top-level column that is not nested, in the newest schema that has it.
    pub(crate) fn top_level_type(&self, field_id: i32) -> Option<DataType> {
        let schema = self.schema_with_field(field_id)?;
        let field = schema.as_struct().field_by_id(field_id)?;
        field.field_type.as_primitive_type().and_then(primitive_type)
    }

    /// The type of a partition field's values; `None` for one that is not known.
    fn partition_primitive(&self, field: &PartitionField) -> Option<PrimitiveType> {
        let schema = self.schema_with_field(field.source_id);
        let source = schema.and_then(|schema| schema.field_by_id(field.source_id));
        result_type(field.transform?, source.and_then(|source| source.field_type.as_primitive_type()))
    }

    /// The same as Arrow has it.
    pub(crate) fn partition_field_type(&self, field: &PartitionField) -> Option<DataType> {
        primitive_type(&self.partition_primitive(field)?)
    }

    /// A bound of a partition field, as a manifest list has it.
    pub(crate) fn partition_value(&self, field: &PartitionField, bytes: &[u8]) -> Option<ScalarValue> {
        scalar_of_bytes(bytes, &self.partition_primitive(field)?)
    }

    /// About the heap that this takes: the crate's structs hold what the JSON does, twice over.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.json_bytes * 3
    }
}

/// The branch that is read if none is asked for.
pub(crate) const MAIN_BRANCH: &str = "main";

/// Bytes of a metadata file without gzip, which shows in the first of them whatever the file's name. A small file
/// can unpack to anything, so the length has a bound.
fn unpacked(bytes: Bytes) -> Result<Bytes, String> {
    const UNPACKED_BYTES_MAX: u64 = 1 << 30;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut json = Vec::new();
    let read =
        flate2::read::MultiGzDecoder::new(bytes.as_ref()).take(UNPACKED_BYTES_MAX).read_to_end(&mut json);
    read.map_err(|error| format!("gzip: {error}"))?;
    Ok(Bytes::from(json))
}

/// Refuses what the crate's parser would only call invalid.
fn check_known(json: &Value, table: &TableName) -> Result<()> {
    let not_supported = |feature| Err(Error::NotSupported { table: table.clone(), feature });
    if let Some(version) = json["format-version"].as_u64().filter(|version| *version > FORMAT_VERSION_MAX) {
        return not_supported(format!("format version {version}"));
    }
    let specs = json["partition-specs"].as_array().into_iter().flatten();
    let mut fields = specs.flat_map(|spec| spec["fields"].as_array().into_iter().flatten());
    if fields.any(|field| field["source-ids"].as_array().is_some_and(|ids| ids.len() > 1)) {
        return not_supported("a partition transform of several columns".to_owned());
    }
    Ok(())
}

/// The references; the crate keeps them to itself.
fn references(json: &Value) -> BTreeMap<String, Reference> {
    let Some(refs) = json["refs"].as_object() else {
        return BTreeMap::new();
    };
    let reference = |value: &Value| {
        let snapshot_id = value["snapshot-id"].as_i64()?;
        let kind = match value["type"].as_str()? {
            "tag" => ReferenceKind::Tag,
            _ => ReferenceKind::Branch,
        };
        let retention = Retention {
            max_ref_age_ms: value["max-ref-age-ms"].as_i64(),
            max_snapshot_age_ms: value["max-snapshot-age-ms"].as_i64(),
            min_snapshots_to_keep: value["min-snapshots-to-keep"]
                .as_i64()
                .and_then(|n| i32::try_from(n).ok()),
        };
        Some(Reference { snapshot_id, kind, retention })
    };
    refs.iter().filter_map(|(name, value)| Some((name.clone(), reference(value)?))).collect()
}

fn own_snapshot(snapshot: &::iceberg::spec::Snapshot) -> Snapshot {
    Snapshot {
        id: snapshot.snapshot_id(),
        parent_id: snapshot.parent_snapshot_id(),
        sequence_number: snapshot.sequence_number(),
        timestamp_ms: snapshot.timestamp_ms(),
        // Not `Snapshot::schema`, which panics without an id.
        schema_id: snapshot.schema_id(),
        manifest_list: snapshot.manifest_list().to_owned(),
        manifests: None,
        operation: snapshot.summary().operation.as_str().to_owned(),
        summary: snapshot.summary().additional_properties.clone(),
        encrypted: snapshot.encryption_key_id().is_some(),
    }
}

pub(super) fn own_spec(spec: &::iceberg::spec::PartitionSpec) -> PartitionSpec {
    let field = |field: &::iceberg::spec::PartitionField| PartitionField {
        source_id: field.source_id,
        field_id: field.field_id,
        name: field.name.clone(),
        transform: transform(field.transform),
    };
    PartitionSpec { id: spec.spec_id(), fields: spec.fields().iter().map(field).collect() }
}
