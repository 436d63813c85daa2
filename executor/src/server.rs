//! The one port for queries: control, the exchange of rows of the pipelined engine, and that of the staged one.
//!
//! Connections are served by the runtime that this is spawned on; what a request of the pipelined engine
//! computes runs on the CPU runtime of its run, to which [`OnCpu`] hands it over.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tarn_runtime::Runtime;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::server::Router;

use crate::error::{Error, Result};
use crate::pipelined;

/// Headers carry the session's settings.
const HEADER_BYTES_MAX: u32 = 64 << 10;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Time for connections to close after the last query has ended.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// A server with the settings of this port.
pub(crate) fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(PROBE_INTERVAL))
}

/// Serves until `stop`; connections then have a moment to close.
pub(crate) async fn serve(router: Router, listener: TcpListener, stop: CancellationToken) -> Result<()> {
    let incoming = TcpListenerStream::new(listener).map(|connection| {
        connection.inspect(|connection| {
            // Small messages must not wait for more; without the option they only come later.
            let _ = connection.set_nodelay(true);
        })
    });
    let closing = stop.clone();
    let serving = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    let patience = async {
        closing.cancelled().await;
        tokio::time::sleep(CLOSE_PATIENCE).await;
    };
    tokio::select! {
        served = serving => served.map_err(|source| Error::Server { server: "query", source: source.into() }),
        () = patience => Ok(()),
    }
}

/// A service whose calls run on the CPU runtime; dropping a call ends it there.
#[derive(Clone)]
pub(crate) struct OnCpu<S> {
    inner: S,
    runtime: Runtime,
}

impl<S> OnCpu<S> {
    pub(crate) fn new(inner: S, runtime: Runtime) -> Self {
        Self { inner, runtime }
    }
}

impl<S: NamedService> NamedService for OnCpu<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for OnCpu<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services behind are always ready: they are functions.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut inner = self.inner.clone();
        let cpu = self.runtime.cpu_for(pipelined::priority(request.headers())).clone();
        Box::pin(async move {
            let call = AbortOnDropHandle::new(cpu.spawn(async move { inner.call(request).await }));
            match call.await {
                Ok(response) => response,
                Err(error) => {
                    tracing::error!(%error, "a call of the pipelined engine panicked");
                    Ok(Status::internal("a task panicked").into_http())
                }
            }
        })
    }
}
