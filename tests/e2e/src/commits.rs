//! What becomes of a change when the catalog does not say whether it committed: a real REST catalog behind
//! a proxy that loses answers. Without Java and Maven the tests are skipped, loudly. And how soon a change of others
//! is seen.

use std::path::Path;

use tarn_catalog::{CatalogConfig, CatalogKind};
use tarn_client::Connection;
use tarn_harness::rest::RestServer;
use tarn_harness::{Cluster, CommitFault, Data, RestProxy, run};

use crate::rows::{self, code, describe, refused, rows, value};

struct House {
    rest: RestServer,
    proxy: RestProxy,
    cluster: Cluster,
    connection: Connection,
}

/// A cluster over a catalog that may lose answers, with a table of one row; `None` without Java.
async fn house() -> Option<House> {
    let rest = RestServer::start(&[]).await?;
    let proxy = RestProxy::start(rest.port()).await;
    let mut data = Data::empty();
    let mut catalog = CatalogConfig { kind: CatalogKind::Rest, uri: proxy.uri(), ..CatalogConfig::default() };
    // A catalog that is out of order is found to be so at once.
    catalog.rest.retries_max = 1;
    data.config.catalogs.insert("rest".to_string(), catalog);
    let cluster = Cluster::distributed(&data, 1).await;
    let mut connection = cluster.connect().await;
    for sql in [
        "create schema rest.sales",
        "create table rest.sales.t (id bigint)",
        "insert into rest.sales.t values (1)",
    ] {
        rows::run(&mut connection, sql).await;
    }
    Some(House { rest, proxy, cluster, connection })
}

impl House {
    /// Rows, their sum, and the snapshots of the table.
    async fn state(&mut self) -> (String, String, String) {
        let all = rows(&mut self.connection, "select count(*), sum(id) from rest.sales.t where id > 0").await;
        let snapshots = value(&mut self.connection, "select count(*) from rest.sales.\"t$snapshots\"").await;
        (all.text()[0][0].clone(), all.text()[0][1].clone(), snapshots)
    }

    fn data_files(&self) -> usize {
        count(&self.rest.warehouse().join("sales/t"), ".parquet")
    }
}

fn state(rows: u64, sum: u64, snapshots: u64) -> (String, String, String) {
    (rows.to_string(), sum.to_string(), snapshots.to_string())
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_and_done_once() {
    run(async {
        let Some(mut house) = house().await else { return };
        let before = house.proxy.commits();
        house.proxy.fail_next_commit(CommitFault::AnswerLost);
        assert_eq!(rows::run(&mut house.connection, "insert into rest.sales.t values (20), (21)").await, 2);
        assert_eq!(house.proxy.commits(), before + 1, "it is not sent again");
        assert_eq!(house.state().await, state(3, 42, 2));
        house.proxy.fail_next_commit(CommitFault::AnswerLost);
        let replace = "create or replace table rest.sales.t as select id + 1 as id from rest.sales.t";
        rows::run(&mut house.connection, replace).await;
        assert_eq!(house.state().await.1, "45");
        house.proxy.fail_next_commit(CommitFault::AnswerLost);
        rows::run(&mut house.connection, "create table rest.sales.made as select 7 as x").await;
        assert_eq!(value(&mut house.connection, "select x from rest.sales.made").await, "7");
        house.cluster.stop().await;
    });
}

#[test]
fn a_commit_that_is_not_seen_after_an_error_is_unknown_and_nothing_is_deleted() {
    run(async {
        let Some(mut house) = house().await else { return };
        let files = house.data_files();
        house.proxy.fail_next_commit(CommitFault::NotDone);
        let error = refused(&mut house.connection, "insert into rest.sales.t values (20), (21)").await;
        assert_eq!(code(&error), "commit_unknown");
        let text = describe(&error);
        assert!(text.contains("rest.sales.t") && text.contains("does not hold it so far"), "{text}");
        assert!(text.contains("before you send it again"), "{text}");
        assert_eq!(house.state().await, state(1, 1, 1));
        // The request may still be on its way, and would need its files.
        assert_eq!(house.data_files(), files + 1);
        assert_eq!(rows::run(&mut house.connection, "insert into rest.sales.t values (20), (21)").await, 2);
        assert_eq!(house.state().await, state(3, 42, 2));
        house.cluster.stop().await;
    });
}

#[test]
fn a_catalog_that_goes_away_in_a_commit_leaves_its_outcome_unknown_and_the_rows_whole() {
    run(async {
        let Some(mut house) = house().await else { return };
        house.proxy.fail_next_commit(CommitFault::GoneAfter);
        let error = refused(&mut house.connection, "insert into rest.sales.t values (20), (21)").await;
        assert_eq!(code(&error), "commit_unknown");
        let text = describe(&error);
        assert!(text.contains("rest.sales.t") && text.contains("could not be asked"), "{text}");
        house.proxy.set_up();
        // It was done, so its files must be there.
        assert_eq!(house.state().await, state(3, 42, 2));
        house.cluster.stop().await;
    });
}

#[test]
fn a_commit_of_others_is_seen_by_the_first_query_after_a_second() {
    run(async {
        let data = Data::empty();
        let (cluster, others) = (Cluster::one_process(&data).await, Cluster::one_process(&data).await);
        let (mut connection, mut writer) = (cluster.connect().await, others.connect().await);
        for sql in ["create schema s", "create table s.t (id bigint)", "insert into s.t values (1)"] {
            rows::run(&mut writer, sql).await;
        }
        let count = "select count(*) from s.t where id > 0";
        for seen in 1..4 {
            assert_eq!(value(&mut connection, count).await, seen.to_string());
            rows::run(&mut writer, "insert into s.t values (2)").await;
            // Who committed sees it at once.
            assert_eq!(value(&mut writer, count).await, (seen + 1).to_string());
            tokio::time::sleep(std::time::Duration::from_millis(1_010)).await;
        }
        assert_eq!(value(&mut connection, count).await, "4");
        cluster.stop().await;
        others.stop().await;
    });
}

/// Files below a folder whose name ends so.
fn count(folder: &Path, end: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |path: &Path| match path.is_dir() {
        true => count(path, end),
        false => usize::from(path.to_string_lossy().ends_with(end)),
    };
    entries.flatten().map(|entry| of(&entry.path())).sum()
}
