//! Tarn as processes on free loopback ports, each executor with its own door to the store, and in its cage if it has one.
//!
//! The processes end with the value that holds them, so also after an error or a signal. Their logs go to files. The
//! rule: nothing of the caller's surroundings decides what they see, and nothing listens off loopback.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tarn_client::Connection;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::cages::Cages;
use crate::store::{Door, Store, WAREHOUSE};

/// How long servers may take until all of them are there; executors with little of a core start slowly.
const READY_MAX: Duration = Duration::from_secs(120);
/// Clock ticks a second in `/proc`: the same on every Linux that Tarn runs on.
const TICKS_A_SECOND: f64 = 100.0;
/// Port of the first executor, the others follow: below those that systems give away.
const STEADY_PORT: u16 = 21_071;
/// Enters the cgroups `$1` and `$2`, then becomes the program behind them: from its first instruction on it has no
/// more than they give, and sizes itself by that.
const ENTER: &str =
    "echo $$ > \"$1/cgroup.procs\" && echo $$ > \"$2/cgroup.procs\" && shift 2 && exec \"$@\"";

/// How Tarn is started.
pub struct Setup<'a> {
    /// The binary `tarn`.
    pub tarn: &'a Path,
    /// Folder of the catalog.
    pub data: &'a Path,
    /// Folder of the logs.
    pub logs: &'a Path,
    /// What logs of this cluster begin with.
    pub name: String,
    /// Memory for plans, of each process.
    pub memory_bytes: u64,
    /// Where data and metadata are read: an executor for each of its doors.
    pub store: &'a Store,
    /// What executors are put into.
    pub cages: Option<&'a Cages>,
}

/// Running processes; they end with this value.
pub struct Cluster {
    /// Where clients connect.
    pub url: String,
    scheduler: Child,
    executors: Vec<Child>,
}

/// Seconds of processors that processes have used since they began.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// Each executor.
    pub executors: Vec<f64>,
    /// The scheduler.
    pub scheduler: f64,
    /// This process: clients and store.
    pub here: f64,
}

impl Cluster {
    /// Starts a scheduler and an executor for each door, and waits until all are members.
    pub async fn start(setup: &Setup<'_>) -> Result<Self, Error> {
        let config = setup.logs.join(format!("{}.toml", setup.name));
        std::fs::write(&config, settings(setup))?;
        let address = || free_port().map(|port| format!("127.0.0.1:{port}"));
        let (flight_sql, http, cluster) = (address()?, address()?, address()?);
        let common = |mut command: Command| {
            command.env("TARN_RUNTIME__MEMORY_BYTES", setup.memory_bytes.to_string());
            command.arg("--config").arg(&config).arg("--data-dir").arg(setup.data).args(["--log", "warn"]);
            command
        };
        let mut command = program(setup.tarn);
        command.args(["scheduler", "--flight-sql-listen", &flight_sql, "--http-listen", &http]);
        command.args(["--cluster-listen", &cluster]);
        let scheduler = spawn_logged(common(command), setup.logs, &format!("{}-scheduler", setup.name))?;
        let mut executors = Vec::with_capacity(setup.store.doors.len());
        for (number, door) in setup.store.doors.iter().enumerate() {
            let mut command = executor(setup, number, door);
            command.args(["executor", "--scheduler", &cluster, "--listen", &steady_address(number)?]);
            let name = format!("{}-executor-{number}", setup.name);
            executors.push(spawn_logged(common(command), setup.logs, &name)?);
        }
        let mut started = Self { url: format!("grpc://{flight_sql}"), scheduler, executors };
        started.wait_until_ready().await?;
        Ok(started)
    }

    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        let mut last: Error = "it was not asked".into();
        while began.elapsed() < READY_MAX {
            for child in self.executors.iter_mut().chain([&mut self.scheduler]) {
                if let Some(status) = child.try_wait()? {
                    return Err(format!("a server ended with {status}; its log says why").into());
                }
            }
            match self.members().await {
                Ok(alive) if alive == self.executors.len().to_string() => return Ok(()),
                Ok(alive) => last = format!("{alive} of {} executors are there", self.executors.len()).into(),
                Err(error) => last = error,
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("the servers are not ready: {last}").into())
    }

    async fn members(&self) -> Result<String, Error> {
        let mut connection = Connection::connect(&self.url).await?;
        let alive = connection.scalar("select count(*) from system.executors where state = 'alive'").await?;
        Ok(alive.unwrap_or_default())
    }

    /// What was used so far.
    pub fn used(&self) -> Result<Used, Error> {
        let of = |child: &Child| seconds(child.id().ok_or("a server has ended")?);
        Ok(Used {
            executors: self.executors.iter().map(of).collect::<Result<_, _>>()?,
            scheduler: of(&self.scheduler)?,
            here: seconds(std::process::id())?,
        })
    }

    /// Ends the processes.
    pub async fn stop(mut self) -> Result<(), Error> {
        for child in self.executors.iter_mut().chain([&mut self.scheduler]) {
            child.kill().await?;
        }
        Ok(())
    }
}

/// The settings of one cluster: the warehouse is where the store serves it, not where it was written.
fn settings(setup: &Setup<'_>) -> String {
    format!(
        "[storage.rewrites]\n\"file://{}/warehouse\" = \"{WAREHOUSE}\"\n\n\
         [storage.s3]\nendpoint = \"{}\"\npath_style = true\nallow_http = true\n\n\
         [runtime]\ncpu_threads = 1\n",
        setup.data.display(),
        setup.store.endpoint,
    )
}

/// The beginning of the command of an executor.
fn executor(setup: &Setup<'_>, number: usize, door: &Door) -> Command {
    let mut command = match setup.cages {
        None => program(setup.tarn),
        Some(cages) => {
            let mut command = program(Path::new("/bin/sh"));
            command.args(["-c", ENTER, "sh"]).args(cages.of(number)).arg(setup.tarn);
            command
        }
    };
    // An empty list of exceptions: loopback too goes by the proxy.
    command.env("HTTP_PROXY", &door.url).env("NO_PROXY", "");
    command
}

/// A program without what the surroundings would tell it.
pub fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    let surroundings = ["TARN_", "AWS_", "AZURE_", "GOOGLE_"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if surroundings.iter().any(|begin| text.starts_with(begin)) || text.to_lowercase().ends_with("_proxy")
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Starts a process that ends with its value, and whose output goes to a file.
pub fn spawn_logged(mut command: Command, logs: &Path, name: &str) -> Result<Child, Error> {
    let log = std::fs::File::create(logs.join(format!("{name}.log")))?;
    command.kill_on_drop(true).stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().map_err(|error| format!("{name} does not start: {error}").into())
}

/// Where an executor listens. Files belong to executors by their addresses, so these are the same in each run: on one
/// data folder the same executor reads the same files, and runs before and after a change can be compared.
fn steady_address(executor: usize) -> Result<String, Error> {
    let port = STEADY_PORT + u16::try_from(executor)?;
    let port = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => port,
        Err(error) => {
            eprintln!("port {port}: {error}; files are shared out otherwise than in other runs");
            free_port()?
        }
    };
    Ok(format!("127.0.0.1:{port}"))
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Seconds of processors that a process has used.
fn seconds(id: u32) -> Result<f64, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // Behind the name, which may hold anything: the state, and twelve fields later user and system time.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/…/stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks =
        || fields.next().and_then(|field| field.parse::<u64>().ok()).ok_or("no times in /proc/…/stat");
    Ok((ticks()? + ticks()?) as f64 / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_this_process_is_known() {
        assert!(seconds(std::process::id()).unwrap() < 1e6);
    }
}
