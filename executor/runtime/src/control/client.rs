//! The callers' side of both services.
//!
//! A channel is made once per peer and shared. Unary calls have a deadline; a run has none of its own, but its
//! connection is probed, so that a peer that vanished is noticed.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::messages::{
    CancelReply, CancelRequest, CredentialsRequest, Empty, HeartbeatReply, HeartbeatRequest, LeaveRequest,
    PingReply, RegisterReply, RegisterRequest, RunReply, RunRequest,
};
use super::{Failure, MESSAGE_BYTES_MAX, Run, flight};
use crate::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of rows that may be under way in one stream and over one connection.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Settings of a connection to `peer`, which is `HOST:PORT` or `http://HOST:PORT`.
fn endpoint(peer: &str) -> Result<Endpoint> {
    let url = if peer.starts_with("http://") { peer.to_string() } else { format!("http://{peer}") };
    let address = || Error::Address { address: peer.to_string() };
    let endpoint = Endpoint::from_shared(url).map_err(|_| address())?;
    if endpoint.uri().port_u16().is_none() || endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(address());
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

/// A connected channel to `peer`; its traffic is driven by the runtime that this is awaited on.
pub async fn connect(peer: &str) -> Result<Channel> {
    endpoint(peer)?
        .connect()
        .await
        .map_err(|error| Error::Unreachable { peer: peer.to_string(), reason: root(&error) })
}

fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Calls a scheduler's [`super::Membership`].
#[derive(Debug, Clone)]
pub struct MembershipClient {
    channel: Channel,
}

impl MembershipClient {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Connects to a scheduler's cluster port.
    pub async fn connect(peer: &str) -> Result<Self> {
        Ok(Self::new(connect(peer).await?))
    }

    /// Introduces an executor.
    pub async fn register(&self, request: RegisterRequest) -> Result<RegisterReply, Failure> {
        unary(&self.channel, "/tarn.Membership/Register", request).await
    }

    /// Gives a sign of life.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatReply, Failure> {
        unary(&self.channel, "/tarn.Membership/Heartbeat", request).await
    }

    /// Says goodbye.
    pub async fn leave(&self, id: &str) -> Result<(), Failure> {
        let request = LeaveRequest { id: id.to_string() };
        let Empty {} = unary(&self.channel, "/tarn.Membership/Leave", request).await?;
        Ok(())
    }
}

/// Calls an executor's [`super::Runner`].
#[derive(Debug, Clone)]
pub struct ControlClient {
    channel: Channel,
}

impl ControlClient {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Connects to an executor's exchange port.
    pub async fn connect(peer: &str) -> Result<Self> {
        Ok(Self::new(connect(peer).await?))
    }

    /// Runs a plan; its rows have `schema`. Dropping the stream ends the call.
    pub async fn run(&self, run: &Run, schema: SchemaRef) -> Result<SendableRecordBatchStream, Failure> {
        let mut grpc = grpc(&self.channel).await?;
        let codec: ProstCodec<RunRequest, RunReply> = ProstCodec::default();
        let path = PathAndQuery::from_static("/tarn.Control/Run");
        let response = grpc.server_streaming(Request::new(run.to_request()?), path, codec).await?;
        Ok(flight::decode(schema, response.into_inner()))
    }

    /// Hands over keys to storage.
    pub async fn deliver_credentials(&self, credentials: CredentialsRequest) -> Result<(), Failure> {
        let Empty {} = unary(&self.channel, "/tarn.Control/Credentials", credentials).await?;
        Ok(())
    }

    /// Stops a run there.
    pub async fn cancel(&self, run_id: &str) -> Result<bool, Failure> {
        let request = CancelRequest { run_id: run_id.to_string() };
        let reply: CancelReply = unary(&self.channel, "/tarn.Control/Cancel", request).await?;
        Ok(reply.found)
    }

    /// Asks for no new work there.
    pub async fn drain(&self) -> Result<(), Failure> {
        let Empty {} = unary(&self.channel, "/tarn.Control/Drain", Empty {}).await?;
        Ok(())
    }

    /// Asks who answers.
    pub async fn ping(&self) -> Result<PingReply, Failure> {
        unary(&self.channel, "/tarn.Control/Ping", Empty {}).await
    }
}

async fn grpc(channel: &Channel) -> Result<Grpc<Channel>, Failure> {
    let mut grpc = Grpc::new(channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready()
        .await
        .map_err(|error| Failure::executor_lost(format!("the connection broke: {}", root(&error))))?;
    Ok(grpc)
}

async fn unary<M, R>(channel: &Channel, path: &'static str, message: M) -> Result<R, Failure>
where
    M: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    let call = async {
        let mut grpc = grpc(channel).await?;
        let codec: ProstCodec<M, R> = ProstCodec::default();
        let reply = grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec).await?;
        Ok(reply.into_inner())
    };
    tokio::time::timeout(CALL_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time").into()))
}
