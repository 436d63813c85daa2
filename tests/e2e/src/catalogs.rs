//! Catalogs on real servers: Iceberg's REST fixture and PostgreSQL pass the suite that every backend passes, and
//! a client sees one of each.
//!
//! Without Java and Maven, or PostgreSQL, these are skipped, loudly.

use tarn_catalog::backend::suite;
use tarn_catalog::{CatalogConfig, CatalogKind};
use tarn_harness::data::fresh_folder;
use tarn_harness::rest::RestServer;
use tarn_harness::{Cluster, Data, postgres};
use tarn_scan::storage::{Config, Router};

use crate::rows::{code, refused, run, value};

#[test]
fn rest_server_does_what_every_catalog_must() {
    tarn_harness::run(async {
        let Some(server) = RestServer::start(&[]).await else { return };
        let config = CatalogConfig { kind: CatalogKind::Rest, uri: server.uri(), ..CatalogConfig::default() };
        let location = format!("file://{}/suite", server.warehouse().display());
        suite::run(&config, &Router::new(Config::default(), Vec::new()), &location).await;
    });
}

#[test]
fn postgresql_does_what_every_catalog_must() {
    tarn_harness::run(async {
        let Some(server) = postgres::available().await else { return };
        let warehouse = format!("file://{}", fresh_folder("postgres-warehouse").display());
        let config = CatalogConfig {
            uri: server.fresh_database(),
            warehouse: warehouse.clone(),
            ..CatalogConfig::default()
        };
        suite::run(&config, &Router::new(Config::default(), Vec::new()), &warehouse).await;
    });
}

#[test]
fn tables_of_a_rest_server_are_made_read_and_seen_in_their_folder() {
    tarn_harness::run(async {
        let Some(server) = RestServer::start(&[]).await else { return };
        let mut data = Data::empty();
        let rest = CatalogConfig { kind: CatalogKind::Rest, uri: server.uri(), ..CatalogConfig::default() };
        let warehouse = format!("file://{}", server.warehouse().display());
        let files = CatalogConfig { kind: CatalogKind::Filesystem, warehouse, ..CatalogConfig::default() };
        data.config.catalogs.extend([("rest".to_owned(), rest), ("files".to_owned(), files)]);
        let cluster = Cluster::distributed(&data, 1).await;
        let mut connection = cluster.connect().await;
        for sql in [
            "create schema rest.sales",
            "create table rest.sales.t (x bigint, y varchar) partitioned by (y)",
            "insert into rest.sales.t values (1, 'a'), (2, 'b')",
            "insert into rest.sales.t values (3, 'b')",
            "create table rest.sales.copy as select y, sum(x) as total from rest.sales.t group by y",
            "create view rest.sales.v as select y, count(*) as n from rest.sales.t group by y",
        ] {
            run(&mut connection, sql).await;
        }
        assert_eq!(value(&mut connection, "select sum(x) from rest.sales.t").await, "6");
        assert_eq!(value(&mut connection, "select total from rest.sales.copy where y = 'b'").await, "5");
        assert_eq!(value(&mut connection, "select n from rest.sales.v where y = 'b'").await, "2");
        run(
            &mut connection,
            "create or replace table rest.sales.copy as select count(*) as n from rest.sales.t",
        )
        .await;
        assert_eq!(value(&mut connection, "select n from rest.sales.copy").await, "3");
        run(&mut connection, "create or replace view rest.sales.v as select max(x) as m from rest.sales.t")
            .await;
        assert_eq!(value(&mut connection, "select m from rest.sales.v").await, "3");
        // The same files, without the catalog.
        assert_eq!(value(&mut connection, "select sum(x) from files.sales.t").await, "6");
        let error = refused(&mut connection, "insert into files.sales.t values (4, 'c')").await;
        assert_eq!(code(&error), "not_supported");
        for sql in ["drop view rest.sales.v", "drop table rest.sales.copy", "drop table rest.sales.t purge"] {
            run(&mut connection, sql).await;
        }
        let error = refused(&mut connection, "select * from rest.sales.t").await;
        assert_eq!(code(&error), "not_found");
        run(&mut connection, "drop schema rest.sales").await;
        cluster.stop().await;
    });
}
