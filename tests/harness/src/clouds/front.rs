//! The part of Google's XML protocol that fake-gcs-server lacks: a plain PUT of an object, which is handed on as the
//! upload that the server knows. Everything else passes as it is.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Bytes of the largest object that a test may write.
const OBJECT_BYTES_MAX: usize = 64 << 20;

/// Listens on loopback in front of the server at `server`; its URL, and what it lives as long as.
pub(super) async fn start(server: String) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let client = reqwest::Client::new();
    let router = Router::new().fallback(move |request: Request| {
        let (client, server) = (client.clone(), server.clone());
        async move { pass(&client, &server, request).await.unwrap_or_else(|status| status.into_response()) }
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the front of the emulator ended");
        }
    });
    (format!("http://{address}"), tasks)
}

async fn pass(client: &reqwest::Client, server: &str, request: Request) -> Result<Response, StatusCode> {
    let (head, body) = request.into_parts();
    let body =
        axum::body::to_bytes(body, OBJECT_BYTES_MAX).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    if head.method == Method::PUT {
        return upload(client, server, path, &head.headers, body).await;
    }
    let mut headers = head.headers;
    headers.remove("host");
    let answer = client.request(head.method, format!("{server}{path}")).headers(headers).body(body).send();
    let answer = answer.await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    // The body is whole here, and its length is said anew unless it is that of an object that was only asked about.
    headers.remove("transfer-encoding");
    let bytes = answer.bytes().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok((status, headers, bytes).into_response())
}

async fn upload(
    client: &reqwest::Client,
    server: &str,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, StatusCode> {
    let (bucket, object) =
        path.trim_start_matches('/').split_once('/').ok_or(StatusCode::METHOD_NOT_ALLOWED)?;
    let mut url = format!("{server}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={object}");
    if let Some(generation) = headers.get("x-goog-if-generation-match").and_then(|value| value.to_str().ok())
    {
        url.push_str(&format!("&ifGenerationMatch={generation}"));
    }
    let answer = client.post(url).body(body).send().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    if !answer.status().is_success() {
        return Err(answer.status());
    }
    let made: serde_json::Value = answer.json().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let told = |key: &str| made[key].as_str().unwrap_or_default().to_owned();
    Ok([("etag", told("etag")), ("x-goog-generation", told("generation"))].into_response())
}
