//! What an S3 server does wrong on purpose, as its clients see it over HTTP.
//!
//! A [`Trouble`] strikes a share of all requests until another is set. Where a request strikes is
//! decided by its number alone, so that no dice are needed. The rule to keep: without a trouble the
//! server behaves as if this were not there.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::until;

/// Longest silence.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Largest body that is cut.
const BODY_BYTES_MAX: usize = 256 << 20;
/// Time for the first half of a cut body to leave.
const CUT_PAUSE: Duration = Duration::from_millis(20);

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// 503, as from a bucket that is asked too often.
    Refuse,
    /// The answer comes so much later.
    Slow(Duration),
    /// No answer comes while the trouble lasts.
    Silence,
    /// The body ends after half of its bytes.
    Cut,
    /// The connection is reset in the place of an answer.
    Reset,
}

/// The trouble of one server. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The trouble and its share in percent; short critical sections only.
    now: Mutex<Option<(Trouble, u64)>>,
    asked: AtomicU64,
    struck: AtomicU64,
}

impl Troubles {
    /// From now on a trouble strikes so many percent of the requests; `None` ends it.
    pub fn set(&self, trouble: Option<(Trouble, u64)>) {
        *self.shared.now.lock() = trouble;
    }

    /// How often a trouble has struck.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::Relaxed)
    }

    /// The trouble that strikes now, if it is of the kind asked for.
    fn strike(&self, asked_for: impl Fn(Trouble) -> bool) -> Option<Trouble> {
        let (trouble, percent) = (*self.shared.now.lock())?;
        if !asked_for(trouble) {
            return None;
        }
        let number = self.shared.asked.fetch_add(1, Ordering::Relaxed);
        // Spread by the golden ratio: any run of requests has its share.
        if (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100 >= percent {
            return None;
        }
        self.shared.struck.fetch_add(1, Ordering::Relaxed);
        Some(trouble)
    }

    /// An answer, with what goes wrong with it.
    pub(crate) async fn around(&self, answer: impl Future<Output = Response>) -> Response {
        match self.strike(|trouble| trouble != Trouble::Reset) {
            Some(Trouble::Refuse) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Some(Trouble::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                answer.await
            }
            Some(Trouble::Silence) => {
                until(SILENCE_MAX, || async { self.shared.now.lock().is_none() }).await;
                answer.await
            }
            Some(Trouble::Cut) => half(answer.await).await,
            Some(Trouble::Reset) | None => answer.await,
        }
    }
}

/// The same answer, whose body ends in the middle.
async fn half(answer: Response) -> Response {
    let (mut head, body) = answer.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if bytes.is_empty() {
        return Response::from_parts(head, Body::empty());
    }
    // The whole length is announced, so that a client can know that it is cut.
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    head.headers.remove(TRANSFER_ENCODING);
    let first = bytes.slice(..bytes.len() / 2);
    let end = stream::once(async {
        tokio::time::sleep(CUT_PAUSE).await;
        Err(io::Error::other("cut on purpose"))
    });
    Response::from_parts(head, Body::from_stream(stream::iter([Ok(first)]).chain(end)))
}

/// A listener whose connections may be reset.
pub(crate) struct Listener {
    inner: TcpListener,
    troubles: Troubles,
}

impl Listener {
    pub(crate) fn new(inner: TcpListener, troubles: Troubles) -> Self {
        Self { inner, troubles }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.inner).await;
        (Connection { stream, troubles: self.troubles.clone() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that may be reset when an answer is written.
pub(crate) struct Connection {
    stream: TcpStream,
    troubles: Troubles,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.troubles.strike(|trouble| trouble == Trouble::Reset).is_some() {
            // Without this the other side would see an orderly end.
            self.stream.set_zero_linger()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use crate::net;

    use super::*;

    #[tokio::test]
    async fn each_trouble_is_seen_by_a_client_and_ends() {
        let troubles = Troubles::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (listener, around) = (Listener::new(listener, troubles.clone()), troubles.clone());
        let router = axum::Router::new().fallback(move || {
            let around = around.clone();
            async move { around.around(async { "0123456789".into_response() }).await }
        });
        let mut servers = tokio::task::JoinSet::new();
        servers.spawn(async move { axum::serve(listener, router).await });
        let get = || async { net::http_get(port, "/").await };
        assert_eq!(get().await.unwrap(), (200, "0123456789".to_string()));
        troubles.set(Some((Trouble::Refuse, 100)));
        assert_eq!(get().await.unwrap().0, 503);
        troubles.set(Some((Trouble::Cut, 100)));
        let cut = get().await;
        assert!(!cut.is_ok_and(|(_, body)| body.len() > 5), "a cut body is whole");
        troubles.set(Some((Trouble::Reset, 100)));
        assert!(get().await.is_err());
        troubles.set(None);
        assert_eq!(get().await.unwrap().0, 200);
        assert!(troubles.struck() >= 3);
    }
}
