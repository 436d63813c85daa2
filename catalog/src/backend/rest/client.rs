//! Requests to a REST catalog: headers, deadlines, retries, and errors without secrets.
//!
//! A request that changes nothing is tried again when the server is unwell; one that changes
//! something only if it certainly did not arrive. The rule: what is not known to have failed is
//! [`Failure::Lost`], and no text of a failure holds a key.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tarn_scan::storage::Secret;
use tracing::debug;

use super::auth::Auth;
use super::config::RestConfig;
use super::messages::{ErrorResponse, OauthError};

/// Bytes of one answer: the metadata of a table with a very long history.
const BODY_BYTES_MAX: usize = 1 << 30;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits between tries: doubled from one to the other.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest text of a server that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// How a request failed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The server says so.
    Answer {
        status: u16,
        /// The exception's name as Iceberg's servers send it.
        kind: String,
        message: String,
    },
    /// It certainly did not arrive.
    Unsent(String),
    /// It may have arrived.
    Lost(String),
}

impl Failure {
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { status, .. } => Some(*status),
            Self::Unsent(_) | Self::Lost(_) => None,
        }
    }

    /// Whether it is not known what became of a change.
    pub(super) fn is_unknown(&self) -> bool {
        match self {
            Self::Answer { status, .. } => *status >= 500 && *status != 501,
            Self::Unsent(_) => false,
            Self::Lost(_) => true,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer { status, message, .. } if message.is_empty() => write!(f, "status {status}"),
            Self::Answer { status, message, .. } => write!(f, "{message} (status {status})"),
            Self::Unsent(reason) | Self::Lost(reason) => f.write_str(reason),
        }
    }
}

/// A request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Below the catalog's URI, escaped, without a slash at the beginning.
    pub(super) path: String,
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) body: Option<Value>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self { method, path, query: Vec::new(), body: None, headers: Vec::new() }
    }

    pub(super) fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: String, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    pub(super) fn query(mut self, key: &'a str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// Whether doing it twice is as doing it once.
    fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// An answer that is no error.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// The body as a message. What is not one gives no text of it, since it may hold keys.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Failure::Lost(format!("the answer is not what the protocol says, at line {line} column {column}"))
        })
    }
}

/// One server. Not `Debug`: it holds keys.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    auth: Auth,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    retries_max: u32,
}

impl Client {
    pub(super) fn new(base: &str, config: &RestConfig, auth: Auth) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(value.expose());
            let (Ok(name), Ok(mut value)) = (name, value) else {
                return Err(Failure::Unsent("a configured header is not one".to_owned()));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let http = http(config)?;
        let secrets = config.headers.values().cloned().collect();
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { http, base, auth, headers, secrets, retries_max: config.retries_max })
    }

    /// Asks, and again where that may help.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let (mut attempt, mut renewed) = (0, false);
        loop {
            let header = self.auth.header(&self.http).await?;
            let (failure, wait) = match self.once(&call, header.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            // 419 is what Iceberg's protocol says for a token that has timed out.
            if matches!(failure.status(), Some(401 | 419))
                && !renewed
                && self.auth.refused(header.as_ref()).await
            {
                renewed = true;
                continue;
            }
            if attempt >= self.retries_max || !may_help(&call, &failure) {
                return Err(self.without_secrets(failure).await);
            }
            attempt += 1;
            let doubled = WAIT_MIN.saturating_mul(1 << (attempt - 1).min(16)).min(WAIT_MAX);
            let spread = doubled.mul_f64(rand::random_range(0.5..=1.0));
            debug!(attempt, "request to a catalog is tried again");
            tokio::time::sleep(wait.unwrap_or(spread).min(WAIT_MAX)).await;
        }
    }

    async fn once(
        &self,
        call: &Call<'_>,
        header: Option<&HeaderValue>,
    ) -> Result<Answer, (Failure, Option<Duration>)> {
        let mut request = self.http.request(call.method.clone(), format!("{}/{}", self.base, call.path));
        request = request.headers(self.headers.clone());
        if let Some(header) = header {
            request = request.header(reqwest::header::AUTHORIZATION, header.clone());
        }
        for (name, value) in &call.headers {
            request = request.header(name.clone(), value.clone());
        }
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| (failure(error), None))?;
        let headers = response.headers().clone();
        let (status, body) = read(response, BODY_BYTES_MAX).await.map_err(|failure| (failure, None))?;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(Answer { status, headers, body });
        }
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err((answer_failure(status, &body), seconds.map(Duration::from_secs)))
    }

    async fn without_secrets(&self, failure: Failure) -> Failure {
        let mut secrets = self.auth.secrets().await;
        secrets.extend(self.secrets.iter().cloned());
        match failure {
            Failure::Answer { status, kind, message } => {
                Failure::Answer { status, kind, message: redact(&message, &secrets) }
            }
            other => other,
        }
    }
}

/// The one kind of HTTP client that catalogs are spoken to with.
pub(super) fn http(config: &RestConfig) -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .timeout(config.request_timeout())
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirect would carry headers with keys to wherever the answer says.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tarn/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Failure::Unsent(format!("no client: {}", cause(&error.without_url()))))
}

/// Whether the same request may succeed now.
fn may_help(call: &Call<'_>, failure: &Failure) -> bool {
    match failure {
        Failure::Unsent(_) => true,
        Failure::Lost(_) => call.is_safe(),
        Failure::Answer { status: 429, .. } => true,
        Failure::Answer { status, .. } => call.is_safe() && matches!(status, 500 | 502 | 503 | 504),
    }
}

pub(super) fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let reason = if error.is_timeout() { "no answer in time".to_owned() } else { cause(&error) };
    match error.is_connect() || error.is_builder() {
        true => Failure::Unsent(format!("the server cannot be reached: {reason}")),
        false => Failure::Lost(reason),
    }
}

fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// The status and the whole body, if it is not too long.
pub(super) async fn read(
    mut response: reqwest::Response,
    bytes_max: usize,
) -> Result<(StatusCode, Bytes), Failure> {
    let status = response.status();
    let mut body = BytesMut::new();
    while let Some(part) =
        response.chunk().await.map_err(|error| Failure::Lost(cause(&error.without_url())))?
    {
        if body.len() + part.len() > bytes_max {
            return Err(Failure::Lost(format!("the answer has more than {bytes_max} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok((status, body.freeze()))
}

fn answer_failure(status: StatusCode, body: &[u8]) -> Failure {
    let (kind, message) = match serde_json::from_slice::<ErrorResponse>(body) {
        Ok(ErrorResponse { error }) => (error.kind.unwrap_or_default(), error.message.unwrap_or_default()),
        Err(_) => (String::new(), status.canonical_reason().unwrap_or_default().to_lowercase()),
    };
    Failure::Answer { status: status.as_u16(), kind, message: shortened(&message) }
}

/// The failure of a token endpoint.
pub(super) fn oauth_failure(status: StatusCode, body: &[u8], secrets: &[Secret]) -> Failure {
    let message = match serde_json::from_slice::<OauthError>(body) {
        Ok(error) => match error.error_description {
            Some(description) => format!("{}: {description}", error.error),
            None => error.error,
        },
        Err(_) => match answer_failure(status, body) {
            Failure::Answer { message, .. } => message,
            Failure::Unsent(reason) | Failure::Lost(reason) => reason,
        },
    };
    let message = format!("no token: {}", redact(&shortened(&message), secrets));
    // Nothing but a token was asked for, so nothing can have changed.
    match status.is_server_error() {
        true => Failure::Unsent(message),
        false => Failure::Answer { status: status.as_u16(), kind: String::new(), message },
    }
}

/// The first line; stacks follow it.
fn shortened(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(MESSAGE_CHARS_MAX).collect()
}

fn redact(message: &str, secrets: &[Secret]) -> String {
    // Very short secrets would take words apart, and cannot be guessed from what is left anyway.
    const CHARS_MIN: usize = 4;
    let hidden = secrets.iter().filter(|secret| secret.expose().len() >= CHARS_MIN);
    hidden.fold(message.to_owned(), |text, secret| text.replace(secret.expose(), "[secret]"))
}
