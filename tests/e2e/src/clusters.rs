//! The two clusters over the TPC-H data that most tests share: started once, used by many.

use tarn_client::Connection;
use tarn_harness::{Cluster, Data};
use tokio::sync::OnceCell;

use crate::rows;

/// The ways to run a plan.
pub const MODES: [&str; 3] = ["local", "pipelined", "staged"];

/// Scheduler and executor in one process.
pub async fn one_process() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| async { Cluster::one_process(Data::tpch().await).await }).await
}

/// A scheduler with two executors apart from it.
pub async fn two_executors() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| async { Cluster::distributed(Data::tpch().await, 2).await }).await
}

/// A session in which every query runs in one mode.
pub async fn connect_in(cluster: &Cluster, mode: &str) -> Connection {
    let mut connection = cluster.connect().await;
    rows::run(&mut connection, &format!("set execution_mode = '{mode}'")).await;
    connection
}

/// A new schema with a name of its own.
pub async fn fresh_schema(connection: &mut Connection, name: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let schema = format!("{name}_{number}");
    rows::run(connection, &format!("create schema {schema}")).await;
    schema
}
