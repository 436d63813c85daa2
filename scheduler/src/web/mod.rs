//! HTTP: probes for whoever watches the process, metrics for Prometheus.
//!
//! A scheduler is ready without executors: queries wait for one within their timeout, and
//! local mode answers. The rule: nothing here changes anything.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::TextEncoder;
use tokio_util::sync::CancellationToken;

/// The routes. `stopping` makes the process unready before it goes.
pub fn router(stopping: CancellationToken) -> Router {
    let ready = move || {
        let stopping = stopping.is_cancelled();
        async move {
            match stopping {
                false => (StatusCode::OK, "ready\n"),
                true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
            }
        }
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn metrics() -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&prometheus::gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
