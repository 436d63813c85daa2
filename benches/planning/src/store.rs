//! An object store over HTTP on loopback, in memory, that can be slow.
//!
//! It speaks as much of S3 as metadata files need: PUT of a new object, GET of a whole one, DELETE. The
//! delay is slept before each answer, as the way to a distant store would take it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use tarn_scan::storage::S3Config;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::Error;

/// The one bucket there is.
pub(crate) const BUCKET: &str = "bench";

/// No metadata file of the benchmark is longer.
const BODY_BYTES_MAX: usize = 256 << 20;

/// The running store; it ends when dropped.
pub(crate) struct Store {
    endpoint: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    objects: Mutex<HashMap<String, Bytes>>,
    delay_ms: AtomicU64,
    gets: AtomicU64,
}

impl Store {
    pub(crate) async fn start() -> Result<Self, Error> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let router = axum::Router::new().fallback(move |request: Request| {
            let state = Arc::clone(&shared);
            async move { state.answer(request).await }
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the store ended: {error}");
            }
        });
        Ok(Self { endpoint, state, _tasks: tasks })
    }

    pub(crate) fn config(&self) -> S3Config {
        S3Config { endpoint: Some(self.endpoint.clone()), region: None, path_style: true, allow_http: true }
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// GET requests so far.
    pub(crate) fn gets(&self) -> u64 {
        self.state.gets.load(Ordering::Relaxed)
    }
}

impl State {
    async fn answer(&self, request: Request) -> Response {
        tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))).await;
        let (method, key) = (request.method().clone(), request.uri().path().to_owned());
        match method {
            Method::GET => {
                self.gets.fetch_add(1, Ordering::Relaxed);
                match self.objects.lock().get(&key).cloned() {
                    Some(bytes) => {
                        let modified = "Thu, 01 Jan 2026 00:00:00 GMT";
                        ([(header::LAST_MODIFIED, modified)], Body::from(bytes)).into_response()
                    }
                    None => StatusCode::NOT_FOUND.into_response(),
                }
            }
            Method::PUT => match to_bytes(request.into_body(), BODY_BYTES_MAX).await {
                Ok(bytes) => {
                    self.objects.lock().insert(key, bytes);
                    [(header::ETAG, "\"1\"")].into_response()
                }
                Err(_) => StatusCode::BAD_REQUEST.into_response(),
            },
            Method::DELETE => {
                self.objects.lock().remove(&key);
                StatusCode::NO_CONTENT.into_response()
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }
}
