//! A real REST catalog server: Iceberg's own fixture, from Maven, on loopback. See tests/harness/rest.
//!
//! The jars are fetched once, into the cache folder; each server is a `java` of its own over a SQLite
//! file, and ends when its handle is dropped or this process ends, since it waits for the end of its
//! standard input. Without `java`, `javac` and `mvn` tests skip, loudly; with `CI` set that is a failure.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::sync::OnceCell;

use crate::data::fresh_folder;
use crate::programs::{assert_succeeds, fetched, installed};

/// A running server.
#[derive(Debug)]
pub struct RestServer {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl RestServer {
    /// Starts a server over an empty catalog; `None`, and a line that says so, without Java or Maven.
    /// `properties` are the catalog's, by the names that Iceberg gives them.
    ///
    /// # Panics
    /// If Java or Maven is missing and `CI` is set, or the server does not start.
    pub async fn start(properties: &[(&str, &str)]) -> Option<Self> {
        static PROGRAM: OnceCell<Option<PathBuf>> = OnceCell::const_new();
        let prepare =
            || async { tokio::task::spawn_blocking(prepare).await.expect("preparing does not panic") };
        let program = PROGRAM.get_or_init(prepare).await.clone()?;
        let properties: Vec<_> =
            properties.iter().map(|(name, value)| (variable(name), (*value).to_string())).collect();
        let server = tokio::task::spawn_blocking(move || Self::run(&program, properties)).await;
        Some(server.expect("the REST server starts"))
    }

    fn run(program: &Path, properties: Vec<(String, String)>) -> Self {
        let folder = fresh_folder("rest");
        std::fs::create_dir(folder.join("warehouse")).expect("a fresh folder takes a folder");
        let log = std::fs::File::create(folder.join("server.log")).expect("a fresh folder takes a file");
        let mut child = Command::new("java")
            .arg("-Xmx256m")
            .arg("-cp")
            .arg(format!("{0}/classes:{0}/lib/*", program.display()))
            .arg("org.apache.iceberg.rest.RestServer")
            .env(variable("uri"), format!("jdbc:sqlite:{}", folder.join("catalog.db").display()))
            .env(variable("warehouse"), format!("file://{}", folder.join("warehouse").display()))
            .envs(properties)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("java can be started");
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the server says its port");
        let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| {
            let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
            panic!("the REST server said {line:?}:\n{log}")
        });
        Self { child, port, folder }
    }

    /// Where it listens.
    pub fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its warehouse.
    pub fn warehouse(&self) -> PathBuf {
        self.folder.join("warehouse")
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The environment variable by which the fixture takes a catalog property.
fn variable(property: &str) -> String {
    format!("CATALOG_{}", property.to_uppercase().replace('-', "__").replace('.', "_"))
}

/// Fetches the jars and compiles the server, unless that is done; where both lie.
fn prepare() -> Option<PathBuf> {
    if !installed("REST catalog server", &["java", "javac", "mvn"]) {
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("rest");
    let program = fetched("rest-fixture-1.10.1", |folder| {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"]);
        maven.arg(source.join("pom.xml")).arg(format!("-DoutputDirectory={}", folder.join("lib").display()));
        maven
    });
    let mut compiler = Command::new("javac");
    compiler.arg("-cp").arg(format!("{}/lib/*", program.display()));
    compiler.arg("-d").arg(program.join("classes")).arg(source.join("RestServer.java"));
    assert_succeeds(&mut compiler);
    Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_answers_and_ends() {
        crate::run(async {
            let Some(server) = RestServer::start(&[("s3.region", "nowhere-1")]).await else { return };
            let (status, body) = crate::net::http_get(server.port, "/v1/config").await.unwrap();
            assert_eq!(status, 200, "{body}");
            assert!(server.warehouse().is_dir());
        });
    }
}
