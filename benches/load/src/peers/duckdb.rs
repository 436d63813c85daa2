//! DuckDB behind a small Flight SQL front, in Python: it answers the client that Tarn is asked with.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::sleep;

use crate::Error;
use crate::data::Tables;
use crate::server::{READY_MAX, Watch, free_port, spawn_logged};
use crate::target::Target;

const WAIT: Duration = Duration::from_millis(200);

/// The running front.
pub struct DuckDb {
    /// Whom to ask.
    pub target: Target,
    child: Child,
    _input: ChildStdin,
    _spill: tempfile::TempDir,
}

impl DuckDb {
    /// Starts it and waits until it answers.
    pub async fn start(
        python: &str,
        tables: &Tables,
        memory_bytes: u64,
        folder: &Path,
        logs: &Path,
    ) -> Result<Self, Error> {
        let (port, spill) = (free_port()?, tempfile::tempdir_in(folder)?);
        let request = serde_json::json!({
            "port": port, "tables": tables, "memory_bytes": memory_bytes, "spill": spill.path(),
        });
        let mut command = Command::new(python);
        command.args(["-c", include_str!("../../python/front.py")]).stdin(Stdio::piped());
        let mut child = spawn_logged(command, logs, "duckdb")?;
        let mut input = child.stdin.take().ok_or("no standard input")?;
        input.write_all(format!("{request}\n").as_bytes()).await?;
        let target = Target::FlightSqlWithoutUsers(format!("grpc://127.0.0.1:{port}"));
        let began = Instant::now();
        loop {
            match target.connect("probe").await {
                Ok(_) => return Ok(Self { target, child, _input: input, _spill: spill }),
                Err(error) if began.elapsed() > READY_MAX => {
                    return Err(format!("DuckDB's front does not answer: {error}").into());
                }
                Err(_) => {}
            }
            if let Some(status) = child.try_wait()? {
                return Err(format!("DuckDB's front ended with {status}; its log says why").into());
            }
            sleep(WAIT).await;
        }
    }

    /// Looks at its process.
    pub fn watch(&self) -> Watch {
        Watch::of([&self.child])
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<(), Error> {
        Ok(self.child.kill().await?)
    }
}
