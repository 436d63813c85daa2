//! A process of Tarn: its log, signals to it, and what it says over HTTP.
//!
//! It is killed when its value is dropped. The rule: who asks has a deadline.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Error;

/// How long an answer over HTTP may take.
const ANSWER: Duration = Duration::from_secs(3);
/// Between two looks at whether a process is ready.
const POLL: Duration = Duration::from_millis(50);

/// A running process.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    http: SocketAddr,
}

impl Server {
    /// Starts a command; what it says is added to `<name>.log`.
    pub fn start(name: &str, logs: &Path, mut command: Command, http: SocketAddr) -> Result<Self, Error> {
        let path: PathBuf = logs.join(format!("{name}.log"));
        let log = std::fs::File::options().create(true).append(true).open(&path)?;
        // Nothing of the caller's surroundings may decide how it runs.
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("TARN_CHAOS") || key == "TARN_BIN")
        {
            command.env_remove(key);
        }
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
        Ok(Self { name: name.to_string(), child, http })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal by name.
    pub async fn signal(&self, name: &str) -> Result<(), Error> {
        let id = self.id().ok_or_else(|| format!("{} has ended", self.name))?;
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status().await?;
        if sent.success() { Ok(()) } else { Err(format!("{name} cannot be sent to {}", self.name).into()) }
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&mut self) -> Result<(), Error> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to end; it must do so in order, and within its time.
    pub async fn terminate(&mut self, patience: Duration) -> Result<(), Error> {
        self.signal("TERM").await?;
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{} was asked to end, and ended with {status}", self.name).into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.child.kill().await?;
                Err(format!("{} was asked to end, and still ran after {patience:?}", self.name).into())
            }
        }
    }

    /// Waits until it says that it is ready.
    pub async fn wait_until_ready(&mut self, patience: Duration) -> Result<(), Error> {
        let ready = async {
            loop {
                if let Some(status) = self.ended() {
                    return Err(format!("{} ended with {status} instead of being ready", self.name).into());
                }
                if self.get("/readyz").await.is_ok_and(|(status, _)| status == 200) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(patience, ready).await {
            Ok(ready) => ready,
            Err(_) => Err(format!("{} is not ready after {patience:?}", self.name).into()),
        }
    }

    /// GET: (status, body).
    pub async fn get(&self, path: &str) -> Result<(u16, String), Error> {
        let ask = async {
            let mut stream = TcpStream::connect(self.http).await?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = tokio::time::timeout(ANSWER, ask).await??;
        let status = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok((status.ok_or("not an answer over HTTP")?, body.to_string()))
    }

    /// The samples of a metric: labels, as written, and value.
    pub async fn metric(&self, name: &str) -> Result<Vec<(String, f64)>, Error> {
        let (_, body) = self.get("/metrics").await?;
        let samples = body.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        Ok(samples.filter_map(|(labels, value)| Some((labels.to_string(), value.parse().ok()?))).collect())
    }
}
