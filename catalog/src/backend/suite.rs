//! What every backend must do, for the tests of each, and for end-to-end tests over real servers.
//!
//! Asserts; it is called by tests only. Whatever it makes it drops, so that it can be run on a
//! catalog that is kept. The rule: nothing here knows which backend it talks to.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use tarn_scan::storage::Router;

use super::{Backend, LoadedTable, Outcome, TableIdent};
use crate::config::CatalogConfig;
use crate::error::{Error, ErrorKind};
use crate::iceberg::{Metadata, NewSnapshot, ViewMetadata, new_table, with_snapshot};
use crate::metadata_cache::{self, Files};
use crate::name::TableName;
use crate::write::{NewTable, NewView};

/// Opens a catalog that is empty and runs through it. Tables may lie below `location`.
///
/// # Panics
/// If the catalog does not do what every catalog must, views among it.
pub async fn run(config: &CatalogConfig, router: &Router, location: &str) {
    let files = Arc::new(Files::new(&metadata_cache::Config::default(), router.clone()));
    let backend = super::open("lake", config, router, &files).await.unwrap();
    suite(backend.as_ref(), location, true).await;
}

/// Runs through an empty backend whose tables may lie below `location`, and that can hold views or cannot.
pub(crate) async fn suite(backend: &dyn Backend, location: &str, has_views: bool) {
    schemas_are_made_and_dropped(backend, location).await;
    tables_are_made_listed_and_dropped(backend, location).await;
    of_two_commits_to_one_version_one_lands(backend, location).await;
    table_made_anew_is_another(backend, location).await;
    nested_schemas_are_apart(backend, location).await;
    names_are_taken_as_they_are(backend, location).await;
    listings_are_whole(backend, location).await;
    match has_views {
        true => views_are_made_replaced_and_dropped(backend, location).await,
        false => there_are_no_views(backend, location).await,
    }
}

async fn schemas_are_made_and_dropped(backend: &dyn Backend, location: &str) {
    assert!(backend.list_schemas().await.unwrap().is_empty());
    backend.create_schema("b", None).await.unwrap();
    backend.create_schema("a", Some(&format!("{location}/elsewhere/"))).await.unwrap();
    assert_eq!(backend.list_schemas().await.unwrap(), ["a", "b"]);
    assert_eq!(backend.schema_location("a").await.unwrap(), format!("{location}/elsewhere"));
    assert!(backend.schema_location("b").await.unwrap().ends_with("/b"));
    assert_eq!(backend.create_schema("a", None).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(backend.list_tables("a").await.unwrap().is_empty());
    backend.drop_schema("a").await.unwrap();
    backend.drop_schema("b").await.unwrap();
    assert_eq!(backend.drop_schema("a").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.list_tables("a").await.unwrap_err().kind(), ErrorKind::NotFound);
}

async fn tables_are_made_listed_and_dropped(backend: &dyn Backend, location: &str) {
    let ident = TableIdent::new("s", "t");
    let first = || table(location);
    let no_schema = backend.create_table(&ident, first()).await.unwrap_err();
    assert_eq!(no_schema.kind(), ErrorKind::NotFound);
    backend.create_schema("s", None).await.unwrap();
    assert_eq!(backend.load_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    let proposed = backend.new_table_location(&ident, &first()).await.unwrap();
    assert!(proposed.contains("/t"), "{proposed}");
    let made = first();
    let uuid = made.uuid();
    let created = backend.create_table(&ident, made).await.unwrap();
    assert!(created.metadata_location.contains("/metadata/00000-"), "{}", created.metadata_location);
    assert_eq!(created.metadata.uuid(), uuid);
    let loaded = backend.load_table(&ident).await.unwrap();
    assert_eq!(loaded.metadata_location, created.metadata_location);
    assert_eq!(loaded.metadata.uuid(), uuid);
    assert_eq!(loaded.metadata.properties().get("owner").map(String::as_str), Some("suite"));
    assert_eq!(backend.list_tables("s").await.unwrap(), ["t"]);
    let twice = backend.create_table(&ident, first()).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    assert_eq!(backend.drop_schema("s").await.unwrap_err().kind(), ErrorKind::Invalid);
    let dropped = backend.drop_table(&ident).await.unwrap();
    assert_eq!(dropped.metadata_location, created.metadata_location);
    assert_eq!(backend.drop_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.forget_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.create_table(&ident, first()).await.unwrap();
    backend.forget_table(&ident).await.unwrap();
    assert_eq!(backend.load_table(&ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.drop_schema("s").await.unwrap();
}

async fn of_two_commits_to_one_version_one_lands(backend: &dyn Backend, location: &str) {
    let ident = TableIdent::new("s", "t");
    backend.create_schema("s", None).await.unwrap();
    let base = backend.create_table(&ident, table(location)).await.unwrap();
    let (first, second) =
        tokio::join!(async { backend.commit(&ident, &base, next(&base, 1)).await.unwrap() }, async {
            backend.commit(&ident, &base, next(&base, 2)).await.unwrap()
        },);
    let landed = match (first, second) {
        (Outcome::Committed(table), Outcome::Conflict) | (Outcome::Conflict, Outcome::Committed(table)) => {
            table
        }
        other => panic!("not one commit and one conflict: {other:?}"),
    };
    assert!(landed.metadata_location.contains("/metadata/00001-"), "{}", landed.metadata_location);
    let loaded: LoadedTable = backend.load_table(&ident).await.unwrap();
    assert_eq!(loaded.metadata_location, landed.metadata_location);
    assert_eq!(loaded.metadata.current_snapshot_id(), landed.metadata.current_snapshot_id());
    let again = backend.commit(&ident, &loaded, next(&loaded, 3)).await.unwrap();
    assert!(matches!(&again, Outcome::Committed(table) if table.metadata.current_snapshot_id() == Some(3)));
    assert_eq!(backend.load_table(&ident).await.unwrap().metadata.snapshots().len(), 2);
    let gone = TableIdent::new("s", "gone");
    let outcome = backend.commit(&gone, &base, next(&base, 4)).await.unwrap();
    assert!(matches!(outcome, Outcome::Conflict), "{outcome:?}");
    backend.drop_table(&ident).await.unwrap();
    backend.drop_schema("s").await.unwrap();
}

async fn table_made_anew_is_another(backend: &dyn Backend, location: &str) {
    let ident = TableIdent::new("s", "t");
    backend.create_schema("s", None).await.unwrap();
    let before = backend.create_table(&ident, table(location)).await.unwrap();
    backend.drop_table(&ident).await.unwrap();
    let after = backend.create_table(&ident, table(location)).await.unwrap();
    assert_ne!(before.metadata.uuid(), after.metadata.uuid());
    assert_eq!(backend.load_table(&ident).await.unwrap().metadata.uuid(), after.metadata.uuid());
    let outcome = backend.commit(&ident, &before, next(&before, 1)).await.unwrap();
    assert!(matches!(outcome, Outcome::Conflict), "{outcome:?}");
    backend.drop_table(&ident).await.unwrap();
    backend.drop_schema("s").await.unwrap();
}

async fn nested_schemas_are_apart(backend: &dyn Backend, location: &str) {
    backend.create_schema("a", None).await.unwrap();
    backend.create_schema("a.b", None).await.unwrap();
    assert_eq!(backend.list_schemas().await.unwrap(), ["a", "a.b"]);
    assert!(!backend.schema_exists("a_b").await.unwrap());
    let ident = TableIdent::new("a.b", "t");
    backend.create_table(&ident, table(location)).await.unwrap();
    assert_eq!(backend.list_tables("a.b").await.unwrap(), ["t"]);
    assert!(backend.list_tables("a").await.unwrap().is_empty());
    assert_eq!(backend.load_table(&TableIdent::new("a", "t")).await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.drop_table(&ident).await.unwrap();
    backend.drop_schema("a.b").await.unwrap();
    backend.drop_schema("a").await.unwrap();
}

async fn names_are_taken_as_they_are(backend: &dyn Backend, location: &str) {
    let schema = "Größe & 50%";
    backend.create_schema(schema, None).await.unwrap();
    for name in ["two words", "50%25", "a+b=c?&d", "Straße", "it's \"quoted\"", "Upper"] {
        let ident = TableIdent::new(schema, name);
        backend.create_table(&ident, table(location)).await.unwrap();
        assert_eq!(backend.list_tables(schema).await.unwrap(), [name]);
        backend.load_table(&ident).await.unwrap();
        backend.drop_table(&ident).await.unwrap();
    }
    assert_eq!(backend.list_schemas().await.unwrap(), [schema]);
    backend.drop_schema(schema).await.unwrap();
}

async fn listings_are_whole(backend: &dyn Backend, location: &str) {
    backend.create_schema("s", None).await.unwrap();
    let names: Vec<_> = (0..25).map(|n| format!("t{n:02}")).collect();
    for name in &names {
        backend.create_table(&TableIdent::new("s", name), table(location)).await.unwrap();
    }
    assert_eq!(backend.list_tables("s").await.unwrap(), names);
    for name in &names {
        backend.drop_table(&TableIdent::new("s", name)).await.unwrap();
    }
    backend.drop_schema("s").await.unwrap();
}

async fn there_are_no_views(backend: &dyn Backend, location: &str) {
    backend.create_schema("s", None).await.unwrap();
    let refused = backend.create_view(&TableIdent::new("s", "v"), a_view("select 1", location)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(backend.list_views("s").await.unwrap().is_empty());
    backend.drop_schema("s").await.unwrap();
}

async fn views_are_made_replaced_and_dropped(backend: &dyn Backend, location: &str) {
    let (view, table_ident) = (TableIdent::new("s", "v"), TableIdent::new("s", "t"));
    backend.create_schema("s", None).await.unwrap();
    backend.create_view(&view, a_view("select 1", location)).await.unwrap();
    backend.create_table(&table_ident, table(location)).await.unwrap();
    assert_eq!(backend.list_views("s").await.unwrap(), ["v"]);
    assert_eq!(backend.list_tables("s").await.unwrap(), ["t"]);
    assert_eq!(backend.load_table(&view).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.load_view(&table_ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    let taken = backend.create_view(&view, a_view("select 2", location)).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    let taken = backend.create_view(&table_ident, a_view("select 2", location)).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert_eq!(backend.drop_schema("s").await.unwrap_err().kind(), ErrorKind::Invalid);
    let name = TableName::new("c", "s", "v");
    let first = backend.load_view(&view).await.unwrap();
    assert_eq!(first.metadata.definition(&name).unwrap().sql, "select 1");
    let second = first.metadata.replaced(&new_view("select 2")).unwrap();
    assert!(backend.replace_view(&view, &first, second).await.unwrap());
    let second = backend.load_view(&view).await.unwrap();
    assert_eq!(second.metadata.definition(&name).unwrap().sql, "select 2");
    assert_eq!(second.metadata.uuid(), first.metadata.uuid());
    backend.drop_view(&view).await.unwrap();
    assert_eq!(backend.drop_view(&view).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.drop_view(&table_ident).await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.drop_table(&table_ident).await.unwrap();
    backend.drop_schema("s").await.unwrap();
}

fn a_view(sql: &str, location: &str) -> ViewMetadata {
    ViewMetadata::new(&new_view(sql), &format!("{location}/v")).unwrap()
}

fn new_view(sql: &str) -> NewView {
    NewView {
        schema: Schema::new(vec![Field::new("x", DataType::Int64, true)]),
        sql: sql.to_owned(),
        default_catalog: None,
        default_schema: "s".to_owned(),
        properties: BTreeMap::new(),
    }
}

/// The first version of a table of one column, each with an identity of its own.
fn table(location: &str) -> Metadata {
    let new = NewTable {
        schema: Schema::new(vec![Field::new("x", DataType::Int64, true)]),
        partition: Vec::new(),
        properties: BTreeMap::from([("owner".to_owned(), "suite".to_owned())]),
        location: None,
    };
    new_table(&new, location).unwrap()
}

/// The version after `base`, with one more snapshot.
fn next(base: &LoadedTable, snapshot_id: i64) -> Metadata {
    let manifest_list = format!("{}/metadata/snap-{snapshot_id}.avro", base.metadata.location());
    let snapshot = NewSnapshot { snapshot_id, manifest_list, summary: BTreeMap::new() };
    let made: Result<_, Error> = with_snapshot(&base.metadata, Some(&base.metadata_location), &snapshot);
    made.unwrap()
}
