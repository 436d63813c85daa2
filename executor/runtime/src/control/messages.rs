//! The protobuf messages. Fields are only ever added; a number is never used again.

use arrow_flight::FlightData;
use bytes::Bytes;

/// An executor introduces itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterRequest {
    /// Unique over executors and restarts: `host:port#nonce`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The host under which others reach it.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Port of its exchange of rows and of its control service.
    #[prost(uint32, tag = "3")]
    pub flight_port: u32,
    /// Port of its tasks of the staged engine.
    #[prost(uint32, tag = "4")]
    pub task_port: u32,
    /// Port of its probes and metrics; 0 if it has none.
    #[prost(uint32, tag = "5")]
    pub http_port: u32,
    /// Threads that run plans.
    #[prost(uint32, tag = "6")]
    pub cores: u32,
    /// Bytes of its memory pool.
    #[prost(uint64, tag = "7")]
    pub memory_bytes: u64,
    /// Version of its program.
    #[prost(string, tag = "8")]
    pub version: String,
}

/// What an executor needs to know to work.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterReply {
    /// Storage settings as JSON, without secrets.
    #[prost(string, tag = "1")]
    pub storage_json: String,
    /// `HOST:PORT` of the staged engine's scheduler; empty if there is none.
    #[prost(string, tag = "2")]
    pub staged_scheduler: String,
    /// Milliseconds between signs of life.
    #[prost(uint64, tag = "3")]
    pub heartbeat_ms: u64,
    /// Changes when the scheduler restarts.
    #[prost(string, tag = "4")]
    pub scheduler_id: String,
}

/// What a run did in one process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunStats {
    /// The attempt.
    #[prost(string, tag = "1")]
    pub run_id: String,
    /// Whether it still has work there.
    #[prost(bool, tag = "2")]
    pub active: bool,
    /// Rows that its scans handed out.
    #[prost(uint64, tag = "3")]
    pub rows_scanned: u64,
    /// Bytes of the files and ranges that its scans opened.
    #[prost(uint64, tag = "4")]
    pub bytes_opened: u64,
    /// Bytes of memory that it holds.
    #[prost(uint64, tag = "5")]
    pub memory_bytes: u64,
    /// The most bytes of memory that it held.
    #[prost(uint64, tag = "6")]
    pub memory_peak_bytes: u64,
    /// The most bytes of memory that those of its operators held which cannot spill.
    #[prost(uint64, tag = "7")]
    pub memory_fixed_peak_bytes: u64,
    /// Bytes that operators wrote to disk for lack of memory; shuffles of a staged run write theirs apart.
    #[prost(uint64, tag = "8")]
    pub spilled_bytes: u64,
    /// What the operators of its stages counted, if it asked for that.
    #[prost(message, repeated, tag = "9")]
    pub stages: Vec<StageStats>,
}

/// What tasks of one stage counted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StageStats {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub stage: u32,
    /// Tasks that ended.
    #[prost(uint32, tag = "2")]
    pub tasks: u32,
    /// Each before its inputs.
    #[prost(message, repeated, tag = "3")]
    pub operators: Vec<OperatorStats>,
}

/// What one operator counted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorStats {
    /// Where it is in the plan: of each node from the root on, which of its inputs leads there.
    #[prost(uint32, repeated, tag = "1")]
    pub place: Vec<u32>,
    /// The operator in a line, cut if it is long.
    #[prost(string, tag = "2")]
    pub text: String,
    /// Rows that it was planned for.
    #[prost(uint64, optional, tag = "3")]
    pub estimated_rows: Option<u64>,
    /// By name.
    #[prost(message, repeated, tag = "4")]
    pub metrics: Vec<OperatorMetric>,
}

/// A number that an operator counted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorMetric {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A count, bytes, or nanoseconds.
    #[prost(uint64, tag = "2")]
    pub value: u64,
    /// Whether it is nanoseconds.
    #[prost(bool, tag = "3")]
    pub is_time: bool,
}

/// A sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeartbeatRequest {
    /// The executor.
    #[prost(string, tag = "1")]
    pub id: String,
    /// It takes no new work.
    #[prost(bool, tag = "2")]
    pub draining: bool,
    /// Queries that have work there.
    #[prost(uint32, tag = "3")]
    pub queries_active: u32,
    /// Bytes reserved in its memory pool.
    #[prost(uint64, tag = "4")]
    pub memory_used_bytes: u64,
    /// The runs that have work there, and those that ended a moment ago.
    #[prost(message, repeated, tag = "5")]
    pub runs: Vec<RunStats>,
    /// The staged engine's jobs whose files it keeps; only to the scheduler that gave them.
    #[prost(string, repeated, tag = "6")]
    pub jobs: Vec<String>,
}

/// Answer to a sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeartbeatReply {
    /// Whether the scheduler knows the executor.
    #[prost(bool, tag = "1")]
    pub known: bool,
    /// Those of the jobs that are over: nobody will ask for their files.
    #[prost(string, repeated, tag = "2")]
    pub jobs_over: Vec<String>,
}

/// The executor goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaveRequest {
    /// The executor.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Nothing to say.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// A setting of the session that differs from the defaults.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Setting {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// An executor that may take part in a run.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Worker {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `http://host:port` of its exchange of rows.
    #[prost(string, tag = "2")]
    pub url: String,
}

/// Runs a plan, with the receiver as its root.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunRequest {
    /// The query.
    #[prost(string, tag = "1")]
    pub query_id: String,
    /// The attempt.
    #[prost(string, tag = "2")]
    pub run_id: String,
    /// The undistributed physical plan.
    #[prost(bytes = "bytes", tag = "3")]
    pub plan: Bytes,
    /// The session's settings.
    #[prost(message, repeated, tag = "4")]
    pub settings: Vec<Setting>,
    /// The live executors.
    #[prost(message, repeated, tag = "5")]
    pub workers: Vec<Worker>,
}

/// A part of the rows, or their end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunReply {
    /// Counts from 0 without a gap.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// A schema, a dictionary or a batch.
    #[prost(message, optional, tag = "2")]
    pub flight: Option<FlightData>,
    /// The mark of the end: only with it are the rows complete.
    #[prost(message, optional, tag = "3")]
    pub end: Option<End>,
}

/// The mark of the end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct End {
    /// Rows that were sent.
    #[prost(uint64, tag = "1")]
    pub rows: u64,
}

/// Keys to storage that a scheduler's catalogs vended; all of them, in place of those sent before.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct CredentialsRequest {
    /// The scheduler; another one after each start.
    #[prost(string, tag = "1")]
    pub scheduler: String,
    /// Grows with each change; an older one that comes late is nothing.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// As the storage router exports them.
    #[prost(bytes = "bytes", tag = "3")]
    pub exported: Bytes,
}

impl std::fmt::Debug for CredentialsRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialsRequest").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Stops a run.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CancelRequest {
    /// The attempt.
    #[prost(string, tag = "1")]
    pub run_id: String,
}

/// Answer to a cancel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CancelReply {
    /// Whether there was work to stop.
    #[prost(bool, tag = "1")]
    pub found: bool,
}

/// Who answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PingReply {
    /// The executor.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Version of its program.
    #[prost(string, tag = "2")]
    pub version: String,
    /// It takes no new work.
    #[prost(bool, tag = "3")]
    pub draining: bool,
    /// Runs that have work there.
    #[prost(string, repeated, tag = "4")]
    pub runs_active: Vec<String>,
}

/// An error as it crosses, in the details of a gRPC status.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FailureDetails {
    #[prost(string, tag = "1")]
    pub(super) code: String,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}
