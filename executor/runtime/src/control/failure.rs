//! An error that crosses the cluster: a code and a message.
//!
//! The codes are the scheduler's error codes in text. Between workers of the pipelined engine only the text
//! of an error survives, so a failure can be written into a text and found in it again.

use std::fmt;

use datafusion::error::DataFusionError;
use prost::Message;
use tonic::Status;

use super::messages::FailureDetails;

/// The codes that this crate and the executor give out, spelled as the scheduler's error codes.
pub mod code {
    /// The query was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// A damaged file.
    pub const CORRUPT_DATA: &str = "corrupt_data";
    /// An executor died or cannot be reached; the query may be run again.
    pub const EXECUTOR_LOST: &str = "executor_lost";
    /// A defect of ours.
    pub const INTERNAL: &str = "internal";
    /// A value that an operator cannot take.
    pub const INVALID_ARGUMENT: &str = "invalid_argument";
    /// Not built yet.
    pub const NOT_SUPPORTED: &str = "not_supported";
    /// The memory pool or the spill bound was reached.
    pub const OUT_OF_MEMORY: &str = "out_of_memory";
    /// The server takes no new work.
    pub const SHUTTING_DOWN: &str = "shutting_down";
    /// The object store failed or refused.
    pub const STORAGE_ERROR: &str = "storage_error";
}

/// How the operating system's code for a full disk is printed: for people, and for debugging.
const DISK_FULL: [&str; 2] = ["os error 28)", "kind: StorageFull"];

/// Whether the text of an error tells of a full disk: the engines keep some errors as text only.
pub fn is_disk_full(text: &str) -> bool {
    DISK_FULL.iter().any(|mark| text.contains(mark))
}

/// Begins a failure that is written into a text.
const MARK: &str = "tarn-failure[";
/// Longest message that crosses, in bytes: headers of a response are bounded.
const MESSAGE_BYTES_MAX: usize = 4096;

/// An error as a code and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: String,
    message: String,
}

impl Failure {
    /// A failure with one of the scheduler's codes.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
            message.push('…');
        }
        Self { code: code.into(), message }
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, message)
    }

    /// The query was cancelled.
    pub fn cancelled() -> Self {
        Self::new(code::CANCELLED, "the query was cancelled")
    }

    /// An executor was lost.
    pub fn executor_lost(message: impl Into<String>) -> Self {
        Self::new(code::EXECUTOR_LOST, message)
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// As the engine's error, to be found again by [`Failure::find`].
    pub fn into_datafusion(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }

    /// As the engine's error in a form that also survives as text alone.
    pub fn into_text_datafusion(self) -> DataFusionError {
        DataFusionError::External(format!("{MARK}{}]: {}", self.code, self.message).into())
    }

    /// The failure at the root of an engine's error, if one is there: as itself, or written into its text.
    pub fn find(error: &DataFusionError) -> Option<Self> {
        if let DataFusionError::External(inner) = error.find_root()
            && let Some(failure) = inner.downcast_ref::<Self>()
        {
            return Some(failure.clone());
        }
        Self::from_text(&error.to_string())
    }

    fn from_text(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(MARK)?;
        let (code, message) = rest.split_once("]: ")?;
        let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
        Some(Self::new(code, message.trim_end()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let grpc = match failure.code.as_str() {
            code::CANCELLED => tonic::Code::Cancelled,
            code::EXECUTOR_LOST | code::SHUTTING_DOWN => tonic::Code::Unavailable,
            code::OUT_OF_MEMORY => tonic::Code::ResourceExhausted,
            _ => tonic::Code::Internal,
        };
        let details = FailureDetails { code: failure.code, message: failure.message.clone() };
        Status::with_details(grpc, failure.message, details.encode_to_vec().into())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match FailureDetails::decode(status.details()) {
            Ok(details) if !details.code.is_empty() => Self::new(details.code, details.message),
            // A status without our details was made by the transport: the peer is gone, or is no peer of ours.
            _ => Self::executor_lost(format!("the connection broke: {}", reason(&status))),
        }
    }
}

/// The innermost cause of a transport's status, in short.
fn reason(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    if text.is_empty() { status.message().to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_told_in_both_spellings() {
        let error = std::io::Error::from_raw_os_error(28);
        assert!(is_disk_full(&error.to_string()) && is_disk_full(&format!("{error:?}")));
        assert!(!is_disk_full(&std::io::Error::from_raw_os_error(2).to_string()));
    }

    #[test]
    fn failure_survives_a_status() {
        let failure = Failure::new("corrupt_data", "file \"a\" is cut off");
        assert_eq!(Failure::from(Status::from(failure.clone())), failure);
    }

    #[test]
    fn failure_survives_as_text() {
        let failure = Failure::new("storage_error", "object \"a\" not found");
        let error = failure.clone().into_text_datafusion();
        let crossed = DataFusionError::External(error.to_string().into()).context("on the way");
        assert_eq!(Failure::find(&crossed), Some(failure));
    }

    #[test]
    fn transport_status_is_a_lost_executor() {
        assert_eq!(Failure::from(Status::unknown("broken pipe")).code(), code::EXECUTOR_LOST);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let failure = Failure::internal("ü".repeat(5000));
        assert!(failure.message().len() <= MESSAGE_BYTES_MAX + 4);
    }
}
