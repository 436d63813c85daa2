//! Probes, metrics, and what ran here.
//!
//! `/healthz`: the process answers. `/readyz`: it is a member of a cluster and takes work. `/metrics`:
//! Prometheus text. `/runs?prefix=`: the runs of queries with work here and the last that ended, as JSON.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use parking_lot::RwLock;
use serde::Deserialize;
use tarn_runtime::Runtime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// What the probes say; set as the executor starts and stops.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probes {
    /// The runtime once the executor takes work, and none before and after.
    ready: Arc<RwLock<Option<Runtime>>>,
}

impl Probes {
    pub(crate) fn set_ready(&self, runtime: Runtime) {
        *self.ready.write() = Some(runtime);
    }

    pub(crate) fn set_unready(&self) {
        *self.ready.write() = None;
    }
}

/// Serves until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, probes: Probes, shutdown: CancellationToken) -> Result<()> {
    let router = axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/runs", get(runs))
        .with_state(probes);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .map_err(|source| Error::Server { server: "http", source: source.into() })
}

async fn ready(State(probes): State<Probes>) -> Response {
    match probes.ready.read().is_some() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

async fn metrics() -> Response {
    let families = prometheus::gather();
    match prometheus::TextEncoder::new().encode_to_string(&families) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Deserialize)]
struct Runs {
    #[serde(default)]
    prefix: String,
}

async fn runs(State(probes): State<Probes>, Query(Runs { prefix }): Query<Runs>) -> Response {
    let runtime = probes.ready.read().clone();
    match runtime {
        Some(runtime) => Json(runtime.queries().reports(&prefix)).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
