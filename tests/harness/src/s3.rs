//! An S3 server on loopback, over a folder: real HTTP, real signatures, no Docker.
//!
//! Requests are counted by method, and the server can be told to refuse
//! everything, as one that is down for maintenance does; what else it can do
//! wrong is [`S3Server::troubles`]. Keys that end are made by [`Keys::issue`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use s3s::auth::{S3Auth, SecretKey, SimpleAuth};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tarn_scan::storage::S3Config;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::data::fresh_folder;
use crate::trouble::{Listener, Troubles};

/// The key that the server takes.
pub const ACCESS_KEY: &str = "tarn-access";
/// The secret that belongs to it.
pub const SECRET_KEY: &str = "tarn-secret";
/// The one bucket there is.
pub const BUCKET: &str = "lake";

/// How long a key is still taken after its end: a request may have been on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// A free port of loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running S3 server; it ends when dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    state: Arc<State>,
    keys: Keys,
    _tasks: JoinSet<()>,
    folder: PathBuf,
}

/// Who may ask.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// Everybody, without a signature.
    Open,
    /// Who has the server's own key.
    OwnKey,
    /// Who has a key that was issued and has not ended.
    Issued,
}

/// The keys that a server issued, as a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    inner: Arc<Mutex<Issued>>,
}

#[derive(Debug, Default)]
struct Issued {
    keys: Vec<Key>,
    used: Vec<String>,
    refused: u64,
}

/// A key that is taken until its end.
#[derive(Debug, Clone)]
pub struct Key {
    /// What a request names.
    pub id: String,
    /// What it is signed with.
    pub secret: String,
    /// Its end, in milliseconds since the epoch.
    pub expires_at_ms: u64,
}

impl Keys {
    /// A new key that ends after `life`.
    pub fn issue(&self, life: Duration) -> Key {
        let mut inner = self.inner.lock();
        let random = uuid::Uuid::new_v4().simple().to_string();
        let key = Key {
            id: format!("issued-{}-{}", inner.keys.len(), &random[..8]),
            secret: format!("secret-of-{random}"),
            expires_at_ms: u64::try_from((since_epoch() + life).as_millis()).unwrap_or(u64::MAX),
        };
        inner.keys.push(key.clone());
        key
    }

    /// All that were issued.
    pub fn issued(&self) -> Vec<Key> {
        self.inner.lock().keys.clone()
    }

    /// Ends all keys now.
    pub fn revoke(&self) {
        self.inner.lock().keys.iter_mut().for_each(|key| key.expires_at_ms = 0);
    }

    /// The ids that requests were signed with, in the order of their first use.
    pub fn used(&self) -> Vec<String> {
        self.inner.lock().used.clone()
    }

    /// Requests that were refused, since their key had ended or was never issued.
    pub fn refused(&self) -> u64 {
        self.inner.lock().refused
    }
}

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        let mut inner = self.inner.lock();
        if !inner.used.iter().any(|used| used == id) {
            inner.used.push(id.to_string());
        }
        match inner.keys.iter().find(|key| key.id == id).cloned() {
            Some(key) if Duration::from_millis(key.expires_at_ms) + ON_ITS_WAY >= since_epoch() => {
                Ok(SecretKey::from(key.secret))
            }
            key => {
                inner.refused += 1;
                Err(if key.is_some() { s3_error!(ExpiredToken) } else { s3_error!(InvalidAccessKeyId) })
            }
        }
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[derive(Debug, Default)]
struct State {
    /// Requests seen, by method.
    requests: Mutex<BTreeMap<String, u64>>,
    unavailable: AtomicBool,
    troubles: Troubles,
}

impl S3Server {
    /// Starts a server that checks signatures: for processes, which have keys in their environment.
    pub async fn start() -> Self {
        Self::start_at(ANY_PORT).await
    }

    /// The same, at an address.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::serve(address, Access::OwnKey).await
    }

    /// Starts a server that takes requests without a signature: for servers in this process, whose
    /// environment a test cannot change.
    pub async fn start_open() -> Self {
        Self::serve(ANY_PORT, Access::Open).await
    }

    /// Starts a server that takes only keys that were issued.
    pub async fn start_issuing() -> Self {
        Self::serve(ANY_PORT, Access::Issued).await
    }

    async fn serve(address: SocketAddr, access: Access) -> Self {
        let folder = fresh_folder("s3");
        std::fs::create_dir(folder.join(BUCKET)).expect("a fresh folder takes a folder");
        let keys = Keys::default();
        let service = service(&folder, access, &keys);
        let state = Arc::new(State::default());
        let seen = Arc::clone(&state);
        let router = axum::Router::new().fallback(move |request: Request| {
            let (service, state) = (service.clone(), Arc::clone(&seen));
            async move { answer(&service, &state, request).await }
        });
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let listener = Listener::new(listener, state.troubles.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the S3 server ended");
            }
        });
        Self { address, state, keys, _tasks: tasks, folder }
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

    /// The keys that end.
    pub fn keys(&self) -> &Keys {
        &self.keys
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

    /// What goes wrong, as a handle.
    pub fn troubles(&self) -> &Troubles {
        &self.state.troubles
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

fn service(folder: &Path, access: Access, keys: &Keys) -> S3Service {
    let store = FileSystem::new(folder).expect("a folder that exists can be served");
    let mut builder = S3ServiceBuilder::new(store);
    match access {
        Access::Open => {}
        Access::OwnKey => builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY)),
        Access::Issued => builder.set_auth(keys.clone()),
    }
    builder.build()
}

async fn answer(service: &S3Service, state: &State, request: Request) -> Response {
    *state.requests.lock().entry(request.method().to_string()).or_default() += 1;
    if state.unavailable.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let answer = async {
        match service.call(request.map(s3s::Body::http_body_unsync)).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::error!(?error, "the S3 server failed");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    };
    state.troubles.around(answer).await
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

    #[tokio::test]
    async fn a_key_is_taken_until_its_end() {
        let server = S3Server::start_issuing().await;
        let key = server.keys().issue(Duration::from_secs(60));
        let store = AmazonS3Builder::new()
            .with_endpoint(server.endpoint())
            .with_allow_http(true)
            .with_bucket_name(BUCKET)
            .with_region("us-east-1")
            .with_access_key_id(&key.id)
            .with_secret_access_key(&key.secret)
            .with_token("a session's token")
            .build()
            .unwrap();
        let path = Path::from("f");
        store.put(&path, PutPayload::from_static(b"hello")).await.unwrap();
        assert_eq!((server.keys().used(), server.keys().refused()), (vec![key.id.clone()], 0));
        server.keys().revoke();
        let refused = store.get(&path).await.unwrap_err().to_string();
        assert!(refused.contains("ExpiredToken") && !refused.contains(&key.secret), "{refused}");
        assert_eq!(server.keys().refused(), 1);
    }
}
