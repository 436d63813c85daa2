//! Keys to storage that a catalog vends with its tables: a real REST catalog behind a proxy that adds
//! them, a real S3 server that takes only keys that have not ended.
//!
//! The data of these tables is on S3, where nobody has a key of his own; their metadata is beside the
//! catalog. Without Java and Maven the tests are skipped, loudly.

use std::time::Duration;

use tarn_catalog::{CatalogConfig, CatalogKind};
use tarn_client::Connection;
use tarn_harness::rest::RestServer;
use tarn_harness::wait::until;
use tarn_harness::{Cluster, Data, Fault, Process, RestProxy, S3Server, run};

use crate::clusters::{MODES, connect_in};
use crate::operations::{Ports, start, start_executor};
use crate::rows::{self, code, collect, describe, refused, rows, value};

/// Of a key. A query below runs for longer.
const LIFE: Duration = Duration::from_secs(3);
/// Data files of the table, each read after a pause.
const FILES: i64 = 40;
const PAUSE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(60);

const SUM: &str = "select count(*), sum(id), min(name) from rest.sales.t where id >= 0";

/// Everything around a cluster.
struct House {
    _rest: RestServer,
    proxy: RestProxy,
    storage: S3Server,
    data: Data,
}

/// A catalog that vends keys; `None` without Java.
async fn house() -> Option<House> {
    let rest = RestServer::start(&[]).await?;
    let proxy = RestProxy::start(rest.port()).await;
    let storage = S3Server::start_issuing().await;
    proxy.vend(&storage, "warehouse", LIFE);
    let mut data = Data::empty();
    let catalog = CatalogConfig { kind: CatalogKind::Rest, uri: proxy.uri(), ..CatalogConfig::default() };
    data.config.catalogs.insert("rest".to_string(), catalog);
    data.config.storage.retries_max = 2;
    Some(House { _rest: rest, proxy, storage, data })
}

/// Makes the table, by keys that were vended before it was there.
async fn make_table(connection: &mut Connection) {
    rows::run(connection, "create schema rest.sales").await;
    let create = "create table rest.sales.t (id bigint, name varchar, part bigint) partitioned by (part) \
        with ('write.data.path' = 's3://lake/warehouse/t')";
    rows::run(connection, create).await;
    let values: Vec<_> = (0..FILES).map(|n| format!("({n}, 'name {n:02}', {n})")).collect();
    let insert = format!("insert into rest.sales.t values {}", values.join(", "));
    assert_eq!(rows::run(connection, &insert).await, FILES);
}

fn expected() -> Vec<Vec<String>> {
    let sum = FILES * (FILES - 1) / 2;
    vec![vec![FILES.to_string(), sum.to_string(), "name 00".to_string()]]
}

#[test]
fn a_query_that_outlives_its_keys_goes_on_with_new_ones_in_every_mode() {
    run(async {
        let Some(house) = house().await else { return };
        let cluster = Cluster::distributed(&house.data, 2).await;
        make_table(&mut cluster.connect().await).await;
        let _slow = cluster.faults().inject(".parquet", Fault::SlowReads(PAUSE));
        for mode in MODES {
            let mut connection = connect_in(&cluster, mode).await;
            let before = house.storage.keys().used().len();
            assert_eq!(rows(&mut connection, SUM).await.text(), expected(), "{mode}");
            let used = house.storage.keys().used().len() - before;
            assert!(used >= 2, "{mode}: the query has not outlived a key: {used}");
            assert_eq!(house.storage.keys().refused(), 0, "{mode}: a key that had ended was used");
        }
        cluster.stop().await;
    });
}

#[test]
fn an_executor_that_joins_late_has_the_keys_before_it_works() {
    run(async {
        let Some(house) = house().await else { return };
        let (_scheduler, ports) = processes(&house).await;
        let (_first, _) = start_executor("first", house.data.folder(), ports.cluster).await;
        let mut connection = Connection::connect(&ports.url()).await.unwrap();
        make_table(&mut connection).await;
        rows::run(&mut connection, "set execution_mode = 'pipelined'").await;
        // Queries without a pause, while executors come.
        let asking = async {
            for _ in 0..40 {
                assert_eq!(rows(&mut connection, SUM).await.text(), expected());
            }
        };
        let joining = async {
            let (second, _) = start_executor("second", house.data.folder(), ports.cluster).await;
            let (third, _) = start_executor("third", house.data.folder(), ports.cluster).await;
            (second, third)
        };
        let ((), _executors) = tokio::join!(asking, joining);
        assert_eq!(house.storage.keys().refused(), 0);
    });
}

#[test]
fn a_catalog_that_vends_no_more_means_a_clear_error_once_the_keys_have_ended() {
    run(async {
        let Some(house) = house().await else { return };
        let cluster = Cluster::distributed(&house.data, 1).await;
        make_table(&mut cluster.connect().await).await;
        let _slow = cluster.faults().inject(".parquet", Fault::SlowReads(PAUSE));
        let ask = async |mode: &str| {
            let mut connection = connect_in(&cluster, mode).await;
            let stream = connection.query(SUM).await.unwrap_or_else(|error| panic!("{}", describe(&error)));
            let query_id = stream.query_id().unwrap_or_default().to_string();
            let reading = collect(stream);
            let stopping = async {
                let began = until(PATIENCE, async || !cluster.scans().of(&query_id).is_empty()).await;
                assert!(began, "{mode}: nothing is read");
                house.proxy.refuse_loads(true);
            };
            let (outcome, ()) = tokio::join!(reading, stopping);
            let error = outcome.expect_err("a query without keys");
            assert_eq!(code(&error), "storage_error", "{mode}: {}", describe(&error));
            let text = describe(&error);
            assert!(text.contains("vended have expired") && text.contains("rest.sales.t"), "{mode}: {text}");
            no_secret(&house, &text);
        };
        tokio::join!(ask("local"), ask("pipelined"));
        // The catalog says so itself to whoever comes now; and then it vends again.
        let mut connection = cluster.connect().await;
        let error = refused(&mut connection, SUM).await;
        assert_eq!(code(&error), "permission_denied", "{}", describe(&error));
        house.proxy.refuse_loads(false);
        assert_eq!(rows(&mut connection, SUM).await.text(), expected());
        cluster.stop().await;
    });
}

#[test]
fn nothing_of_a_key_is_in_a_log_a_plan_or_an_error() {
    run(async {
        let Some(house) = house().await else { return };
        let (scheduler, ports) = processes(&house).await;
        let (executor, _) = start_executor("executor", house.data.folder(), ports.cluster).await;
        let mut connection = Connection::connect(&ports.url()).await.unwrap();
        make_table(&mut connection).await;
        let mut shown = Vec::new();
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            assert_eq!(rows(&mut connection, SUM).await.text(), expected(), "{mode}");
            for explain in ["explain verbose", "explain analyze verbose"] {
                shown.push(format!("{:?}", rows(&mut connection, &format!("{explain} {SUM}")).await.text()));
            }
        }
        // One was renewed, and delivered.
        let issued = house.storage.keys().issued().len();
        let renewed = until(PATIENCE, async || house.storage.keys().issued().len() > issued).await;
        assert!(renewed, "no key was renewed");
        for sql in ["show all", "show queries", "select * from rest.sales.\"t$files\"", "show catalogs"] {
            shown.push(format!("{:?}", rows(&mut connection, sql).await.text()));
        }
        // The store takes no key any more, and says which ones.
        house.proxy.refuse_loads(true);
        house.storage.keys().revoke();
        for mode in MODES {
            rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
            let error = refused(&mut connection, SUM).await;
            shown.push(format!("{} {error:?}", describe(&error)));
        }
        let used = house.storage.keys().used();
        assert!(used.len() > 1, "{used:?}");
        shown.extend([scheduler.output(), executor.output()]);
        assert!(shown.iter().any(|text| text.contains("joined the cluster")), "there are logs");
        shown.iter().for_each(|text| no_secret(&house, text));
        assert_eq!(value(&mut connection, "select 1").await, "1");
    });
}

/// A scheduler with a process of its own, which tells all that it can.
async fn processes(house: &House) -> (Process, Ports) {
    let folder = house.data.folder();
    let config = format!(
        "[log]\nfilter = \"debug,tarn_scheduler=trace,tarn_executor=trace,tarn_runtime=trace,tarn_scan=trace,\
         tarn_catalog=trace,object_store=trace,reqwest=trace,h2=info,sqlx=info\"\n\n\
         [storage]\nretries_max = 1\n\n\
         [catalogs.rest]\nkind = \"rest\"\nuri = \"{}\"\n",
        house.proxy.uri()
    );
    let file = folder.join("tarn.toml");
    std::fs::write(&file, config).unwrap();
    start("scheduler", folder, Some(&file), &[]).await
}

fn no_secret(house: &House, text: &str) {
    for key in house.storage.keys().issued() {
        for hidden in [&key.secret, &key.id] {
            let found = text.lines().find(|line| line.contains(hidden.as_str()));
            assert!(found.is_none(), "{hidden} in: {}", found.unwrap_or_default());
        }
    }
}
