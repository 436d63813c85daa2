//! A PostgreSQL server of its own for the tests that need one: Debian's package, on loopback, in a temporary folder.
//!
//! It is started once for all tests of a run and ends with this process. PostgreSQL refuses to run
//! as root, so for root it runs as the user `postgres` that the package makes. Where it is not
//! installed tests skip, loudly; with `CI` set that is a failure: see [`available`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::data::fresh_folder;
use crate::net::free_addresses;
use crate::programs::{Guard, skip, until_input_ends};
use crate::wait::until;

const START: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    _guard: Guard,
}

/// The server; `None`, and a line that says so, where PostgreSQL is not installed.
///
/// # Panics
/// If it is not installed and `CI` is set, or it does not start.
pub async fn available() -> Option<&'static Postgres> {
    static SERVER: OnceCell<Option<Postgres>> = OnceCell::const_new();
    let server = SERVER.get_or_init(|| async {
        let Some(programs) = programs() else {
            skip("PostgreSQL is not installed (Debian's package is `postgresql`)");
            return None;
        };
        Some(Postgres::start(programs).await)
    });
    server.await.as_ref()
}

/// The folder of `initdb` and `postgres`: the newest of Debian's, else one on the path.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.splice(0..0, std::env::split_paths(&path));
    folders
        .into_iter()
        .rev()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

impl Postgres {
    async fn start(programs: PathBuf) -> Self {
        let folder = fresh_folder("postgres");
        let [address] = free_addresses::<1>();
        let data = folder.join("data");
        let server = format!(
            "'{}/postgres' -D '{}' -h 127.0.0.1 -p {} -k '' -F",
            programs.display(),
            data.display(),
            address.port()
        );
        // One script, so that only one process has to change its user.
        let script = format!(
            "set -e; cd {folder}; '{bin}/initdb' -D '{data}' -U tarn -A trust -E UTF8 --locale=C >initdb.log 2>&1; \
             {serve}",
            folder = folder.display(),
            data = data.display(),
            serve = until_input_ends(&server, "postgres.log"),
            bin = programs.display(),
        );
        let guard = Guard::start(&mut shell_as_postgres(&folder, &script));
        // A port that is open is not enough: the server refuses while it starts.
        let ready = || {
            let mut asked = Command::new(programs.join("pg_isready"));
            asked.args(["-q", "-h", "127.0.0.1", "-p", &address.port().to_string()]).status()
        };
        let up = until(START, || async { ready().is_ok_and(|status| status.success()) }).await;
        let log = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(up, "PostgreSQL did not start:\n{}\n{}", log("initdb.log"), log("postgres.log"));
        Self { port: address.port(), programs, _guard: guard }
    }

    /// The URI of a new, empty database.
    pub fn fresh_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("catalog_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(self.programs.join("createdb"));
        let made =
            command.args(["-h", "127.0.0.1", "-U", "tarn", "-p", &self.port.to_string(), &name]).output();
        let made = made.expect("createdb can be started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        format!("postgresql://tarn@127.0.0.1:{}/{name}", self.port)
    }
}

/// A shell as the user that PostgreSQL may run as: this one, unless that is root.
fn shell_as_postgres(folder: &Path, script: &str) -> Command {
    let id = Command::new("id").arg("-u").output().map(|output| output.stdout).unwrap_or_default();
    if id.trim_ascii() != b"0" {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        return command;
    }
    let owned = Command::new("chown").arg("postgres").arg(folder).status();
    assert!(owned.is_ok_and(|status| status.success()), "the user postgres exists");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", "sh", "-c", script]);
    command
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_new_database_takes_connections() {
        crate::run(async {
            let Some(server) = available().await else { return };
            let uri = server.fresh_database();
            assert_ne!(uri, server.fresh_database());
            let port = uri.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse::<u16>().unwrap();
            TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        });
    }
}
