//! What every backend must do, for the tests of each.

use bytes::Bytes;
use serde_json::json;

use super::{Backend, LoadedTable, Outcome, TableIdent};
use crate::error::ErrorKind;
use crate::iceberg::Metadata;
use crate::name::TableName;

/// Runs through an empty backend whose tables may lie below `location`.
pub(crate) async fn suite(backend: &dyn Backend, location: &str) {
    schemas_are_made_and_dropped(backend).await;
    tables_are_made_listed_and_dropped(backend, location).await;
    of_two_commits_to_one_version_one_lands(backend, location).await;
    nested_schemas_are_apart(backend, location).await;
}

async fn schemas_are_made_and_dropped(backend: &dyn Backend) {
    assert!(backend.list_schemas().await.unwrap().is_empty());
    backend.create_schema("b", None).await.unwrap();
    backend.create_schema("a", Some("file:///elsewhere/")).await.unwrap();
    assert_eq!(backend.list_schemas().await.unwrap(), ["a", "b"]);
    assert_eq!(backend.schema_location("a").await.unwrap(), "file:///elsewhere");
    assert!(backend.schema_location("b").await.unwrap().ends_with("/b"));
    assert_eq!(backend.create_schema("a", None).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    backend.drop_schema("a").await.unwrap();
    backend.drop_schema("b").await.unwrap();
    assert_eq!(backend.drop_schema("a").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.list_tables("a").await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn tables_are_made_listed_and_dropped(backend: &dyn Backend, location: &str) {
    let ident = TableIdent::new("s", "t");
    let metadata = || metadata(location, 1);
    let no_schema = backend.create_table(&ident, metadata().await).await.unwrap_err();
    assert_eq!(no_schema.kind(), ErrorKind::NotFound);
    backend.create_schema("s", None).await.unwrap();
    assert_eq!(backend.load_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    let created = backend.create_table(&ident, metadata().await).await.unwrap();
    assert!(created.metadata_location.contains("/metadata/00000-"), "{}", created.metadata_location);
    let loaded = backend.load_table(&ident).await.unwrap();
    assert_eq!(loaded.metadata_location, created.metadata_location);
    assert_eq!(loaded.metadata.uuid(), created.metadata.uuid());
    assert_eq!(backend.list_tables("s").await.unwrap(), ["t"]);
    let twice = backend.create_table(&ident, metadata().await).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    assert_eq!(backend.drop_schema("s").await.unwrap_err().kind(), ErrorKind::Invalid);
    let dropped = backend.drop_table(&ident).await.unwrap();
    assert_eq!(dropped.metadata_location, created.metadata_location);
    assert_eq!(backend.drop_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.forget_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.create_table(&ident, metadata().await).await.unwrap();
    backend.forget_table(&ident).await.unwrap();
    assert_eq!(backend.load_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.drop_schema("s").await.unwrap();
}

async fn of_two_commits_to_one_version_one_lands(backend: &dyn Backend, location: &str) {
    let ident = TableIdent::new("s", "t");
    backend.create_schema("s", None).await.unwrap();
    let base = backend.create_table(&ident, metadata(location, 1).await).await.unwrap();
    let (first, second) = tokio::join!(
        async { backend.commit(&ident, &base, metadata(location, 2).await).await.unwrap() },
        async { backend.commit(&ident, &base, metadata(location, 3).await).await.unwrap() },
    );
    let landed = match (first, second) {
        (Outcome::Committed(table), Outcome::Conflict) | (Outcome::Conflict, Outcome::Committed(table)) => {
            table
        }
        other => panic!("not one commit and one conflict: {other:?}"),
    };
    assert!(landed.metadata_location.contains("/metadata/00001-"), "{}", landed.metadata_location);
    let loaded: LoadedTable = backend.load_table(&ident).await.unwrap();
    assert_eq!(loaded.metadata_location, landed.metadata_location);
    assert_eq!(loaded.metadata.last_updated_ms(), landed.metadata.last_updated_ms());
    let gone = TableIdent::new("s", "gone");
    let outcome = backend.commit(&gone, &base, metadata(location, 4).await).await.unwrap();
    assert!(matches!(outcome, Outcome::Conflict), "{outcome:?}");
    backend.drop_table(&ident).await.unwrap();
    backend.drop_schema("s").await.unwrap();
}

async fn nested_schemas_are_apart(backend: &dyn Backend, location: &str) {
    backend.create_schema("a.b", None).await.unwrap();
    assert!(backend.schema_exists("a").await.unwrap(), "a schema exists if one is in it");
    assert!(!backend.schema_exists("a_b").await.unwrap());
    let ident = TableIdent::new("a.b", "t");
    backend.create_table(&ident, metadata(location, 1).await).await.unwrap();
    assert_eq!(backend.list_tables("a.b").await.unwrap(), ["t"]);
    assert!(backend.list_tables("a").await.unwrap().is_empty());
    backend.drop_table(&ident).await.unwrap();
    backend.drop_schema("a.b").await.unwrap();
}

/// Metadata of a table without columns; versions differ in their time.
async fn metadata(location: &str, version: i64) -> Metadata {
    let json = json!({
        "format-version": 2, "table-uuid": "b2a8a1fd-44a0-4f2b-8bd4-3d1e3a4f3c11", "location": location,
        "last-sequence-number": 0, "last-updated-ms": version * 1000, "last-column-id": 0, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
        "default-spec-id": 0, "last-partition-id": 999, "partition-specs": [{"spec-id": 0, "fields": []}],
        "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
    });
    let name = TableName::new("c", "s", "t");
    Metadata::parse(Bytes::from(json.to_string()), &name, "new").await.unwrap()
}
