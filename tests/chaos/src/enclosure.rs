//! The walls around a run: namespaces of network, mounts and processes, and one folder, all of which end with it.
//!
//! The program starts itself again inside. Where the kernel allows namespaces (root, or a user of their own), whatever
//! happens inside, a panic or a kill included, ends with the first process in them. Elsewhere the run
//! goes on without, and the faults that need them are left out. The rule: nothing of a run outlives [`run`].

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tarn_harness::{process, s3};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{Error, Flags};

/// The seed, for the program inside.
pub const SEED: &str = "TARN_CHAOS_SEED";
/// What there is inside: [`PRIVATE`], or not.
const INSIDE: &str = "TARN_CHAOS_INSIDE";
const PRIVATE: &str = "private";
/// Folder of the run, for the program inside.
const FOLDER: &str = "TARN_CHAOS_FOLDER";

/// What a namespace must allow.
const PROBE: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && ip netns add probe && ip link add probe type bridge && \
                     ip link add probe0 type veth peer name probe1 && ip link set probe1 netns probe";
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// What start, checks and end may take beside the faults.
const SLACK: Duration = Duration::from_secs(900);
/// How long the inside may take to end when it is asked to.
const END: Duration = Duration::from_secs(20);

/// What the program inside finds.
#[derive(Debug, Clone)]
pub struct Inside {
    /// Whether network, mounts and processes are its own.
    pub private: bool,
    /// The folder of the run.
    pub folder: PathBuf,
    /// Cancelled when the outside has gone, or somebody wants the end.
    pub stop: CancellationToken,
}

/// The inside, if this is it.
pub fn inside() -> Option<Inside> {
    let private = std::env::var(INSIDE).ok()? == PRIVATE;
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let stop = CancellationToken::new();
    let gone = stop.clone();
    // Without the outside nobody would clean up.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        gone.cancel();
    });
    Some(Inside { private, folder, stop })
}

/// Builds the walls, runs the program inside, and takes the walls down.
pub async fn run(flags: &Flags) -> Result<ExitCode, Error> {
    let seed = flags.seed.unwrap_or_else(seed_of_the_clock);
    let tarn = flags.tarn.clone().unwrap_or_else(|| process::binary().to_path_buf());
    let tarn = std::path::absolute(tarn)?;
    if !tarn.is_file() {
        return Err(format!("{} is no file", tarn.display()).into());
    }
    let folder = Folder::create()?;
    println!("tarn-chaos --seed {seed} --minutes {} --executors {}", flags.minutes, flags.executors);
    println!("  binary {}, logs {}", tarn.display(), folder.logs().display());
    let mut command = match walls().await {
        Some(namespaces) => {
            let mut command = Command::new("unshare");
            command.args(namespaces).arg(std::env::current_exe()?).env(INSIDE, PRIVATE);
            command
        }
        None => {
            println!(
                "!! no namespaces of our own here (root, unshare and ip are needed): NO network is cut, NO disk fills"
            );
            let mut command = Command::new(std::env::current_exe()?);
            command.env(INSIDE, "plain");
            command
        }
    };
    // Nothing of the caller's surroundings may decide what happens inside.
    let surroundings = ["TARN_", "AWS_", "AZURE_", "GOOGLE_"];
    for (key, _) in
        std::env::vars().filter(|(key, _)| surroundings.iter().any(|begin| key.starts_with(begin)))
    {
        if key != INSIDE {
            command.env_remove(key);
        }
    }
    let child = command
        .args(std::env::args_os().skip(1))
        .env(SEED, seed.to_string())
        .env(FOLDER, &folder.path)
        // The harness looks for what ended processes left: it must find nobody else's.
        .env("TMPDIR", &folder.path)
        .env("TARN_BIN", &tarn)
        .env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)
        .stdin(Stdio::piped())
        // Ctrl-C comes here alone, and not to every process inside.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let succeeded = watch(child, flags.length() + SLACK).await?;
    if succeeded && !flags.keep {
        folder.remove();
    } else {
        folder.keep_logs();
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the end of the inside, and brings it about if need be. Whether all went well.
async fn watch(mut child: Child, limit: Duration) -> Result<bool, Error> {
    // A child that is waited for would lose its input, and so the sign that we are there.
    let alive = child.stdin.take();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let why = tokio::select! {
        status = child.wait() => return Ok(status?.success()),
        _ = interrupt.recv() => "interrupted".to_string(),
        _ = terminate.recv() => "terminated".to_string(),
        () = tokio::time::sleep(limit) => format!("FAILURE the run itself hangs: no end after {limit:?}"),
    };
    println!("{why}: cleaning up");
    // The end of its input asks the inside to end; what is left of it dies with its first process.
    drop(alive);
    if tokio::time::timeout(END, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(false)
}

/// Arguments for `unshare`, if it works here.
async fn walls() -> Option<Vec<&'static str>> {
    for user in [&[][..], &["--map-root-user"]] {
        let namespaces = [user, &NAMESPACES].concat();
        let mut probe = Command::new("unshare");
        probe.args(&namespaces).args(["sh", "-c", PROBE]);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let works = tokio::time::timeout(END, probe.status()).await;
        if works.is_ok_and(|status| status.is_ok_and(|status| status.success())) {
            return Some(namespaces);
        }
    }
    None
}

fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ ((now.as_secs() << 8) & 0xffff_ffff)
}

/// The folder of a run. It is removed when dropped, but for logs that are to be kept.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn create() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tarn-chaos-{}", std::process::id()));
        std::fs::create_dir_all(logs(&path))?;
        Ok(Self { path, kept: false })
    }

    fn logs(&self) -> PathBuf {
        logs(&self.path)
    }

    /// Removes it with all that is in it.
    fn remove(self) {}

    /// Removes all but the logs.
    fn keep_logs(mut self) {
        self.kept = true;
        println!("  logs are kept in {}", self.logs().display());
    }
}

/// Where the logs of a run lie.
pub fn logs(folder: &Path) -> PathBuf {
    folder.join("logs")
}

impl Drop for Folder {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if !(self.kept && entry.path() == self.logs()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
