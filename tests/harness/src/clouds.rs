//! The storage of Google and of Azure, as their emulators: fake-gcs-server (a Go program) and Azurite (npm), on
//! loopback, with their objects in memory.
//!
//! Both are fetched by package name into the cache folder, once. A server ends when its handle is dropped or this
//! process ends, since a shell waits for the end of its standard input. Without `go`, or `node` and `npm`, tests
//! skip, loudly; with `CI` set that is a failure.

mod front;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::StatusCode;
use sha2::Sha256;
use tokio::task::JoinSet;

use crate::data::fresh_folder;
use crate::net::free_addresses;
use crate::programs::{Guard, fetched, installed, until_input_ends};
use crate::wait::until;

/// The bucket, or container, of every emulator.
pub const BUCKET: &str = "lake";
/// The account of Azurite, which everybody knows.
pub const ACCOUNT: &str = "devstoreaccount1";
/// Its key, which everybody knows too.
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const START: Duration = Duration::from_secs(60);

const GCS_PACKAGE: &str = "github.com/fsouza/fake-gcs-server@v1.56.1";
const AZURE_PACKAGE: &str = "azurite@3.37.0";
/// The version of Azure's protocol that the container is asked for in.
const AZURE_VERSION: &str = "2021-08-06";

/// A running emulator with one empty bucket.
#[derive(Debug)]
pub struct Emulator {
    _guard: Guard,
    _front: Option<JoinSet<()>>,
    /// What is to stand in `storage.gcs.endpoint`, or in `storage.azure.endpoint`.
    pub endpoint: String,
}

/// Google Cloud Storage, which takes any token, or none; `None`, and a line that says so, without Go.
///
/// # Panics
/// If Go is missing and `CI` is set, or the server cannot be fetched or does not start.
pub async fn google() -> Option<Emulator> {
    let program = prepared(&["go"], "gcs-emulator-1.56.1", |folder| {
        let mut go = Command::new("go");
        go.args(["install", GCS_PACKAGE]).env("GOBIN", folder).env("GOFLAGS", "-trimpath");
        go
    })
    .await?;
    let [address] = free_addresses::<1>();
    let server = format!(
        "'{}/fake-gcs-server' -scheme http -host 127.0.0.1 -port {} -backend memory -public-host {address}",
        program.display(),
        address.port()
    );
    let guard = start(&server);
    let (client, url) = (reqwest::Client::new(), format!("http://{address}/storage/v1/b?project=tarn"));
    expect_made(async || client.post(&url).json(&serde_json::json!({ "name": BUCKET })).send().await).await;
    let (endpoint, front) = front::start(format!("http://{address}")).await;
    Some(Emulator { _guard: guard, _front: Some(front), endpoint })
}

/// An Azure storage account that checks signatures; `None`, and a line that says so, without Node.
///
/// # Panics
/// If Node is missing and `CI` is set, or the server cannot be fetched or does not start.
pub async fn azure() -> Option<Emulator> {
    let program = prepared(&["node", "npm"], "azure-emulator-3.37.0", |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        npm.arg(folder).arg(AZURE_PACKAGE);
        npm
    })
    .await?;
    let [address] = free_addresses::<1>();
    let server = format!(
        "node '{}/node_modules/azurite/dist/src/blob/main.js' --blobHost 127.0.0.1 --blobPort {} \
         --inMemoryPersistence --silent --disableTelemetry --skipApiVersionCheck",
        program.display(),
        address.port()
    );
    let emulator =
        Emulator { _guard: start(&server), _front: None, endpoint: format!("http://{address}/{ACCOUNT}") };
    let client = reqwest::Client::new();
    let url = format!("{}/{BUCKET}?restype=container", emulator.endpoint);
    expect_made(async || {
        let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let authorization = shared_key(&date);
        let request = client.put(&url).header("x-ms-date", date).header("x-ms-version", AZURE_VERSION);
        request.header("authorization", authorization).header("content-length", "0").send().await
    })
    .await;
    Some(emulator)
}

/// The header that signs the making of the container.
fn shared_key(date: &str) -> String {
    let to_sign = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    );
    let key = BASE64.decode(ACCOUNT_KEY).expect("the key is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length is a key");
    mac.update(to_sign.as_bytes());
    format!("SharedKey {ACCOUNT}:{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// Asks until the server is up and has made its bucket.
async fn expect_made(ask: impl AsyncFn() -> reqwest::Result<reqwest::Response>) {
    let made = until(START, async || match ask().await {
        Ok(answer) => [StatusCode::OK, StatusCode::CREATED].contains(&answer.status()),
        Err(_) => false,
    });
    assert!(made.await, "the emulator did not make its bucket within {START:?}");
}

/// Starts a server in a folder of its own.
fn start(server: &str) -> Guard {
    let script =
        format!("cd '{}'; {}", fresh_folder("emulator").display(), until_input_ends(server, "server.log"));
    Guard::start(Command::new("sh").args(["-c", &script]))
}

/// The folder into which a package was fetched, now or earlier.
async fn prepared(
    needs: &'static [&'static str],
    name: &'static str,
    fetch: impl FnOnce(&Path) -> Command + Send + 'static,
) -> Option<PathBuf> {
    let prepare = move || installed(name, needs).then(|| fetched(name, fetch));
    tokio::task::spawn_blocking(prepare).await.expect("the package can be fetched")
}
