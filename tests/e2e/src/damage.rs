//! Tables of other engines, damaged: each query gives the right answer or a clear error, never some of the rows.
//!
//! A test works on a copy of a fixture. The rule: what a damaged file cannot say must not be guessed,
//! and the server reads the next table as if nothing had been.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tarn_client::Connection;
use tarn_harness::fixtures::{self, Fixture};
use tarn_harness::{Cluster, Data, Fault, run};

use crate::clusters::{MODES, connect_in};
use crate::rows::{blames_storage, collect, describe, query, value};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_missing_manifest_is_an_error() {
    run(async {
        let (folder, data) = fixtures::copy("deletes.copy_on_write_v2").await;
        let manifests = files(&folder, |name| name.ends_with(".avro") && !name.starts_with("snap-"));
        assert!(!manifests.is_empty());
        manifests.iter().for_each(|manifest| std::fs::remove_file(manifest).unwrap());
        check(&data, "deletes.copy_on_write_v2", Allowed::Error).await;
    });
}

#[test]
fn one_missing_manifest_of_several_is_an_error() {
    run(async {
        let table = "deletes.merge_on_read_v2";
        let (_folder, data) = fixtures::copy(table).await;
        let cluster = Cluster::distributed(&data, 1).await;
        let (schema, name) = table.split_once('.').unwrap();
        let live = "content = 0 and added_data_files_count + existing_data_files_count > 0";
        let sql = format!("select path from fixtures.{schema}.\"{name}$manifests\" where {live}");
        let manifests = crate::rows::rows(&mut cluster.connect().await, &sql).await.text();
        cluster.stop().await;
        assert!(manifests.len() > 1, "{manifests:?}");
        for manifest in manifests {
            let gone = manifest[0].rsplit('/').next().unwrap().to_string();
            let (folder, data) = fixtures::copy(table).await;
            let found = files(&folder, |name| name.ends_with(".avro"));
            let found: Vec<_> = found.into_iter().filter(|path| path.ends_with(&gone)).collect();
            assert_eq!(found.len(), 1, "{gone}");
            std::fs::remove_file(&found[0]).unwrap();
            check(&data, table, Allowed::Error).await;
        }
    });
}

#[test]
fn a_missing_manifest_of_deletes_is_an_error() {
    run(async {
        for table in ["deletes.merge_on_read_v2", "deletes.merge_on_read_v3"] {
            let (folder, data) = fixtures::copy(table).await;
            let manifests = files(&folder, |name| name.ends_with(".avro") && !name.starts_with("snap-"));
            let (mut removed, mut left) = (0, 0);
            for manifest in manifests {
                // The header of a manifest says what its files are.
                let bytes = std::fs::read(&manifest).unwrap();
                if bytes.windows(15).any(|window| window == b"content\x0edeletes") {
                    std::fs::remove_file(manifest).unwrap();
                    removed += 1;
                } else {
                    left += 1;
                }
            }
            assert!(removed > 0 && left > 0, "{table}: {removed} of {}", removed + left);
            check(&data, table, Allowed::Error).await;
        }
    });
}

#[test]
fn a_missing_delete_file_is_an_error() {
    run(async {
        for end in ["-deletes.parquet", "-deletes.puffin"] {
            let table =
                if end.ends_with("puffin") { "deletes.merge_on_read_v3" } else { "deletes.merge_on_read_v2" };
            let (folder, data) = fixtures::copy(table).await;
            let deletes = files(&folder, |name| name.ends_with(end));
            assert!(!deletes.is_empty(), "{table}");
            deletes.iter().for_each(|file| std::fs::remove_file(file).unwrap());
            check(&data, table, Allowed::Error).await;
        }
    });
}

#[test]
fn a_deletion_vector_whose_checksum_is_wrong_is_an_error() {
    run(async {
        let table = "deletes.merge_on_read_v3";
        let (folder, data) = fixtures::copy(table).await;
        let puffins = files(&folder, |name| name.ends_with(".puffin"));
        assert!(!puffins.is_empty());
        for puffin in puffins {
            let mut bytes = std::fs::read(&puffin).unwrap();
            // The file's magic is 4 bytes, the blob's length 4, its magic 4, then the bitmap.
            for at in 24..bytes.len().min(40) {
                bytes[at] ^= 0x01;
            }
            std::fs::write(&puffin, bytes).unwrap();
        }
        check(&data, table, Allowed::Error).await;
    });
}

#[test]
fn an_encrypted_table_is_refused_by_name() {
    run(async {
        let table = "deletes.merge_on_read_v3";
        let by_property = |metadata: &mut Value| metadata["properties"]["encryption.key-id"] = json!("a");
        let by_snapshot = |metadata: &mut Value| {
            metadata["encryption-keys"] = json!([{ "key-id": "a", "encrypted-key-metadata": "AAAA" }]);
            for snapshot in metadata["snapshots"].as_array_mut().unwrap() {
                snapshot["key-id"] = json!("a");
            }
        };
        for mark in [by_property as fn(&mut Value), by_snapshot] {
            let (folder, data) = fixtures::copy(table).await;
            for file in files(&folder, |name| name.ends_with(".metadata.json")) {
                let mut metadata: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
                mark(&mut metadata);
                std::fs::write(&file, metadata.to_string()).unwrap();
            }
            let cluster = Cluster::one_process(&data).await;
            let mut connection = cluster.connect().await;
            for sql in ["select * from {t}", "select count(*) from {t}", "select * from {t} limit 1"] {
                let sql = sql.replace("{t}", &format!("fixtures.{table}"));
                let error = query(&mut connection, &sql).await.unwrap_err();
                assert_eq!(crate::rows::code(&error), "not_supported", "{sql}: {}", describe(&error));
                assert!(
                    describe(&error).contains("encryption") && describe(&error).contains("merge_on_read_v3")
                );
            }
            cluster.stop().await;
        }
    });
}

#[test]
fn a_data_file_longer_than_its_manifest_says_is_read_rightly_or_refused() {
    run(async {
        let table = "deletes.copy_on_write_v2";
        let (folder, data) = fixtures::copy(table).await;
        for file in files(&folder, |name| name.ends_with(".parquet")) {
            let mut bytes = std::fs::read(&file).unwrap();
            bytes.extend_from_slice(&[0x5a; 300]);
            std::fs::write(&file, bytes).unwrap();
        }
        check(&data, table, Allowed::ErrorOrAnswer).await;
    });
}

#[test]
fn a_data_file_shorter_than_its_manifest_says_is_an_error() {
    run(async {
        let table = "deletes.copy_on_write_v2";
        for cut in [1, 100, 600] {
            let (folder, data) = fixtures::copy(table).await;
            for file in files(&folder, |name| name.ends_with(".parquet")) {
                let bytes = std::fs::read(&file).unwrap();
                std::fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
            }
            check(&data, table, Allowed::Error).await;
        }
    });
}

#[test]
fn an_empty_data_file_is_an_error() {
    run(async {
        let table = "deletes.copy_on_write_v2";
        let (folder, data) = fixtures::copy(table).await;
        files(&folder, |name| name.ends_with(".parquet"))
            .iter()
            .for_each(|file| std::fs::write(file, b"").unwrap());
        check(&data, table, Allowed::Error).await;
    });
}

#[test]
fn a_snapshot_expired_under_a_running_query_is_an_error_and_the_next_query_is_well() {
    run(async {
        let table = "deletes.copy_on_write_v2";
        let (folder, data) = fixtures::copy(table).await;
        let cluster = Cluster::distributed(&data, 2).await;
        for mode in MODES {
            let mut connection = connect_in(&cluster, mode).await;
            // Planned when it is asked for, run when it is first read.
            let prepared =
                connection.query(&format!("select id, name from fixtures.{table} where id > 0")).await;
            let kept: Vec<_> = files(&folder, |name| name.ends_with(".parquet"))
                .into_iter()
                .map(|file| (std::fs::read(&file).unwrap(), file))
                .collect();
            kept.iter().for_each(|(_, file)| std::fs::remove_file(file).unwrap());
            let outcome = match prepared {
                Ok(stream) => collect(stream).await,
                Err(error) => Err(error),
            };
            match outcome {
                // It may have read everything before.
                Ok(result) => assert_eq!(result.rows.len(), answer(table), "{mode}"),
                Err(error) => assert!(blames_storage(&error), "{mode}: {}", describe(&error)),
            }
            kept.iter().for_each(|(bytes, file)| std::fs::write(file, bytes).unwrap());
            let after =
                value(&mut connection, &format!("select count(name) from fixtures.{table} where id > 0"))
                    .await;
            assert_eq!(after, answer(table).to_string(), "{mode}");
        }
        cluster.stop().await;
    });
}

#[test]
fn a_snapshot_expired_while_its_rows_are_read_is_an_error_after_the_rows_that_were_read() {
    const FILES: usize = 40;
    run(async {
        let data = Data::empty();
        let cluster = Cluster::distributed(&data, 2).await;
        for mode in MODES {
            let mut connection = connect_in(&cluster, mode).await;
            // A table of its own, so that no cache has seen it.
            let table = format!("default.expired_{mode}");
            let rows: Vec<_> = (0..FILES).map(|n| format!("({n}, 'name {n}')")).collect();
            let create = format!(
                "create table {table} partitioned by (part) as select * from (values {}) as v(part, name)",
                rows.join(", ")
            );
            crate::rows::run(&mut connection, &create).await;
            let folder = data.folder().join(format!("warehouse/default/expired_{mode}"));
            let kept = files(&folder, |name| name.ends_with(".parquet"));
            assert_eq!(kept.len(), FILES, "{mode}");
            let kept: Vec<_> = kept.into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect();

            let sql = format!("select part, name from {table} where part >= 0");
            let slow = cluster.faults().inject(".parquet", Fault::SlowReads(Duration::from_millis(100)));
            let stream = connection.query(&sql).await.unwrap_or_else(|error| panic!("{}", describe(&error)));
            let query_id = stream.query_id().unwrap_or_default().to_string();
            let expire = async {
                let opened = async || cluster.scans().of(&query_id).len();
                let reading = tarn_harness::wait::until(PATIENCE, async || opened().await >= 4).await;
                assert!(reading, "{mode}: nothing is read");
                kept.iter().for_each(|(_, file)| std::fs::remove_file(file).unwrap());
            };
            let (outcome, ()) = tokio::join!(collect(stream), expire);
            let error = outcome.err().unwrap_or_else(|| panic!("{mode}: a result of some rows"));
            let text = describe(&error);
            assert_eq!(crate::rows::code(&error), "storage_error", "{mode}: {text}");
            assert!(text.contains(&table) && text.contains("expired while the query ran"), "{mode}: {text}");
            drop(slow);
            kept.iter().for_each(|(bytes, file)| std::fs::write(file, bytes).unwrap());
            let count = format!("select count(name) from {table} where part >= 0");
            assert_eq!(value(&mut connection, &count).await, FILES.to_string(), "{mode}");
        }
        cluster.stop().await;
    });
}

#[test]
fn a_table_dropped_and_made_anew_under_its_name_is_the_new_one_soon_and_never_a_mixture() {
    run(async {
        let (old, new) = ("deletes.copy_on_write_v2", "history.branches_and_tags_v1");
        let named = |table| Fixture { table: "s.t".to_string(), ..fixture(table) };
        let (first, second) = (named(old), named(new));
        let data = fixtures::data(std::slice::from_ref(&first)).await;
        let cluster = Cluster::distributed(&data, 1).await;
        for mode in MODES {
            let mut connection = connect_in(&cluster, mode).await;
            let rows = |text: &str| text.parse::<usize>().unwrap();
            let sql = "select count(name) from fixtures.s.t where name is not null";
            let before = rows(&value(&mut connection, sql).await);
            let running =
                connection.query("select * from fixtures.s.t where name is not null").await.unwrap();
            fixtures::register(&data.folder().join("fixtures.db"), std::slice::from_ref(&second)).await;
            let running = collect(running).await.unwrap();
            assert!(
                [answer(old), answer(new)].contains(&running.rows.len()),
                "{mode}: {}",
                running.rows.len()
            );
            assert!([answer(old), answer(new)].contains(&before), "{mode}: {before}");
            let seen = tarn_harness::wait::until(PATIENCE, async || {
                let mut connection = connect_in(&cluster, mode).await;
                value(&mut connection, sql).await == answer(new).to_string()
            });
            assert!(seen.await, "{mode}: the new table is not seen");
            fixtures::register(&data.folder().join("fixtures.db"), std::slice::from_ref(&first)).await;
            let expected = answer(old).to_string();
            let seen = tarn_harness::wait::until(PATIENCE, async || {
                let mut connection = connect_in(&cluster, mode).await;
                value(&mut connection, sql).await == expected
            });
            assert!(seen.await, "{mode}: the old table is not seen again");
        }
        cluster.stop().await;
    });
}

/// What a query on a damaged table may do.
#[derive(PartialEq)]
enum Allowed {
    Error,
    ErrorOrAnswer,
}

/// Queries on the damaged table in every mode, with a table beside it that is well.
async fn check(data: &Data, table: &str, allowed: Allowed) {
    let cluster = Cluster::distributed(data, 1).await;
    let rows = answer(table);
    for mode in MODES {
        let mut connection = connect_in(&cluster, mode).await;
        crate::rows::run(&mut connection, "create schema if not exists lake.default").await;
        for (sql, expected) in [
            (format!("select * from fixtures.{table}"), rows),
            (
                format!("select name, count(id) from fixtures.{table} group by name order by 1 nulls last"),
                rows,
            ),
            (format!("select id from fixtures.{table} limit 1000"), rows),
        ] {
            judge(&mut connection, &sql, expected, &allowed, mode).await;
        }
        assert_eq!(
            value(&mut connection, "select count(*) from (values (1), (2)) as v(x)").await,
            "2",
            "{mode}"
        );
    }
    cluster.stop().await;
}

async fn judge(connection: &mut Connection, sql: &str, expected: usize, allowed: &Allowed, mode: &str) {
    match query(connection, sql).await {
        Ok(result) if *allowed == Allowed::ErrorOrAnswer => {
            assert_eq!(result.rows.len(), expected, "{mode}: {sql}");
        }
        Ok(result) => panic!("{mode}: {sql}: should be an error, has {} rows", result.rows.len()),
        Err(error) => assert!(blames_storage(&error), "{mode}: {sql}: {}", describe(&error)),
    }
}

fn fixture(table: &str) -> Fixture {
    fixtures::all().into_iter().find(|fixture| fixture.table == table).unwrap()
}

/// How many rows the writer says that the table has.
fn answer(table: &str) -> usize {
    let path = fixtures::folder().join(format!("answers/{}.json", table.replace('.', "/")));
    let answers: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let all = answers["queries"].as_array().unwrap().iter().find(|query| query["sql"] == "select * from {t}");
    all.unwrap()["rows"].as_array().unwrap().len()
}

fn files(folder: &Path, chosen: impl Fn(&str) -> bool + Copy) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, chosen));
        } else if chosen(&path.file_name().unwrap().to_string_lossy()) {
            found.push(path);
        }
    }
    found.sort();
    found
}
