//! What schedulers and executors say to each other.
//!
//! ```text
//!   executor ── Register, Heartbeat (each second), Leave ──> Membership   (scheduler, --cluster-listen)
//!   scheduler ── Run, Credentials, Cancel, Drain, Ping ──> Control        (executor, --listen)
//! ```
//!
//! The messages are protobuf, written by hand as prost structs, so that no compiler is needed to build.
//! The rule: an error crosses as a code and a message ([`Failure`]) and nothing else; a stream of rows that
//! does not end with its end mark has failed.

mod client;
mod failure;
mod flight;
pub mod messages;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;

pub use client::{ControlClient, MembershipClient, connect};
pub use failure::{Failure, code, is_disk_full};
pub use server::{ControlServer, MembershipServer};

use messages::{
    CredentialsRequest, HeartbeatReply, HeartbeatRequest, PingReply, RegisterReply, RegisterRequest, Worker,
};

/// Largest message either side takes: a plan, with all its files.
pub const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// What a scheduler offers to executors.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// Takes an executor in, or refreshes what is known of it.
    async fn register(&self, request: RegisterRequest) -> Result<RegisterReply, Failure>;
    /// A sign of life. The reply says whether the executor is known; if not, it registers again.
    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatReply, Failure>;
    /// The executor goes; nothing more is sent to it.
    async fn leave(&self, id: String) -> Result<(), Failure>;
}

/// What an executor offers to schedulers: over the network through [`ControlServer`], in the same
/// process through [`crate::Runtime::runner`].
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Runs a plan over the workers named in it, this one as the root, and returns the rows. Dropping the
    /// stream stops the work on all of them.
    async fn run(&self, run: Run) -> Result<SendableRecordBatchStream, Failure>;
    /// Stops what this executor does for a run; says whether there was anything.
    async fn cancel(&self, run_id: &str) -> bool;
    /// Takes in keys to storage, before the runs that need them. They are shown nowhere.
    async fn take_credentials(&self, credentials: CredentialsRequest) -> Result<(), Failure>;
    /// No new work; the executor says so with its next heartbeat.
    async fn drain(&self);
    /// Who answers, and how busy.
    async fn ping(&self) -> PingReply;
}

/// One run of one plan.
#[derive(Clone)]
pub struct Run {
    /// The query, as clients know it.
    pub query_id: String,
    /// This attempt at it; what [`Runner::cancel`] takes.
    pub run_id: String,
    /// The undistributed plan.
    pub plan: RunPlan,
    /// The session's settings.
    pub config: SessionConfig,
    /// The live executors, the root among them, in an order that all attempts share.
    pub workers: Vec<Worker>,
}

/// A plan on its way to its root executor.
#[derive(Clone)]
pub enum RunPlan {
    /// As bytes of the scan's codec.
    Encoded(Bytes),
    /// As it is: the scheduler and the executor are one process.
    Ready(Arc<dyn ExecutionPlan>),
}

impl Run {
    /// The message for an encoded plan; a plan that is not encoded cannot be sent.
    pub fn to_request(&self) -> Result<messages::RunRequest, Failure> {
        let RunPlan::Encoded(plan) = &self.plan else {
            return Err(Failure::internal("a plan was sent before it was encoded"));
        };
        let settings = crate::options::changed(&self.config);
        Ok(messages::RunRequest {
            query_id: self.query_id.clone(),
            run_id: self.run_id.clone(),
            plan: plan.clone(),
            settings: settings.into_iter().map(|(key, value)| messages::Setting { key, value }).collect(),
            workers: self.workers.clone(),
        })
    }

    /// The run that a message describes.
    pub fn from_request(request: messages::RunRequest) -> Result<Self, Failure> {
        let settings = request.settings.iter().map(|setting| (setting.key.as_str(), setting.value.as_str()));
        let config = crate::options::restore(SessionConfig::new(), settings)
            .map_err(|error| Failure::internal(format!("the settings of the run cannot be read: {error}")))?;
        Ok(Self {
            query_id: request.query_id,
            run_id: request.run_id,
            plan: RunPlan::Encoded(request.plan),
            config,
            workers: request.workers,
        })
    }
}
