//! The real binary as a process of its own: for what only a process shows, such as signals, exit
//! codes, ports in use, and being killed.
//!
//! The binary is `$TARN_BIN`, or the one beside the test binary, which is built first. Output goes to
//! a file; a process that is still there when its handle is dropped is killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::net;
use crate::wait::until;

/// How long a debug build may take to be up, with nothing to load.
const START: Duration = Duration::from_secs(60);

/// A running `tarn`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `tarn` with these arguments in a folder; its output goes to `<name>.log` there.
    pub fn start<I, A>(name: &str, folder: &Path, arguments: I, environment: &[(String, String)]) -> Self
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("a temporary folder takes a file");
        let mut command = Command::new(binary());
        // Nothing of the caller's surroundings may decide what a test sees.
        let surroundings = ["TARN_", "AWS_", "AZURE_", "GOOGLE_"];
        for (key, _) in
            std::env::vars().filter(|(key, _)| surroundings.iter().any(|begin| key.starts_with(begin)))
        {
            command.env_remove(key);
        }
        let child = command
            .args(arguments.into_iter().map(Into::into))
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("an open file can be shared"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary can be started");
        Self { child, log }
    }

    /// All output so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until the output contains a text.
    pub async fn wait_for_output(&self, text: &str, patience: Duration) {
        let seen = until(patience, || async { self.output().contains(text) }).await;
        assert!(seen, "no \"{text}\" within {patience:?} in:\n{}", self.output());
    }

    /// Waits until the HTTP server at a port says that the process is ready.
    pub async fn wait_until_ready(&mut self, http_port: u16) {
        let mut ended = None;
        for _ in 0..START.as_millis() / 50 {
            if let Ok((200, _)) = net::http_get(http_port, "/readyz").await {
                return;
            }
            ended = self.child.try_wait().ok().flatten();
            if ended.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not ready ({ended:?}):\n{}", self.output());
    }

    /// Waits for the end of the process, within a deadline.
    pub async fn wait(&mut self, patience: Duration) -> ExitStatus {
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => panic!("still running after {patience:?}:\n{}", self.output()),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it at once, as a crash or the machine's loss would.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// Asks it to end, with SIGTERM.
    pub async fn terminate(&self) {
        let Some(id) = self.child.id() else { return };
        let status = Command::new("kill").arg("-TERM").arg(id.to_string()).status().await;
        assert!(status.is_ok_and(|status| status.success()), "SIGTERM could not be sent");
    }
}

/// Runs `tarn` to its end: (exit code, output and errors).
pub async fn run(folder: &Path, arguments: &[&str], patience: Duration) -> (Option<i32>, String) {
    let mut process = Process::start("run", folder, arguments, &[]);
    let status = process.wait(patience).await;
    (status.code(), process.output())
}

/// The binary under test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("TARN_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// Builds the binary as the tests were built: same features, so nothing else is compiled again.
fn build() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows its file");
    let folder = program.parent().expect("a file lies in a folder");
    // Tests lie in <target>/<profile>/deps, programs in <target>/<profile>.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--workspace", "--bins", "--tests", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(folder.parent().unwrap_or(folder));
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status();
    assert!(status.as_ref().is_ok_and(ExitStatus::success), "the binary could not be built: {status:?}");
    folder.join("tarn")
}
