//! Tarn as separate processes on free loopback ports, and the data that they serve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tarn_client::Connection;
use tokio::process::{Child, Command};

use crate::Error;

/// How long a server may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long loading may take.
const LOAD_MAX: Duration = Duration::from_secs(1800);

/// Running processes; they end with this value.
pub(crate) struct Cluster {
    /// Where clients connect.
    pub url: String,
    children: Vec<Child>,
}

impl Cluster {
    /// Scheduler and executor in one process.
    pub async fn all_in_one(tarn: &Path, data: &Path) -> Result<Self, Error> {
        let ports = Ports::free()?;
        let child = spawn(tarn, data, &ports.server_flags("serve"))?;
        Self::ready(ports, vec![child]).await
    }

    /// A scheduler and so many executors.
    pub async fn distributed(tarn: &Path, data: &Path, executors: usize) -> Result<Self, Error> {
        let ports = Ports::free()?;
        let mut children = vec![spawn(tarn, data, &ports.server_flags("scheduler"))?];
        let scheduler = format!("127.0.0.1:{}", ports.cluster);
        for _ in 0..executors {
            children.push(spawn(
                tarn,
                data,
                &["executor".to_string(), "--scheduler".to_string(), scheduler.clone()],
            )?);
        }
        let cluster = Self::ready(ports, children).await?;
        let mut connection = Connection::connect(&cluster.url).await?;
        connection.update("set execution_mode = pipelined").await?;
        let began = Instant::now();
        // Executors register within moments; the first query waits for one, not for all.
        while drain(&mut connection, "select 1").await.is_err() && began.elapsed() < READY_MAX {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(cluster)
    }

    async fn ready(ports: Ports, children: Vec<Child>) -> Result<Self, Error> {
        let url = format!("grpc://127.0.0.1:{}", ports.flight_sql);
        let began = Instant::now();
        while let Err(error) = Connection::connect(&url).await {
            if began.elapsed() > READY_MAX {
                return Err(format!("the server does not answer: {error}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { url, children })
    }

    /// Resident bytes of all its processes now.
    pub fn resident_bytes(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        for child in &self.children {
            let id = child.id().ok_or("a server has ended")?;
            let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
            let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
            bytes += kilobytes << 10;
        }
        Ok(bytes)
    }

    /// Ends the processes.
    pub async fn stop(mut self) -> Result<(), Error> {
        for child in &mut self.children {
            child.kill().await?;
        }
        Ok(())
    }
}

/// Loads the data unless the folder holds it.
pub(crate) async fn make_data(tarn: &Path, data: &Path, scale: f64) -> Result<(), Error> {
    let ports = Ports::free()?;
    let mut arguments = ports.server_flags("demo");
    arguments.extend(["--no-shell".to_string(), "--scale".to_string(), scale.to_string()]);
    let child = spawn(tarn, data, &arguments)?;
    let url = format!("grpc://127.0.0.1:{}", ports.flight_sql);
    let began = Instant::now();
    while Connection::connect(&url).await.is_err() {
        if began.elapsed() > LOAD_MAX {
            return Err("loading took too long".into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Cluster { url, children: vec![child] }.stop().await
}

/// The data files of each TPC-H table, as paths.
pub(crate) async fn files(tarn: &Path, data: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>, Error> {
    let cluster = Cluster::all_in_one(tarn, data).await?;
    let mut connection = Connection::connect(&cluster.url).await?;
    let mut tables = BTreeMap::new();
    for table in ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"] {
        connection.scalar(&format!("select count(*) from lake.tpch.{table}")).await?;
        let mut found = Vec::new();
        parquet_files(&data.join("warehouse").join("tpch").join(table), &mut found)?;
        if found.is_empty() {
            return Err(format!("no data files of table {table}").into());
        }
        found.sort();
        tables.insert(table.to_string(), found);
    }
    cluster.stop().await?;
    Ok(tables)
}

fn parquet_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            parquet_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(())
}

/// Runs a query and reads all its rows.
pub(crate) async fn drain(connection: &mut Connection, sql: &str) -> Result<usize, Error> {
    let mut stream = connection.query(sql).await?;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows();
    }
    Ok(rows)
}

fn spawn(tarn: &Path, data: &Path, arguments: &[String]) -> Result<Child, Error> {
    let mut command = Command::new(tarn);
    command.args(arguments).arg("--data-dir").arg(data).args(["--log", "warn"]);
    Ok(command
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()?)
}

struct Ports {
    flight_sql: u16,
    http: u16,
    cluster: u16,
}

impl Ports {
    fn free() -> Result<Self, Error> {
        let sockets = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
        let [a, b, c] = sockets;
        Ok(Self {
            flight_sql: a?.local_addr()?.port(),
            http: b?.local_addr()?.port(),
            cluster: c?.local_addr()?.port(),
        })
    }

    fn server_flags(&self, command: &str) -> Vec<String> {
        let mut flags = vec![command.to_string()];
        for (flag, port) in [
            ("--flight-sql-listen", self.flight_sql),
            ("--http-listen", self.http),
            ("--cluster-listen", self.cluster),
        ] {
            flags.extend([flag.to_string(), format!("127.0.0.1:{port}")]);
        }
        flags
    }
}
