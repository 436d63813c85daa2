//! What went wrong with a job, and whether running it again may help.
//!
//! A task's error reaches us as text that Ballista made for people. Our executors write code
//! and message into it; what carries no such mark came from Ballista itself and is told by
//! the few phrases that it uses for lost work.

use tarn_runtime::control::is_disk_full;

use crate::error::{Error, ErrorCode};

/// Begins the code and message that an executor wrote.
const MARK: &str = "tarn-failure[";

/// Phrases of failures that a lost executor leaves behind.
const LOST: [&str; 6] = [
    "Shuffle fetch partition error",
    "FetchPartitionError",
    "Error connecting to Ballista",
    "all executors were lost",
    "IpcError",
    "tcp connect error",
];

/// An error of one attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Another attempt may succeed.
    pub(super) passing: bool,
}

impl Failure {
    /// A failure that the next attempt would meet again.
    pub(super) fn lasting(error: Error) -> Self {
        Self { error, passing: false }
    }

    /// A failure that came with a lost executor.
    pub(super) fn passing(error: Error) -> Self {
        Self { error, passing: true }
    }
}

/// The failure that Ballista describes so.
pub(super) fn of_job(text: &str) -> Failure {
    if let Some((code, message)) = marked(text) {
        let code = ErrorCode::parse(&code).unwrap_or(ErrorCode::Internal);
        return Failure { error: Error::new(code, message), passing: code == ErrorCode::ExecutorLost };
    }
    if text == "Cancelled" || text.contains("Task cancelled") {
        return Failure::lasting(Error::new(ErrorCode::Cancelled, "the query was cancelled"));
    }
    if LOST.iter().any(|phrase| text.contains(phrase)) {
        let error = Error::new(ErrorCode::ExecutorLost, "an executor was lost during the query");
        return Failure::passing(error.with_source(text));
    }
    if is_disk_full(text) {
        let error = Error::new(ErrorCode::StorageError, "the disk of an executor is full");
        return Failure::lasting(error.with_source(text));
    }
    if text.contains("could not be prepared or was rejected") {
        let error = Error::internal("a part of the plan cannot be sent to an executor");
        return Failure::lasting(error.with_source(text));
    }
    if text.contains("Null-aware anti join requires single-task execution") {
        let error = Error::not_supported("NOT IN over a large subquery in staged execution");
        return Failure::lasting(error.with_hint("use NOT EXISTS").with_source(text));
    }
    Failure::lasting(Error::internal("the staged engine failed").with_source(text))
}

/// Code and message of our executor inside a text that printed it for debugging.
fn marked(text: &str) -> Option<(String, String)> {
    let (_, rest) = text.split_once(MARK)?;
    let (code, rest) = rest.split_once("]: ")?;
    let mut message = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => message.push('\n'),
                Some('t') => message.push('\t'),
                Some(other) => message.push(other),
                None => break,
            },
            other => message.push(other),
        }
    }
    Some((code.to_string(), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarn_runtime::control::Failure as Remote;

    #[test]
    fn code_and_message_survive_ballista() {
        let remote = Remote::new("corrupt_data", "file \"a\" is cut off\\here");
        let failed = ballista_core::serde::protobuf::FailedTask::from(
            ballista_core::error::BallistaError::from(remote.into_text_datafusion()),
        );
        let failure = of_job(&format!("Job failed due to stage 1 failed: {}\n", failed.error));
        assert_eq!(failure.error.code(), ErrorCode::CorruptData);
        assert_eq!(failure.error.message(), "file \"a\" is cut off\\here");
        assert!(!failure.passing);
    }

    #[test]
    fn full_disk_is_named() {
        let text = "Stage 2 has failed 4 times: Io error: No space left on device (os error 28)";
        assert_eq!(of_job(text).error.code(), ErrorCode::StorageError);
    }

    #[test]
    fn lost_shuffle_may_be_tried_again() {
        let failed = ballista_core::error::BallistaError::FetchFailed("e".into(), 1, 2, "gone".into());
        assert!(of_job(&format!("Stage 2 has failed 4 times: {failed}")).passing);
    }

    #[test]
    fn unknown_failures_are_lasting() {
        let failure = of_job("something else");
        assert_eq!(failure.error.code(), ErrorCode::Internal);
        assert!(!failure.passing);
    }
}
