//! One version of a view's metadata, by Iceberg's view specification.
//!
//! A view is a text of SQL in a dialect, the columns that it gives, and where its bare names are
//! looked up. It may hold the same query in several dialects; ours is [`DIALECT`]. The rule: a
//! text of another dialect is never read as ours.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ::iceberg::NamespaceIdent;
use ::iceberg::spec::{
    SqlViewRepresentation, ViewFormatVersion, ViewMetadata as SpecViewMetadata, ViewMetadataBuilder,
    ViewRepresentation, ViewRepresentations, ViewVersion,
};
use arrow::datatypes::Schema;
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::builder::{same_type, view_schema};
use super::guarded;
use super::normalise::Extras;
use super::schema::table_schema;
use crate::error::{Error, Result};
use crate::name::TableName;
use crate::write::NewView;

/// What our own SQL is called in a view.
pub const DIALECT: &str = "tarn";

/// Dialects whose texts we read: ours, and that of the engine whose SQL ours is.
const DIALECTS_READ: [&str; 2] = [DIALECT, "datafusion"];

/// The property of a view that lets a replacement drop texts of other dialects.
const DROP_ALLOWED: &str = "replace.drop-dialect.allowed";

/// One version of a view's metadata. Immutable.
#[derive(Clone, Debug)]
pub struct ViewMetadata {
    spec: Arc<SpecViewMetadata>,
}

/// What a view says, for whoever expands it.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewDefinition {
    /// Its query.
    pub sql: String,
    /// The catalog of names without one, if it is not the view's own; by the name it had for the writer.
    pub default_catalog: Option<String>,
    /// The schema of names without one; the levels of a nested namespace are joined by dots.
    pub default_schema: String,
}

impl ViewMetadata {
    /// Reads the bytes of a view's metadata file. Fails with [`Error::Corrupt`].
    pub(crate) fn parse(bytes: &Bytes, view: &TableName, file: &str) -> Result<Self> {
        let spec = guarded(|| Ok(serde_json::from_slice::<SpecViewMetadata>(bytes)?));
        let corrupt = |reason| Error::Corrupt { table: view.clone(), file: file.to_owned(), reason };
        Ok(Self { spec: Arc::new(spec.map_err(corrupt)?) })
    }

    /// The bytes of its metadata file.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.spec.as_ref().clone())
            .map_err(|e| Error::Internal(format!("view metadata is not JSON: {e}")))
    }

    /// The view's identity.
    pub fn uuid(&self) -> Uuid {
        self.spec.uuid()
    }

    /// The view's folder, without a slash at the end.
    pub fn location(&self) -> &str {
        self.spec.location().trim_end_matches('/')
    }

    /// The view's properties; `comment` is one.
    pub fn properties(&self) -> &HashMap<String, String> {
        self.spec.properties()
    }

    /// The columns that it gives, as Arrow has them.
    pub(crate) fn schema(&self, view: &TableName) -> Result<Arc<Schema>> {
        let id = self.spec.current_version().schema_id();
        let schema = self.spec.schema_by_id(id).ok_or_else(|| {
            Error::Invalid(format!("view {:?} has no schema with id {id}", view.to_string()))
        })?;
        Ok(Arc::clone(&table_schema(schema, &Extras::default(), view)?.arrow))
    }

    /// Whether a query with these columns, as Arrow has them, gives what the view says; otherwise why not.
    pub(crate) fn why_not_given_by(&self, columns: &Schema) -> Option<String> {
        let version = self.spec.current_version();
        let recorded = self.spec.schema_by_id(version.schema_id())?;
        let given = match view_schema(columns) {
            Ok(given) => given,
            Err(error) => return Some(error.to_string()),
        };
        let (recorded, given) = (recorded.as_struct().fields(), given.as_struct().fields());
        if recorded.len() != given.len() {
            return Some(format!(
                "it has {} columns, and its query now gives {}",
                recorded.len(),
                given.len()
            ));
        }
        recorded.iter().zip(given).find_map(|(recorded, given)| {
            (!same_type(&recorded.field_type, &given.field_type)).then(|| {
                format!(
                    "its column {:?} is {}, and its query now gives {}",
                    recorded.name, recorded.field_type, given.field_type
                )
            })
        })
    }

    /// The text in a dialect that we read. Fails with [`Error::Invalid`], which names those that it has.
    pub(crate) fn definition(&self, view: &TableName) -> Result<ViewDefinition> {
        let version = self.spec.current_version();
        let texts: BTreeMap<String, &str> = version.representations().iter().map(sql_of).collect();
        let text = DIALECTS_READ.iter().find_map(|dialect| texts.get(*dialect));
        let Some(sql) = text else {
            let found: Vec<_> = texts.keys().map(String::as_str).collect();
            return Err(Error::ViewDialect { name: view.clone(), found: found.join(", ") });
        };
        Ok(ViewDefinition {
            sql: (*sql).to_owned(),
            default_catalog: version.default_catalog().filter(|catalog| !catalog.is_empty()).cloned(),
            default_schema: version.default_namespace().as_ref().join("."),
        })
    }

    /// The first version of a view at `location`.
    pub(crate) fn new(new: &NewView, location: &str) -> Result<Self> {
        let schema = view_schema(&new.schema)?;
        let properties = new.properties.clone().into_iter().collect();
        let location = location.to_owned();
        let built = version(new).and_then(|version| {
            ViewMetadataBuilder::new(location, schema, version, ViewFormatVersion::V1, properties)
        });
        Self::built(built.and_then(ViewMetadataBuilder::build).map(|built| built.metadata))
    }

    /// This view with another query; its history stays.
    pub(crate) fn replaced(&self, new: &NewView) -> Result<Self> {
        let other = self.dialects().into_iter().find(|dialect| !DIALECTS_READ.contains(&dialect.as_str()));
        let allowed = new.properties.get(DROP_ALLOWED).or(self.properties().get(DROP_ALLOWED));
        if let Some(dialect) = other.filter(|_| allowed.is_none_or(|allowed| allowed != "true")) {
            return Err(Error::Invalid(format!(
                "replacing the view would drop its text in dialect {dialect:?}: set its property {DROP_ALLOWED} to true first"
            )));
        }
        let properties: HashMap<_, _> = new.properties.clone().into_iter().collect();
        let builder = self.spec.as_ref().clone().into_builder();
        let schema = view_schema(&new.schema)?;
        let built = builder
            .set_properties(properties)
            .and_then(|builder| builder.set_current_version(version(new)?, schema))
            .and_then(ViewMetadataBuilder::build);
        Self::built(built.map(|built| built.metadata))
    }

    /// The dialects that the current version has.
    pub fn dialects(&self) -> Vec<String> {
        self.spec.current_version().representations().iter().map(|text| sql_of(text).0).collect()
    }

    /// The body by which a REST catalog makes this view.
    pub(crate) fn creation_json(&self, name: &str) -> Result<Value> {
        let version = self.spec.current_version();
        let failed = |e: serde_json::Error| Error::Internal(format!("a view is not JSON: {e}"));
        let schema = self.spec.schema_by_id(version.schema_id()).map(|schema| schema.as_ref().clone());
        Ok(json!({
            "name": name, "location": self.location(), "properties": self.properties(),
            "schema": serde_json::to_value(schema).map_err(failed)?,
            "view-version": serde_json::to_value(version.as_ref()).map_err(failed)?,
        }))
    }

    /// The body by which a REST catalog makes this view of `base`.
    pub(crate) fn replacement_json(&self, base: &Self) -> Result<Value> {
        let version = self.spec.current_version();
        let failed = |e: serde_json::Error| Error::Internal(format!("a view is not JSON: {e}"));
        let schema = self
            .spec
            .schema_by_id(version.schema_id())
            .ok_or_else(|| Error::Internal("a view without the schema of its version".to_owned()))?;
        let known = base.spec.schemas_iter().find(|known| {
            known.as_struct() == schema.as_struct()
                && known.identifier_field_ids().eq(schema.identifier_field_ids())
        });
        let mut view_version = serde_json::to_value(version.as_ref()).map_err(failed)?;
        // A schema that the view had before is named; servers do not take it for one that this commit adds (-1).
        view_version["schema-id"] = json!(known.map_or(-1, |known| known.schema_id()));
        let mut updates = vec![
            json!({ "action": "add-view-version", "view-version": view_version }),
            json!({ "action": "set-current-view-version", "view-version-id": -1 }),
        ];
        if known.is_none() {
            let schema = serde_json::to_value(schema.as_ref()).map_err(failed)?;
            updates.insert(0, json!({ "action": "add-schema", "schema": schema }));
        }
        let changed: BTreeMap<_, _> = self
            .properties()
            .iter()
            .filter(|(key, value)| base.properties().get(*key) != Some(value))
            .collect();
        if !changed.is_empty() {
            updates.insert(0, json!({ "action": "set-properties", "updates": changed }));
        }
        Ok(json!({
            "requirements": [{ "type": "assert-view-uuid", "uuid": base.uuid() }],
            "updates": updates,
        }))
    }

    fn built(built: ::iceberg::Result<SpecViewMetadata>) -> Result<Self> {
        let spec = built.map_err(|e| Error::Invalid(e.message().to_lowercase()))?;
        Ok(Self { spec: Arc::new(spec) })
    }
}

fn version(new: &NewView) -> ::iceberg::Result<ViewVersion> {
    let levels = new.default_schema.split('.').map(str::to_owned).collect();
    let summary =
        [("engine-name", "tarn"), ("engine-version", env!("CARGO_PKG_VERSION")), ("operation", "create")];
    let text = SqlViewRepresentation { sql: new.sql.clone(), dialect: DIALECT.to_owned() };
    // The list of texts can be made from JSON only.
    let texts = serde_json::to_value([ViewRepresentation::Sql(text)])?;
    Ok(ViewVersion::builder()
        .with_default_catalog(new.default_catalog.clone())
        .with_default_namespace(NamespaceIdent::from_vec(levels)?)
        .with_representations(serde_json::from_value::<ViewRepresentations>(texts)?)
        .with_schema_id(0)
        .with_summary(summary.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
        .with_timestamp_ms(chrono::Utc::now().timestamp_millis())
        .build())
}

fn sql_of(text: &ViewRepresentation) -> (String, &str) {
    let ViewRepresentation::Sql(text) = text;
    (text.dialect.to_ascii_lowercase(), text.sql.as_str())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, TimeUnit};

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn view_is_read_back_as_it_was_written() {
        let view = ViewMetadata::new(&new("select a, b from t", 2), "file:///v").unwrap();
        let back = ViewMetadata::parse(&view.to_json().unwrap().into(), &name(), "f").unwrap();
        assert_eq!(back.uuid(), view.uuid());
        let definition = back.definition(&name()).unwrap();
        assert_eq!(
            (definition.sql.as_str(), definition.default_schema.as_str()),
            ("select a, b from t", "s.inner")
        );
        assert_eq!(back.schema(&name()).unwrap().fields().len(), 2);
        assert_eq!(back.properties()["comment"], "c");
    }

    #[test]
    fn replaced_view_keeps_its_identity_and_history() {
        let first = ViewMetadata::new(&new("select 1", 1), "file:///v").unwrap();
        let second = first.replaced(&new("select 1, 2", 2)).unwrap();
        assert_eq!(second.uuid(), first.uuid());
        assert_eq!(second.definition(&name()).unwrap().sql, "select 1, 2");
        assert_eq!(second.spec.versions().len(), 2);
        assert_eq!(second.spec.history().len(), 2);
    }

    #[test]
    fn text_of_another_dialect_is_refused_by_name() {
        let view = ViewMetadata::new(&new("select 1", 1), "file:///v").unwrap();
        let text = String::from_utf8(view.to_json().unwrap()).unwrap();
        let spark = text.replace("\"dialect\":\"tarn\"", "\"dialect\":\"spark\"");
        let spark = ViewMetadata::parse(&spark.into(), &name(), "f").unwrap();
        let error = spark.definition(&name()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains("spark"), "{error}");
        let engine = text.replace("\"dialect\":\"tarn\"", "\"dialect\":\"DataFusion\"");
        let engine = ViewMetadata::parse(&engine.into(), &name(), "f").unwrap();
        assert_eq!(engine.definition(&name()).unwrap().sql, "select 1");
    }

    #[test]
    fn columns_of_the_query_must_be_those_of_the_view() {
        let view = ViewMetadata::new(&new("select", 2), "file:///v").unwrap();
        let columns = |types: &[DataType]| {
            let field =
                |(n, data_type): (usize, &DataType)| Field::new(format!("x{n}"), data_type.clone(), true);
            Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>())
        };
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        assert_eq!(view.why_not_given_by(&columns(&[DataType::Int64, seconds.clone()])), None);
        let other = view.why_not_given_by(&columns(&[DataType::Utf8, seconds])).unwrap();
        assert!(other.contains("\"c0\" is long"), "{other}");
        assert!(view.why_not_given_by(&columns(&[DataType::Int64])).unwrap().contains("2 columns"));
    }

    fn new(sql: &str, columns: usize) -> NewView {
        let types = [DataType::Int64, DataType::Timestamp(TimeUnit::Microsecond, None)];
        let field = |(n, data_type): (usize, &DataType)| Field::new(format!("c{n}"), data_type.clone(), true);
        NewView {
            schema: Schema::new(types.iter().take(columns).enumerate().map(field).collect::<Vec<_>>()),
            sql: sql.to_owned(),
            default_catalog: None,
            default_schema: "s.inner".to_owned(),
            properties: BTreeMap::from([("comment".to_owned(), "c".to_owned())]),
        }
    }

    fn name() -> TableName {
        TableName::new("c", "s", "v")
    }
}
