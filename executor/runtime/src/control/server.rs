//! The two services, in front of anything that implements their traits.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::flight::{self, Replies};
use super::messages::{
    CancelReply, CancelRequest, CredentialsRequest, Empty, HeartbeatReply, HeartbeatRequest, LeaveRequest,
    PingReply, RegisterReply, RegisterRequest, RunReply, RunRequest,
};
use super::{MESSAGE_BYTES_MAX, Membership, Run, Runner};

pub(super) const MEMBERSHIP: &str = "tarn.Membership";
pub(super) const CONTROL: &str = "tarn.Control";

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Serves [`Membership`] on a tonic server.
pub struct MembershipServer<T: ?Sized> {
    inner: Arc<T>,
}

impl<T: Membership + ?Sized> MembershipServer<T> {
    /// The service in front of `inner`.
    pub fn new(inner: Arc<T>) -> Self {
        Self { inner }
    }
}

/// Serves [`Runner`] on a tonic server.
pub struct ControlServer {
    inner: Arc<dyn Runner>,
    /// Where rows are encoded.
    cpu: Handle,
}

impl ControlServer {
    /// The service in front of `inner`, encoding rows on `cpu`.
    pub fn new(inner: Arc<dyn Runner>, cpu: Handle) -> Self {
        Self { inner, cpu }
    }
}

impl<T: ?Sized> Clone for MembershipServer<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl Clone for ControlServer {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), cpu: self.cpu.clone() }
    }
}

impl<T: ?Sized> NamedService for MembershipServer<T> {
    const NAME: &'static str = MEMBERSHIP;
}

impl NamedService for ControlServer {
    const NAME: &'static str = CONTROL;
}

impl<T, B> Service<http::Request<B>> for MembershipServer<T>
where
    T: Membership + ?Sized,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_string();
        Box::pin(async move {
            Ok(match method.as_str() {
                "Register" => grpc().unary(Register(inner), request).await,
                "Heartbeat" => grpc().unary(Heartbeat(inner), request).await,
                "Leave" => grpc().unary(Leave(inner), request).await,
                _ => unknown_method(),
            })
        })
    }
}

impl<B> Service<http::Request<B>> for ControlServer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let this = self.clone();
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_string();
        Box::pin(async move {
            Ok(match method.as_str() {
                "Run" => grpc().server_streaming(RunMethod(this), request).await,
                "Credentials" => grpc().unary(Credentials(this.inner), request).await,
                "Cancel" => grpc().unary(Cancel(this.inner), request).await,
                "Drain" => grpc().unary(Drain(this.inner), request).await,
                "Ping" => grpc().unary(Ping(this.inner), request).await,
                _ => unknown_method(),
            })
        })
    }
}

fn grpc<M, R>() -> Grpc<ProstCodec<M, R>>
where
    M: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn unknown_method() -> http::Response<Body> {
    Status::unimplemented("no such method").into_http()
}

struct Register<T: ?Sized>(Arc<T>);
struct Heartbeat<T: ?Sized>(Arc<T>);
struct Leave<T: ?Sized>(Arc<T>);
struct RunMethod(ControlServer);
struct Credentials(Arc<dyn Runner>);
struct Cancel(Arc<dyn Runner>);
struct Drain(Arc<dyn Runner>);
struct Ping(Arc<dyn Runner>);

impl<T: Membership + ?Sized> UnaryService<RegisterRequest> for Register<T> {
    type Response = RegisterReply;
    type Future = BoxFuture<Response<RegisterReply>, Status>;

    fn call(&mut self, request: Request<RegisterRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { Ok(Response::new(inner.register(request.into_inner()).await?)) })
    }
}

impl<T: Membership + ?Sized> UnaryService<HeartbeatRequest> for Heartbeat<T> {
    type Response = HeartbeatReply;
    type Future = BoxFuture<Response<HeartbeatReply>, Status>;

    fn call(&mut self, request: Request<HeartbeatRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { Ok(Response::new(inner.heartbeat(request.into_inner()).await?)) })
    }
}

impl<T: Membership + ?Sized> UnaryService<LeaveRequest> for Leave<T> {
    type Response = Empty;
    type Future = BoxFuture<Response<Empty>, Status>;

    fn call(&mut self, request: Request<LeaveRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.leave(request.into_inner().id).await?;
            Ok(Response::new(Empty {}))
        })
    }
}

impl ServerStreamingService<RunRequest> for RunMethod {
    type Response = RunReply;
    type ResponseStream = Replies;
    type Future = BoxFuture<Response<Replies>, Status>;

    fn call(&mut self, request: Request<RunRequest>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move {
            let run = Run::from_request(request.into_inner())?;
            let rows = server.inner.run(run).await?;
            Ok(Response::new(flight::encode(&server.cpu, rows)))
        })
    }
}

impl UnaryService<CredentialsRequest> for Credentials {
    type Response = Empty;
    type Future = BoxFuture<Response<Empty>, Status>;

    fn call(&mut self, request: Request<CredentialsRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.take_credentials(request.into_inner()).await?;
            Ok(Response::new(Empty {}))
        })
    }
}

impl UnaryService<CancelRequest> for Cancel {
    type Response = CancelReply;
    type Future = BoxFuture<Response<CancelReply>, Status>;

    fn call(&mut self, request: Request<CancelRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            Ok(Response::new(CancelReply { found: inner.cancel(&request.into_inner().run_id).await }))
        })
    }
}

impl UnaryService<Empty> for Drain {
    type Response = Empty;
    type Future = BoxFuture<Response<Empty>, Status>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.drain().await;
            Ok(Response::new(Empty {}))
        })
    }
}

impl UnaryService<Empty> for Ping {
    type Response = PingReply;
    type Future = BoxFuture<Response<PingReply>, Status>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { Ok(Response::new(inner.ping().await)) })
    }
}
