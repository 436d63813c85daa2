//! The house on Google's and on Azure's storage, as their emulators: what S3 has its twenty tests for, once more in
//! short, and the keys of each.

use std::time::Duration;

use tarn_client::Connection;
use tarn_harness::clouds::{self, ACCOUNT, ACCOUNT_KEY, BUCKET};
use tarn_harness::{Data, Process, run_within};

use crate::clusters::MODES;
use crate::rows::{self, blames_storage, describe, refused, rows, value};

/// The first run fetches the emulators, and builds one of them, beside all other tests.
const LIMIT: Duration = Duration::from_secs(1200);

#[test]
fn google_cloud_storage_holds_a_warehouse() {
    run_within(LIMIT, async {
        let Some(google) = clouds::google().await else { return };
        let storage = format!("[storage.gcs]\nendpoint = \"{}\"\n", google.endpoint);
        let (_process, mut connection) = serve(&storage, &format!("gs://{BUCKET}/warehouse"), &[]).await;
        warehouse_works(&mut connection).await;
    });
}

#[test]
fn azure_storage_holds_a_warehouse() {
    run_within(LIMIT, async {
        let Some(azure) = clouds::azure().await else { return };
        let storage = format!("[storage.azure]\nendpoint = \"{}\"\n", azure.endpoint);
        let warehouse = format!("abfss://{BUCKET}@{ACCOUNT}.dfs.core.windows.net/warehouse");
        let key = [("AZURE_STORAGE_ACCOUNT_KEY".to_string(), ACCOUNT_KEY.to_string())];
        let (_process, mut connection) = serve(&storage, &warehouse, &key).await;
        warehouse_works(&mut connection).await;
    });
}

#[test]
fn a_key_that_azure_refuses_is_an_error_that_shows_no_secret() {
    run_within(LIMIT, async {
        let Some(azure) = clouds::azure().await else { return };
        let storage =
            format!("[storage.azure]\nendpoint = \"{}\"\naccount = \"{ACCOUNT}\"\n", azure.endpoint);
        let wrong = "bm90IHRoZSBzZWNyZXQ=";
        let key = [("AZURE_STORAGE_ACCOUNT_KEY".to_string(), wrong.to_string())];
        let (mut process, mut connection) =
            serve(&storage, &format!("wasbs://{BUCKET}/warehouse"), &key).await;
        rows::run(&mut connection, "create schema refused").await;
        let error = refused(&mut connection, "create table refused.t as select 1 as x").await;
        assert!(blames_storage(&error), "{}", describe(&error));
        assert!(!describe(&error).contains(wrong) && !process.output().contains(wrong));
        assert_eq!(value(&mut connection, "select 1").await, "1");
        assert!(process.is_running());
    });
}

/// Made, written, read in every mode, read as it was, and removed.
async fn warehouse_works(connection: &mut Connection) {
    for sql in [
        "create schema shop",
        "create table shop.sales (id bigint, day date, town varchar) partitioned by (month(day), town)",
        "insert into shop.sales values (1, date '2026-01-31', 'Zürich 100%'), (2, date '2026-02-01', 'a/b=c d')",
        "insert into shop.sales select value, date '2026-03-01', null from (select unnest(range(3, 1001)) as value)",
    ] {
        rows::run(connection, sql).await;
    }
    for mode in MODES {
        rows::run(connection, &format!("set execution_mode = '{mode}'")).await;
        let sql = "select count(*), sum(id), count(town), max(town) from shop.sales";
        assert_eq!(rows(connection, sql).await.text(), [["1000", "500500", "2", "a/b=c d"]], "{mode}");
        let sql = "select id from shop.sales where town = 'Zürich 100%' and day < date '2026-02-01'";
        assert_eq!(rows(connection, sql).await.text(), [["1"]], "{mode}");
    }
    let first = value(connection, "select min(committed_at) from shop.\"sales$snapshots\"").await;
    assert!(!first.is_empty());
    let snapshot =
        value(connection, "select snapshot_id from shop.\"sales$snapshots\" order by committed_at limit 1")
            .await;
    let sql = format!("select count(*) from shop.sales for version as of {snapshot}");
    assert_eq!(value(connection, &sql).await, "2");
    rows::run(connection, "create or replace table shop.sales as select 7 as x").await;
    assert_eq!(value(connection, "select x from shop.sales").await, "7");
    rows::run(connection, "drop table shop.sales purge").await;
    refused(connection, "select * from shop.sales").await;
}

/// `tarn serve` over a warehouse in a cloud.
async fn serve(storage: &str, warehouse: &str, key: &[(String, String)]) -> (Process, Connection) {
    let data = Data::empty();
    let folder = data.folder().display();
    let config = format!(
        "[storage]\nretries_max = 2\nretry_timeout_ms = 3000\n\n{storage}\n\
         [catalogs.lake]\nuri = \"sqlite://{folder}/catalog.db\"\nwarehouse = \"{warehouse}\"\n"
    );
    let file = data.folder().join("tarn.toml");
    std::fs::write(&file, config).unwrap();
    let (process, ports) = crate::operations::serve(data.folder(), Some(&file), key).await;
    let connection = Connection::connect(&ports.url()).await.unwrap();
    (process, connection)
}
