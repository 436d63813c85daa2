//! What can go wrong for a client, and how it is named.
//!
//! [`ErrorCode`] is a small closed set: codes are metric labels and stand in the user docs.
//! [`Error`] carries code, message, hint and query id to the client and keeps its source for
//! the log. The rule: no path of this machine, credential or stack ever enters a message.

use std::error::Error as StdError;
use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use crate::query::QueryId;

/// Result of the scheduler's rooms.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The closed set of error codes that clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The SQL text does not parse.
    SyntaxError,
    /// A catalog, schema, table, column, function, setting, query or statement does not exist.
    NotFound,
    /// The object to be created exists.
    AlreadyExists,
    /// The statement is well formed but means nothing: a type error, a wrong argument.
    InvalidArgument,
    /// The feature exists in SQL or Iceberg but not here, yet.
    NotSupported,
    /// Who asks is not known.
    Unauthenticated,
    /// Who asks may not.
    PermissionDenied,
    /// The query needed more memory than it was given.
    OutOfMemory,
    /// A configured limit was reached.
    LimitExceeded,
    /// Too many queries wait already, or this one waited too long for its turn.
    Overloaded,
    /// The query passed its deadline.
    Timeout,
    /// The query was cancelled by its client or by `KILL QUERY`.
    Cancelled,
    /// Another writer committed first and the change no longer applies.
    CommitConflict,
    /// The catalog did not say whether the commit happened.
    CommitUnknown,
    /// An executor died or was cut off; the query may be run again.
    ExecutorLost,
    /// No executor joined within the query's timeout.
    NoExecutors,
    /// The object store failed or refused.
    StorageError,
    /// A metadata or data file is damaged.
    CorruptData,
    /// The server is stopping and takes no new queries.
    ShuttingDown,
    /// A defect of ours.
    Internal,
}

impl ErrorCode {
    /// The code as clients, metrics and docs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SyntaxError => "syntax_error",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::InvalidArgument => "invalid_argument",
            Self::NotSupported => "not_supported",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::OutOfMemory => "out_of_memory",
            Self::LimitExceeded => "limit_exceeded",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::CommitConflict => "commit_conflict",
            Self::CommitUnknown => "commit_unknown",
            Self::ExecutorLost => "executor_lost",
            Self::NoExecutors => "no_executors",
            Self::StorageError => "storage_error",
            Self::CorruptData => "corrupt_data",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }

    /// The code that [`ErrorCode::as_str`] spells so, for errors that crossed the cluster.
    pub fn parse(text: &str) -> Option<Self> {
        const ALL: [ErrorCode; 20] = [
            ErrorCode::SyntaxError,
            ErrorCode::NotFound,
            ErrorCode::AlreadyExists,
            ErrorCode::InvalidArgument,
            ErrorCode::NotSupported,
            ErrorCode::Unauthenticated,
            ErrorCode::PermissionDenied,
            ErrorCode::OutOfMemory,
            ErrorCode::LimitExceeded,
            ErrorCode::Overloaded,
            ErrorCode::Timeout,
            ErrorCode::Cancelled,
            ErrorCode::CommitConflict,
            ErrorCode::CommitUnknown,
            ErrorCode::ExecutorLost,
            ErrorCode::NoExecutors,
            ErrorCode::StorageError,
            ErrorCode::CorruptData,
            ErrorCode::ShuttingDown,
            ErrorCode::Internal,
        ];
        ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// Whether the same statement may succeed when it is sent again.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::ExecutorLost
                | Self::NoExecutors
                | Self::CommitConflict
                | Self::Overloaded
                | Self::ShuttingDown
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error on its way to a client.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    code: ErrorCode,
    message: String,
    hint: Option<String>,
    query_id: Option<QueryId>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a code and the message that the client reads.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = without_folders(&message.into());
        Self { inner: Box::new(Inner { code, message, hint: None, query_id: None, source: None }) }
    }

    /// A feature that is refused by name.
    pub fn not_supported(what: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotSupported, format!("{what} is not supported"))
    }

    /// Something in the statement that does not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Adds what the client may try instead.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Adds the query it happened in, unless one is known.
    pub fn with_query(mut self, id: &QueryId) -> Self {
        self.inner.query_id.get_or_insert_with(|| id.clone());
        self
    }

    /// Keeps the cause for the log.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.inner.code
    }

    /// What happened, in one line.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to try instead.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The query it happened in.
    pub fn query_id(&self) -> Option<&QueryId> {
        self.inner.query_id.as_ref()
    }

    /// The same error as the engine's type, so that it can travel through a stream and be
    /// found again by [`Error::from`].
    pub fn into_datafusion(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }
}

/// A message in which files of this machine's disk have only their names.
fn without_folders(message: &str) -> String {
    const DISK: [&str; 2] = ["file:///", "file/-/"];
    let mut rest = message;
    let mut text = String::with_capacity(message.len());
    while let Some(at) = DISK.iter().filter_map(|prefix| rest.find(prefix)).min() {
        text.push_str(&rest[..at]);
        let path = &rest[at..];
        let end = path.find(|c: char| c.is_whitespace() || "\"'`,;)".contains(c)).unwrap_or(path.len());
        text.push_str(path[..end].trim_end_matches(':').rsplit('/').next().unwrap_or_default());
        if path[..end].ends_with(':') {
            text.push(':');
        }
        rest = &path[end..];
    }
    text.push_str(rest);
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

impl From<tarn_catalog::Error> for Error {
    fn from(error: tarn_catalog::Error) -> Self {
        classify::catalog(&error).with_source(error)
    }
}

impl From<tarn_scan::Error> for Error {
    fn from(error: tarn_scan::Error) -> Self {
        classify::scan(&error).with_source(error)
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        classify::engine(error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

mod classify;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_no_folder_of_this_machine() {
        let message = "file \"file:///srv/tarn/a b/x.parquet\" is damaged, object file/-/srv/y.parquet: gone";
        let message = without_folders(message);
        assert!(!message.contains("srv/tarn"), "{message}");
        assert!(message.ends_with("object y.parquet: gone"), "{message}");
    }
}
