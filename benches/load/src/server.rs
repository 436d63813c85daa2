//! Tarn as processes on free loopback ports, and what they weigh while they are asked.
//!
//! The processes end with the value that holds them, so also after a panic or a signal. Their logs go to files:
//! what an analyst sees as a code has its cause there. The rule: nothing listens off loopback.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tarn_client::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::Error;

/// How long a server may take until it answers.
pub const READY_MAX: Duration = Duration::from_secs(120);
/// How long an answer of `/metrics` may take.
const METRICS_MAX: Duration = Duration::from_secs(2);

/// How Tarn is started.
pub struct Setup<'a> {
    /// The binary `tarn`.
    pub tarn: &'a Path,
    /// Folder of the catalog and the warehouse.
    pub data: &'a Path,
    /// Memory for plans, of each process.
    pub memory_bytes: u64,
    /// Executors besides a scheduler; none is everything in one process.
    pub executors: usize,
    /// Folder of the logs.
    pub logs: &'a Path,
}

/// Running processes; they end with this value.
pub struct Cluster {
    /// Where clients connect.
    pub url: String,
    children: Vec<Child>,
    http: Vec<u16>,
}

impl Cluster {
    /// Starts Tarn and waits until it answers with all its executors.
    pub async fn start(setup: &Setup<'_>) -> Result<Self, Error> {
        let [flight_sql, http, cluster] = [free_port()?, free_port()?, free_port()?];
        let command = if setup.executors == 0 { "serve" } else { "scheduler" };
        let address = |port: u16| format!("127.0.0.1:{port}");
        let arguments = [
            command,
            "--flight-sql-listen",
            &address(flight_sql),
            "--http-listen",
            &address(http),
            "--cluster-listen",
            &address(cluster),
        ];
        let mut children = vec![spawn(setup, command, &arguments)?];
        let mut ports = vec![http];
        for executor in 0..setup.executors {
            let http = free_port()?;
            let arguments = ["executor", "--scheduler", &address(cluster), "--http-listen", &address(http)];
            children.push(spawn(setup, &format!("executor-{executor}"), &arguments)?);
            ports.push(http);
        }
        let mut started = Self { url: format!("grpc://{}", address(flight_sql)), children, http: ports };
        started.wait_until_ready(setup.executors).await?;
        Ok(started)
    }

    async fn wait_until_ready(&mut self, executors: usize) -> Result<(), Error> {
        let began = Instant::now();
        let mut last: Error = "it was not asked".into();
        while began.elapsed() < READY_MAX {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    return Err(format!("a server ended with {status}; its log says why").into());
                }
            }
            match self.answers(executors).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("the server does not answer: {last}").into())
    }

    async fn answers(&self, executors: usize) -> Result<(), Error> {
        let mut connection = Connection::connect(&self.url).await?;
        connection.scalar("select 1").await?;
        // Each executor answers on its own port once it has joined.
        for port in &self.http[1..] {
            if !get(*port, "/readyz").await?.starts_with("HTTP/1.1 200") {
                return Err("an executor is not ready".into());
            }
        }
        debug_assert_eq!(self.http.len(), executors + 1);
        Ok(())
    }

    /// The process ids and the ports of their metrics, for a [`Watch`].
    pub fn watch(&self) -> Watch {
        Watch { http: self.http.clone(), ..Watch::of(&self.children) }
    }

    /// Ends the processes.
    pub async fn stop(mut self) -> Result<(), Error> {
        for child in &mut self.children {
            child.kill().await?;
        }
        Ok(())
    }
}

/// Looks at processes from outside.
#[derive(Clone, Debug)]
pub struct Watch {
    ids: Vec<u32>,
    http: Vec<u16>,
}

/// The most that processes took while they were watched.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Weight {
    /// Resident bytes of all.
    pub resident_bytes: u64,
    /// Bytes spilled at one time, of all.
    pub spilled_bytes: u64,
}

impl Watch {
    /// Of processes that have no metrics.
    pub fn of<'a>(children: impl IntoIterator<Item = &'a Child>) -> Self {
        Self { ids: children.into_iter().filter_map(Child::id).collect(), http: Vec::new() }
    }

    /// Looks again and again, and keeps the most in `weight`. Ends only by being dropped.
    pub async fn run(&self, weight: &std::sync::Mutex<Weight>, every: Duration) {
        loop {
            let resident: u64 = self.ids.iter().map(|id| resident_bytes(*id)).sum();
            let mut spilled = 0;
            for port in &self.http {
                spilled += spilled_bytes(*port).await.unwrap_or_default();
            }
            {
                let mut most = weight.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                most.resident_bytes = most.resident_bytes.max(resident);
                most.spilled_bytes = most.spilled_bytes.max(spilled);
            }
            sleep(every).await;
        }
    }
}

fn resident_bytes(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default() << 10
}

async fn spilled_bytes(port: u16) -> Result<u64, Error> {
    let answer = get(port, "/metrics").await?;
    let line = answer.lines().find_map(|line| line.strip_prefix("runtime_spill_bytes "));
    Ok(line.unwrap_or("0").trim().parse::<f64>()? as u64)
}

async fn get(port: u16, path: &str) -> Result<String, Error> {
    let answer = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, Error>(answer)
    };
    timeout(METRICS_MAX, answer).await?
}

fn spawn(setup: &Setup<'_>, name: &str, arguments: &[&str]) -> Result<Child, Error> {
    let mut command = Command::new(setup.tarn);
    command.args(arguments).arg("--data-dir").arg(setup.data).args(["--log", "warn"]);
    command.env("TARN_RUNTIME__MEMORY_BYTES", setup.memory_bytes.to_string());
    spawn_logged(command, setup.logs, &format!("tarn-{name}"))
}

/// Starts a process that ends with its value, and whose output goes to files.
pub fn spawn_logged(mut command: Command, logs: &Path, name: &str) -> Result<Child, Error> {
    std::fs::create_dir_all(logs)?;
    let path: PathBuf = logs.join(format!("{name}.log"));
    let log = std::fs::File::create(&path)?;
    command.kill_on_drop(true).stdout(log.try_clone()?).stderr(log);
    command.spawn().map_err(|error| format!("{name} does not start: {error}").into())
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
