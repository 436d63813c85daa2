//! An S3 server on loopback, over a folder: real HTTP, real signatures, no Docker.
//!
//! Requests are counted by method, and the server can be told to refuse
//! everything, as one that is down for maintenance does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tarn_scan::storage::S3Config;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::data::fresh_folder;

/// The key that the server takes.
pub const ACCESS_KEY: &str = "tarn-access";
/// The secret that belongs to it.
pub const SECRET_KEY: &str = "tarn-secret";
/// The one bucket there is.
pub const BUCKET: &str = "lake";

/// A running S3 server; it ends when dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
    folder: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    /// Requests seen, by method.
    requests: Mutex<BTreeMap<String, u64>>,
    unavailable: AtomicBool,
}

impl S3Server {
    /// Starts a server that checks signatures: for processes, which have keys in their environment.
    pub async fn start() -> Self {
        Self::serve(true).await
    }

    /// Starts a server that takes requests without a signature: for servers in this process, whose
    /// environment a test cannot change.
    pub async fn start_open() -> Self {
        Self::serve(false).await
    }

    async fn serve(signed: bool) -> Self {
        let folder = fresh_folder("s3");
        std::fs::create_dir(folder.join(BUCKET)).expect("a fresh folder takes a folder");
        let service = service(&folder, signed);
        let state = Arc::new(State::default());
        let seen = Arc::clone(&state);
        let router = axum::Router::new().fallback(move |request: Request| {
            let (service, state) = (service.clone(), Arc::clone(&seen));
            async move { answer(&service, &state, request).await }
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the S3 server ended");
            }
        });
        Self { address, state, _tasks: tasks, folder }
    }

    /// Its URL, for path-style requests.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The settings by which it is reached.
    pub fn storage(&self) -> S3Config {
        let (endpoint, region) = (Some(self.endpoint()), Some("us-east-1".to_string()));
        S3Config { endpoint, region, path_style: true, allow_http: true }
    }

    /// The URI of a folder in the bucket.
    pub fn uri(&self, folder: &str) -> String {
        format!("s3://{BUCKET}/{folder}")
    }

    /// Requests so far, by method.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.state.requests.lock().clone()
    }

    /// Whether every request is answered with 503.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.state.unavailable.store(unavailable, Ordering::SeqCst);
    }

    /// Names of the objects, with the bucket, in order.
    pub fn objects(&self) -> Vec<String> {
        let root = self.folder.join(BUCKET);
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        found
    }

    /// Where an object lies on disk, to break it.
    pub fn file(&self, object: &str) -> PathBuf {
        self.folder.join(BUCKET).join(object)
    }

    /// The environment of a process that may read and write here.
    pub fn environment(&self) -> Vec<(String, String)> {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into()
    }
}

fn service(folder: &Path, signed: bool) -> S3Service {
    let store = FileSystem::new(folder).expect("a folder that exists can be served");
    let mut builder = S3ServiceBuilder::new(store);
    if signed {
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    }
    builder.build()
}

async fn answer(service: &S3Service, state: &State, request: Request) -> Response {
    *state.requests.lock().entry(request.method().to_string()).or_default() += 1;
    if state.unavailable.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match service.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::error!(?error, "the S3 server failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Ok(object) = path.strip_prefix(root) {
            found.push(object.to_string_lossy().into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3Builder;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

    use super::*;

    #[tokio::test]
    async fn a_client_with_the_key_reads_and_writes() {
        let server = S3Server::start().await;
        let client = |secret: &str| {
            AmazonS3Builder::new()
                .with_endpoint(server.endpoint())
                .with_allow_http(true)
                .with_bucket_name(BUCKET)
                .with_region("us-east-1")
                .with_access_key_id(ACCESS_KEY)
                .with_secret_access_key(secret)
                .build()
                .unwrap()
        };
        let path = Path::from("a/b c=%41/d.txt");
        let store = client(SECRET_KEY);
        store.put(&path, PutPayload::from_static(b"hello")).await.unwrap();
        assert_eq!(store.get_range(&path, 1..3).await.unwrap().as_ref(), b"el");
        assert_eq!(server.objects().len(), 1);
        assert!(server.requests()["PUT"] >= 1);
        let again = store.put_opts(&path, PutPayload::from_static(b"x"), PutMode::Create.into()).await;
        assert!(again.is_err(), "a conditional put to an existing object: {again:?}");
        assert!(client("wrong").get(&path).await.is_err());
    }
}
