//! A proxy in front of a REST catalog: it vends keys to storage with tables, and fails on purpose.
//!
//! Without orders it passes everything on. The rule: what it changes is in the answers; the server
//! behind it decides what a table is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::net::{self, Reply};
use crate::s3::{Key, Keys, S3Server};

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// What goes wrong with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// The server commits; a 500 comes in the place of its answer.
    AnswerLost,
    /// A 500 comes, and the server is not asked.
    NotDone,
    /// The server commits; from then on every answer is a 500, until [`RestProxy::set_up`].
    GoneAfter,
}

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct RestProxy {
    address: SocketAddr,
    orders: Arc<Orders>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Orders {
    /// Port of the server behind.
    server: u16,
    vending: Mutex<Option<Vending>>,
    next_commit: Mutex<Option<CommitFault>>,
    refusing_loads: AtomicBool,
    down: AtomicBool,
    commits: AtomicU64,
}

/// Keys for one prefix, a new one with each answer.
#[derive(Debug, Clone)]
struct Vending {
    keys: Keys,
    endpoint: String,
    prefix: String,
    life: Duration,
}

impl RestProxy {
    /// Starts a proxy in front of the server at a port of loopback.
    pub async fn start(server: u16) -> Self {
        let orders = Arc::new(Orders {
            server,
            vending: Mutex::default(),
            next_commit: Mutex::default(),
            refusing_loads: AtomicBool::new(false),
            down: AtomicBool::new(false),
            commits: AtomicU64::new(0),
        });
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&orders));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the proxy ended");
            }
        });
        Self { address, orders, _tasks: tasks }
    }

    /// Where it listens.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on each table comes with a new key to a folder of the S3 server, good for `life`.
    pub fn vend(&self, storage: &S3Server, folder: &str, life: Duration) {
        let (keys, endpoint, prefix) = (storage.keys().clone(), storage.endpoint(), storage.uri(folder));
        *self.orders.vending.lock() = Some(Vending { keys, endpoint, prefix, life });
    }

    /// Whether tables are refused with 403, as by a catalog that took a right away.
    pub fn refuse_loads(&self, refused: bool) {
        self.orders.refusing_loads.store(refused, Ordering::SeqCst);
    }

    /// Lets the next commit go wrong.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        *self.orders.next_commit.lock() = Some(fault);
    }

    /// Ends [`CommitFault::GoneAfter`].
    pub fn set_up(&self) {
        self.orders.down.store(false, Ordering::SeqCst);
    }

    /// Commits that were asked for.
    pub fn commits(&self) -> u64 {
        self.orders.commits.load(Ordering::SeqCst)
    }
}

impl Vending {
    fn credentials(&self) -> Value {
        let Key { id, secret, expires_at_ms } = self.keys.issue(self.life);
        let config = json!({
            "s3.access-key-id": id,
            "s3.session-token": format!("token-of-{secret}"),
            "s3.secret-access-key": secret,
            "s3.session-token-expires-at-ms": expires_at_ms.to_string(),
            "s3.endpoint": self.endpoint,
            "s3.region": "us-east-1",
            "s3.path-style-access": "true",
        });
        json!([{ "prefix": self.prefix, "config": config }])
    }
}

async fn answer(State(orders): State<Arc<Orders>>, request: Request) -> Response {
    if orders.down.load(Ordering::SeqCst) {
        return failed(500, "the catalog is out of order");
    }
    let path = request.uri().path().to_string();
    let is_load = request.method() == "GET" && path.contains("/tables/");
    if is_load && orders.refusing_loads.load(Ordering::SeqCst) {
        return failed(403, "the table may not be read any more");
    }
    let is_commit = request.method() == "POST" && path.contains("/tables/");
    let fault = if is_commit { orders.next_commit.lock().take() } else { None };
    orders.commits.fetch_add(u64::from(is_commit), Ordering::SeqCst);
    if fault == Some(CommitFault::NotDone) {
        return failed(500, "the commit was lost");
    }
    let reply = match pass_on(&orders, request).await {
        Ok(reply) => reply,
        Err(error) => return failed(502, &error.to_string()),
    };
    match fault {
        Some(CommitFault::GoneAfter) => {
            orders.down.store(true, Ordering::SeqCst);
            failed(500, "the catalog is out of order")
        }
        Some(_) => failed(500, "the answer was lost"),
        None => given(&orders, &path, reply),
    }
}

async fn pass_on(orders: &Orders, request: Request) -> std::io::Result<Reply> {
    // What is about the connection, or would need more than plain reading.
    const LEFT_OUT: [&str; 5] =
        ["host", "connection", "accept-encoding", "content-length", "transfer-encoding"];
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(std::io::Error::other)?;
    let headers = parts.headers.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    net::http(orders.server, parts.method.as_str(), path, &headers, &body, PATIENCE).await
}

/// The server's answer, with keys if it is about a table.
fn given(orders: &Orders, path: &str, reply: Reply) -> Response {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers.iter().filter(|(name, _)| name == "content-type" || name == "etag") {
        response = response.header(name, value);
    }
    let vending = orders.vending.lock().clone();
    let table = serde_json::from_slice::<Value>(&reply.body).ok();
    let table = table.filter(|body| path.contains("/tables") && body.get("metadata").is_some());
    let body = match (vending, table) {
        (Some(vending), Some(mut table)) => {
            table["storage-credentials"] = vending.credentials();
            table.to_string().into_bytes()
        }
        _ => reply.body,
    };
    response.body(Body::from(body)).unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}

fn failed(status: u16, message: &str) -> Response {
    let body = json!({ "error": { "message": message, "type": "OnPurposeException", "code": status } });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}
