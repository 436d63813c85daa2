//! Metadata tables over tables that others wrote. The rows expected here are what the scripts in
//! tests/fixtures/writers put in.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;
use tarn_scan::storage::{self, Router};

use super::MetadataTable;
use super::tests::run_in;
use crate::config::{CatalogConfig, CatalogKind, Config};
use crate::{Lakehouse, TableName};

#[tokio::test]
async fn position_deletes_are_rows_in_whatever_order_they_stand() {
    let sql = "select substr(file_path, strpos(file_path, 'data-')), pos, row is null, spec_id, \
               substr(delete_file_path, strpos(delete_file_path, 'pos-')) from t order by 1, 2";
    let rows = ask("positions_unsorted", MetadataTable::PositionDeletes, sql).await;
    let expected = [
        ("data-00085.parquet", 0),
        ("data-00085.parquet", 2),
        ("data-00085.parquet", 2),
        ("data-00085.parquet", 9),
        ("data-00085.parquet.gone", 1),
        ("data-00086.parquet", 0),
        ("data-00086.parquet", 7),
        ("data-00086.parquet", 500),
    ];
    assert_eq!(rows, expected.map(|(file, pos)| format!("{file} {pos} true 0 pos-00087.parquet")));
}

#[tokio::test]
async fn position_deletes_have_the_partition_of_their_file() {
    let sql = "select spec_id, partition['part'], pos from t order by 1, 2";
    let rows = ask("positions_other_partition", MetadataTable::PositionDeletes, sql).await;
    assert_eq!(rows, ["0 a 0", "0 b 1", "1 NULL 1"]);
}

#[tokio::test]
async fn deletion_vectors_are_rows_like_position_deletes() {
    let sql = "select pos, content_offset > 0, content_size_in_bytes > 0, row is null from t order by file_path, pos";
    let rows = ask("vectors_in_one_file", MetadataTable::PositionDeletes, sql).await;
    assert_eq!(rows, [0, 9, 1, 2, 3].map(|pos| format!("{pos} true true true")));
    // A file of positions stays where it is when a vector takes its place.
    let sql = "select content_offset is null, count(*), sum(pos) from t group by 1 order by 1";
    let rows = ask("vectors_over_positions", MetadataTable::PositionDeletes, sql).await;
    assert_eq!(rows, ["false 2 6", "true 2 2"]);
}

#[tokio::test]
async fn files_of_deletes_in_avro_are_rows_too() {
    let sql = "select pos, delete_file_path like '%.avro' from t order by 1";
    let rows = ask("equality_and_positions", MetadataTable::PositionDeletes, sql).await;
    assert_eq!(rows, ["0 false", "2 true", "9 false"]);
}

#[tokio::test]
async fn a_file_of_deletes_in_another_format_is_refused_by_name() {
    let pinned =
        open().await.pin(&TableName::new("f", "deletes", "position_deletes_orc"), None).await.unwrap();
    let table = pinned.metadata_table(MetadataTable::PositionDeletes, false).unwrap();
    let error = SessionContext::new().read_table(table).unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("an ORC delete file is not supported"), "{error}");
}

#[tokio::test]
async fn metrics_are_told_by_name_and_type() {
    let metric = |column: &str, metric: &str| format!("readable_metrics['{column}']['{metric}']");
    let of = |column: &str| {
        ["value_count", "null_value_count", "lower_bound", "upper_bound"]
            .map(|name| metric(column, name))
            .join(", ")
    };
    let sql = format!("select {}, {} from t where content = 0 order by file_path", of("id"), of("name"));
    let rows = ask("positions_unsorted", MetadataTable::Files, &sql).await;
    assert_eq!(rows, ["10 0 0 9 10 0 n0 n9", "10 0 10 19 10 0 n10 n19"]);
    let sql = "select count(*) from t where readable_metrics['id']['upper_bound'] = 19 and data_file['content'] = 0";
    assert_eq!(ask("positions_unsorted", MetadataTable::Entries, sql).await, ["1"]);
}

async fn ask(table: &str, kind: MetadataTable, sql: &str) -> Vec<String> {
    let lakehouse = open().await;
    let pinned = lakehouse.pin(&TableName::new("f", "core", table), None).await.unwrap();
    let context = SessionContext::new();
    let store = lakehouse.router().object_store();
    context.register_object_store(Router::object_store_url().as_ref(), store);
    run_in(&context, pinned.metadata_table(kind, false).unwrap(), sql).await
}

/// The folder of tables as a catalog; their metadata says that they are elsewhere.
pub(in crate::provider) async fn open() -> Lakehouse {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tables");
    let folder = format!("file://{}", std::fs::canonicalize(folder).unwrap().display());
    let catalog = CatalogConfig {
        kind: CatalogKind::Filesystem,
        warehouse: folder.clone(),
        ..CatalogConfig::default()
    };
    let storage = storage::Config {
        rewrites: BTreeMap::from([("file:///var/tmp/tarn-fixtures".to_owned(), folder)]),
        ..storage::Config::default()
    };
    let config = Config { catalogs: BTreeMap::from([("f".to_owned(), catalog)]), ..Config::default() };
    Lakehouse::open(config, Router::new(storage, Vec::new())).await.unwrap()
}
