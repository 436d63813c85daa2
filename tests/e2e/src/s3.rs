//! The house on an S3 server: metadata and data over HTTP, the catalog in SQLite.
//!
//! Most tests share one cluster in this process and an S3 server that takes unsigned requests; keys
//! are tested with the real binary, which has them in its environment.

use std::path::Path;
use std::time::Duration;

use tarn_client::Connection;
use tarn_harness::wait::until;
use tarn_harness::{Cluster, Data, Process, S3Server, net, run};
use tokio::sync::OnceCell;

use crate::clusters::{MODES, connect_in, fresh_schema};
use crate::rows::{self, blames_storage, code, describe, refused, rows, value};

struct House {
    server: S3Server,
    cluster: Cluster,
}

/// One scheduler and two executors over a warehouse on S3.
async fn house() -> &'static House {
    static HOUSE: OnceCell<House> = OnceCell::const_new();
    HOUSE.get_or_init(make_house).await
}

async fn make_house() -> House {
    let server = S3Server::start_open().await;
    let mut data = Data::on_s3(&server).await;
    // Outages are short here, and nobody wants to wait for them.
    data.config.storage.retries_max = 2;
    data.config.storage.retry_timeout_ms = 3_000;
    data.config.storage.request_timeout_ms = 5_000;
    let cluster = Cluster::distributed(&data, 2).await;
    House { server, cluster }
}

/// Runs a test in a schema of its own.
fn on_s3(name: &str, test: impl AsyncFn(&House, &mut Connection, &str)) {
    run(async {
        let house = house().await;
        let mut connection = house.cluster.connect().await;
        let schema = fresh_schema(&mut connection, name).await;
        test(house, &mut connection, &schema).await;
    });
}

#[test]
fn rows_written_are_read() {
    on_s3("round_trip", async |house, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t (id bigint, name varchar)")).await;
        assert_eq!(
            rows::run(connection, &format!("insert into {schema}.t values (1, 'a'), (2, null)")).await,
            2
        );
        let seen = rows(connection, &format!("select * from {schema}.t order by id")).await;
        assert_eq!(seen.text(), [["1", "a"], ["2", "NULL"]]);
        assert!(objects(house, schema).iter().any(|object| object.ends_with(".parquet")));
        assert!(objects(house, schema).iter().any(|object| object.ends_with(".metadata.json")));
    });
}

#[test]
fn an_empty_table_has_its_columns() {
    on_s3("empty", async |_, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t (id bigint, day date)")).await;
        let seen = rows(connection, &format!("select * from {schema}.t")).await;
        assert_eq!((seen.rows.len(), seen.schema.fields().len()), (0, 2));
    });
}

#[test]
fn each_insert_adds_to_what_is_there() {
    on_s3("inserts", async |_, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t (id bigint)")).await;
        for n in 0..5 {
            rows::run(connection, &format!("insert into {schema}.t values ({n})")).await;
            assert_eq!(
                value(connection, &format!("select count(*) from {schema}.t")).await,
                (n + 1).to_string()
            );
        }
    });
}

#[test]
fn a_warehouse_whose_paths_say_s3a_is_written_and_read() {
    run(async {
        let server = S3Server::start_open().await;
        let mut data = Data::on_s3(&server).await;
        let mut old = data.config.catalogs[&data.config.scheduler.session.catalog].clone();
        old.warehouse = old.warehouse.replacen("s3://", "s3a://", 1);
        data.config.catalogs.insert("old".to_string(), old);
        let cluster = Cluster::distributed(&data, 1).await;
        for mode in MODES {
            let mut connection = connect_in(&cluster, mode).await;
            let table = format!("old.default.paths_{mode}");
            let create =
                format!("create table {table} as select * from (values (1, 'a'), (2, 'b')) as v(id, name)");
            rows::run(&mut connection, &create).await;
            rows::run(&mut connection, &format!("insert into {table} values (3, 'ä b%')")).await;
            let seen = value(&mut connection, &format!("select sum(id) from {table} where name > 'a'")).await;
            assert_eq!(seen, "5", "{mode}");
            let files = format!("select file_path from old.default.\"paths_{mode}$files\"");
            let files = rows(&mut connection, &files).await.text();
            assert!(files.len() == 2 && files.iter().all(|row| row[0].starts_with("s3a://")), "{files:?}");
        }
        cluster.stop().await;
    });
}

#[test]
fn local_mode_reads_what_the_local_disk_has() {
    copy_equals_original("local");
}

#[test]
fn pipelined_mode_reads_what_the_local_disk_has() {
    copy_equals_original("pipelined");
}

#[test]
fn staged_mode_reads_what_the_local_disk_has() {
    copy_equals_original("staged");
}

fn copy_equals_original(mode: &str) {
    on_s3(&format!("copy_{mode}"), async |house, _, schema| {
        let mut connection = connect_in(&house.cluster, mode).await;
        let create = format!("create table {schema}.orders as select * from local.tpch.orders");
        let count = rows::run(&mut connection, &create).await;
        let sums = "count(*), sum(o_orderkey), sum(o_totalprice), min(o_comment), max(o_orderdate)";
        let copy = rows(&mut connection, &format!("select {sums} from {schema}.orders")).await;
        let original = rows(&mut connection, &format!("select {sums} from local.tpch.orders")).await;
        assert_eq!(copy.text(), original.text());
        assert_eq!(count.to_string(), copy.text()[0][0]);
    });
}

#[test]
fn a_join_over_two_catalogs_is_right_in_every_mode() {
    on_s3("two_catalogs", async |house, connection, schema| {
        rows::run(connection, &format!("create table {schema}.nation as select * from local.tpch.nation"))
            .await;
        let sql = format!(
            "select r_name, count(*) from local.tpch.region join {schema}.nation on r_regionkey = n_regionkey group by r_name"
        );
        for mode in MODES {
            let seen = rows(&mut connect_in(&house.cluster, mode).await, &sql).await;
            let names = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
            assert_eq!(seen.sorted(), names.map(|name| vec![name.to_string(), "5".to_string()]), "{mode}");
        }
    });
}

#[test]
fn partitions_are_pruned() {
    on_s3("pruned", async |house, connection, schema| {
        let create = "partitioned by (month(o_orderdate)) as select * from local.tpch.orders";
        rows::run(connection, &format!("create table {schema}.orders {create}")).await;
        let condition = "where o_orderdate >= date '1995-03-01' and o_orderdate < date '1995-04-01'";
        let seen = rows(
            connection,
            &format!("select count(o_comment), sum(o_totalprice) from {schema}.orders {condition}"),
        )
        .await;
        let expected = rows(
            connection,
            &format!("select count(o_comment), sum(o_totalprice) from local.tpch.orders {condition}"),
        )
        .await;
        assert_eq!(seen.text(), expected.text());
        let opened = house.cluster.scans().of(&seen.query_id);
        let files: std::collections::BTreeSet<_> = opened.iter().map(|opened| &opened.uri).collect();
        let all = objects(house, schema).iter().filter(|object| object.ends_with(".parquet")).count();
        assert!(!files.is_empty() && files.len() * 10 < all, "{} of {all} files", files.len());
    });
}

#[test]
fn odd_partition_values_are_kept() {
    on_s3("odd_values", async |_, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t (id bigint, p varchar) partitioned by (p)"))
            .await;
        let odd = ["a b", "50%", "x=y", "a/b", "ü", "?&#", "%2F", ".", "", "+"];
        let values: Vec<_> = odd.iter().enumerate().map(|(id, p)| format!("({id}, '{p}')")).collect();
        rows::run(connection, &format!("insert into {schema}.t values {}, (99, null)", values.join(", ")))
            .await;
        for (id, p) in odd.iter().enumerate() {
            let seen = value(connection, &format!("select id from {schema}.t where p = '{p}'")).await;
            assert_eq!(seen, id.to_string(), "{p:?}");
        }
        assert_eq!(value(connection, &format!("select id from {schema}.t where p is null")).await, "99");
        assert_eq!(
            value(connection, &format!("select count(p) from {schema}.t")).await,
            odd.len().to_string()
        );
    });
}

#[test]
fn replace_shows_the_new_table() {
    on_s3("replaced", async |_, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t as select 1 as a")).await;
        rows::run(
            connection,
            &format!("create or replace table {schema}.t as select 'x' as b, a from {schema}.t"),
        )
        .await;
        assert_eq!(rows(connection, &format!("select * from {schema}.t")).await.text(), [["x", "1"]]);
    });
}

#[test]
fn drop_with_purge_leaves_no_object() {
    on_s3("purged", async |house, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t as select * from local.tpch.nation")).await;
        assert!(!objects(house, schema).is_empty());
        rows::run(connection, &format!("drop table {schema}.t purge")).await;
        let gone = until(Duration::from_secs(10), async || objects(house, schema).is_empty()).await;
        assert!(gone, "{:?}", objects(house, schema));
    });
}

#[test]
fn drop_without_purge_leaves_the_objects() {
    on_s3("dropped", async |house, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t as select * from local.tpch.nation")).await;
        let before = objects(house, schema);
        rows::run(connection, &format!("drop table {schema}.t")).await;
        assert_eq!(objects(house, schema), before);
        assert_eq!(code(&refused(connection, &format!("select * from {schema}.t")).await), "not_found");
    });
}

#[test]
fn inserts_at_once_all_land() {
    on_s3("at_once", async |house, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t (id bigint)")).await;
        let insert = async |n: usize| {
            let mut connection = house.cluster.connect().await;
            rows::run(&mut connection, &format!("insert into {schema}.t values ({n})")).await
        };
        let counts = futures::future::join_all((0..4).map(insert)).await;
        assert_eq!(counts, [1; 4]);
        let seen = rows(connection, &format!("select count(*), sum(id) from {schema}.t")).await;
        assert_eq!(seen.text(), [["4", "6"]]);
    });
}

#[test]
fn the_past_is_read() {
    on_s3("past", async |_, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t (id bigint)")).await;
        rows::run(connection, &format!("insert into {schema}.t values (1)")).await;
        let later =
            format!("select count(*) from {schema}.t for timestamp as of timestamp '2200-01-01 00:00:00'");
        assert_eq!(value(connection, &later).await, "1");
        assert_eq!(
            value(connection, &format!("select count(*) from {schema}.t version as of 'main'")).await,
            "1"
        );
    });
}

#[test]
fn a_result_larger_than_a_message_arrives_whole() {
    on_s3("export", async |_, connection, schema| {
        rows::run(connection, &format!("create table {schema}.l as select * from local.tpch.lineitem")).await;
        let seen = rows(connection, &format!("select l_orderkey, l_comment from {schema}.l")).await;
        assert_eq!(
            seen.rows.len().to_string(),
            value(connection, "select count(*) from local.tpch.lineitem").await
        );
    });
}

#[test]
fn a_limit_reads_a_part() {
    on_s3("limited", async |_, connection, schema| {
        rows::run(connection, &format!("create table {schema}.o as select * from local.tpch.orders")).await;
        for mode in MODES {
            rows::run(connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(
                rows(connection, &format!("select * from {schema}.o limit 7")).await.rows.len(),
                7,
                "{mode}"
            );
        }
    });
}

#[test]
fn insert_in_every_mode_lands() {
    on_s3("modes", async |_, connection, schema| {
        rows::run(
            connection,
            &format!("create table {schema}.t (id bigint, name varchar) partitioned by (bucket(2, id))"),
        )
        .await;
        for (round, mode) in MODES.iter().enumerate() {
            rows::run(connection, &format!("set execution_mode = '{mode}'")).await;
            rows::run(
                connection,
                &format!("insert into {schema}.t select n_nationkey, n_name from local.tpch.nation"),
            )
            .await;
            let count = value(connection, &format!("select count(name) from {schema}.t")).await;
            assert_eq!(count, (25 * (round + 1)).to_string(), "{mode}");
        }
    });
}

#[test]
fn a_missing_object_is_an_error_and_nothing_else_suffers() {
    on_s3("missing", async |house, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t as select * from local.tpch.nation")).await;
        rows::run(connection, &format!("create table {schema}.well as select * from local.tpch.region"))
            .await;
        std::fs::remove_file(data_file(house, &format!("{schema}/t/"))).unwrap();
        for mode in MODES {
            rows::run(connection, &format!("set execution_mode = '{mode}'")).await;
            let error = refused(connection, &format!("select n_name from {schema}.t")).await;
            assert!(blames_storage(&error), "{mode}: {}", describe(&error));
            assert_eq!(
                rows(connection, &format!("select r_name from {schema}.well")).await.rows.len(),
                5,
                "{mode}"
            );
        }
    });
}

#[test]
fn an_object_cut_in_half_is_an_error_and_nothing_else_suffers() {
    on_s3("cut", async |house, connection, schema| {
        rows::run(connection, &format!("create table {schema}.t as select * from local.tpch.nation")).await;
        let file = data_file(house, &format!("{schema}/t/"));
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        for mode in MODES {
            rows::run(connection, &format!("set execution_mode = '{mode}'")).await;
            let error = refused(connection, &format!("select n_name from {schema}.t")).await;
            assert!(blames_storage(&error), "{mode}: {}", describe(&error));
        }
        assert_eq!(value(connection, "select 1").await, "1");
    });
}

#[test]
fn a_warm_query_asks_for_no_head_and_no_list() {
    run(async {
        // A server of its own: its requests are counted.
        let house = make_house().await;
        let mut connection = house.cluster.connect().await;
        let schema = fresh_schema(&mut connection, "warm").await;
        rows::run(&mut connection, &format!("create table {schema}.t as select * from local.tpch.nation"))
            .await;
        let sql = format!("select n_name, n_comment from {schema}.t");
        rows(&mut connection, &sql).await;
        let before = house.server.requests();
        rows(&mut connection, &sql).await;
        let after = house.server.requests();
        let added = |verb: &str| after.get(verb).unwrap_or(&0) - before.get(verb).unwrap_or(&0);
        assert_eq!((added("HEAD"), added("PUT"), added("DELETE")), (0, 0, 0), "{before:?} {after:?}");
        assert!(added("GET") <= 3, "{before:?} {after:?}");
        house.cluster.stop().await;
    });
}

#[test]
fn a_server_that_is_down_is_an_error_and_comes_back() {
    run(async {
        let house = make_house().await;
        let mut connection = house.cluster.connect().await;
        let schema = fresh_schema(&mut connection, "outage").await;
        rows::run(&mut connection, &format!("create table {schema}.t as select * from local.tpch.nation"))
            .await;
        house.server.set_unavailable(true);
        for sql in [
            format!("select n_name from {schema}.t"),
            format!("insert into {schema}.t select * from local.tpch.nation"),
        ] {
            let error = refused(&mut connection, &sql).await;
            assert!(blames_storage(&error), "{}", describe(&error));
        }
        // The rest of the house stands.
        assert_eq!(value(&mut connection, "select count(n_name) from local.tpch.nation").await, "25");
        house.server.set_unavailable(false);
        assert_eq!(value(&mut connection, &format!("select count(n_name) from {schema}.t")).await, "25");
        house.cluster.stop().await;
    });
}

#[test]
fn the_binary_signs_its_requests_with_the_keys_of_its_environment() {
    run(async {
        let server = S3Server::start().await;
        let data = Data::empty();
        let (_process, url) = serve(&data, &server, &server.environment()).await;
        let mut connection = Connection::connect(&url).await.unwrap();
        let schema = fresh_schema(&mut connection, "signed").await;
        rows::run(&mut connection, &format!("create table {schema}.t as select 1 as x")).await;
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(
                rows(&mut connection, &format!("select x from {schema}.t")).await.text(),
                [["1"]],
                "{mode}"
            );
        }
    });
}

#[test]
fn a_key_that_is_refused_is_an_error_that_shows_no_secret() {
    run(async {
        let server = S3Server::start().await;
        let data = Data::empty();
        let wrong = [("AWS_ACCESS_KEY_ID", "tarn-access"), ("AWS_SECRET_ACCESS_KEY", "not-the-secret")];
        let wrong = wrong.map(|(name, value)| (name.to_string(), value.to_string()));
        let (mut process, url) = serve(&data, &server, &wrong).await;
        let mut connection = Connection::connect(&url).await.unwrap();
        rows::run(&mut connection, "create schema refused").await;
        let error = refused(&mut connection, "create table refused.t as select 1 as x").await;
        assert!(blames_storage(&error), "{}", describe(&error));
        assert_eq!(value(&mut connection, "select 1").await, "1");
        assert!(process.is_running());
        assert!(!process.output().contains("not-the-secret"));
        assert!(!describe(&error).contains("not-the-secret"));
    });
}

#[test]
fn a_warehouse_that_cannot_be_reached_is_an_error_and_the_server_stays() {
    run(async {
        let [nobody] = net::free_addresses::<1>();
        let server = S3Server::start().await;
        let data = Data::empty();
        let config = configuration(&data, &format!("http://{nobody}"));
        let (mut process, url) = serve_with(&data, &config, &server.environment()).await;
        let mut connection = Connection::connect(&url).await.unwrap();
        rows::run(&mut connection, "create schema nowhere").await;
        let error = refused(&mut connection, "create table nowhere.t as select 1 as x").await;
        assert!(blames_storage(&error), "{}", describe(&error));
        assert_eq!(value(&mut connection, "select 1").await, "1");
        assert!(process.is_running());
    });
}

/// `tarn serve` over a warehouse on the server.
async fn serve(data: &Data, server: &S3Server, environment: &[(String, String)]) -> (Process, String) {
    serve_with(data, &configuration(data, &server.endpoint()), environment).await
}

async fn serve_with(data: &Data, config: &str, environment: &[(String, String)]) -> (Process, String) {
    let file = data.folder().join("tarn.toml");
    std::fs::write(&file, config).unwrap();
    let (process, ports) = crate::operations::serve(data.folder(), Some(Path::new(&file)), environment).await;
    (process, ports.url())
}

fn configuration(data: &Data, endpoint: &str) -> String {
    let folder = data.folder().display();
    format!(
        "[storage]\nretries_max = 2\nretry_timeout_ms = 3000\n\n\
         [storage.s3]\nendpoint = \"{endpoint}\"\nregion = \"us-east-1\"\npath_style = true\nallow_http = true\n\n\
         [catalogs.lake]\nuri = \"sqlite://{folder}/catalog.db\"\nwarehouse = \"s3://lake/warehouse\"\n"
    )
}

/// The objects of a schema.
fn objects(house: &House, schema: &str) -> Vec<String> {
    let part = format!("/{schema}/");
    house.server.objects().into_iter().filter(|object| object.contains(&part)).collect()
}

/// The one data file below a path.
fn data_file(house: &House, part: &str) -> std::path::PathBuf {
    let objects = house.server.objects();
    let mut files = objects.iter().filter(|object| object.contains(part) && object.ends_with(".parquet"));
    let file = files.next().expect("a data file");
    house.server.file(file)
}
