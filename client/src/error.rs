//! What can go wrong for a client: no server, a lost server, or a server that refused.
//!
//! A [`Refusal`] carries what the server's metadata says beside the status: the stable code,
//! the hint and the query id. The rule: the message is the server's own, never ours around it.

use arrow::error::ArrowError;
use arrow_flight::error::FlightError;
use tarn_wire::header;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong for a client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one that we can connect to.
    #[error("address \"{url}\" is not valid: {reason}")]
    Url {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers at the address.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// The address as given.
        url: String,
        /// The innermost cause.
        reason: String,
        /// The transport's error.
        #[source]
        source: tonic::transport::Error,
    },
    /// The connection broke while it was used.
    #[error("the connection to the server was lost: {reason}")]
    Lost {
        /// The innermost cause.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The server answered with something that is not Flight SQL.
    #[error("the server's answer is not understood: {0}")]
    Protocol(String),
    /// The rows cannot be decoded or shown.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// An error that the server answered with.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The gRPC status.
    pub status: Code,
    /// The server's stable code, such as `not_found`.
    pub code: Option<String>,
    /// What happened.
    pub message: String,
    /// What to try instead.
    pub hint: Option<String>,
    /// The query in which it happened.
    pub query_id: Option<String>,
}

impl Error {
    /// The refusal, if the server answered.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the query ended because someone cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.status == Code::Cancelled)
    }

    /// Whether no server could be reached, or it went away.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Error::Url { .. } | Error::Connect { .. } | Error::Lost { .. })
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // A status that the transport made up has a cause; one from the server has none.
        if let Some(source) = std::error::Error::source(&status) {
            return Error::Lost { reason: innermost(source) };
        }
        let metadata = status.metadata();
        let code = text(metadata, header::ERROR_CODE);
        let hint = text(metadata, header::HINT);
        let query_id = text(metadata, header::QUERY_ID);
        let message = bare(status.message(), code.as_deref(), hint.as_deref(), query_id.as_deref());
        Error::Refused(Box::new(Refusal { status: status.code(), code, message, hint, query_id }))
    }
}

impl From<FlightError> for Error {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => (*status).into(),
            FlightError::Arrow(error) => Error::Arrow(error),
            other => Error::Protocol(other.to_string()),
        }
    }
}

impl From<prost::DecodeError> for Error {
    fn from(error: prost::DecodeError) -> Self {
        Error::Protocol(error.to_string())
    }
}

/// A metadata value as text.
pub(crate) fn text(metadata: &MetadataMap, key: &str) -> Option<String> {
    let value = metadata.get(key)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.to_string())
}

/// The last cause in a chain: the one that tells a person what happened.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// The message alone: the text repeats code, hint and query id for clients that read no
/// metadata, as `[code] message (hint) query id`.
fn bare(text: &str, code: Option<&str>, hint: Option<&str>, query_id: Option<&str>) -> String {
    let mut text = text.trim();
    if let Some(rest) = code.and_then(|code| text.strip_prefix(&format!("[{code}] "))) {
        text = rest;
    }
    if let Some(rest) = query_id.and_then(|id| text.strip_suffix(&format!(" query {id}"))) {
        text = rest;
    }
    if let Some(rest) = hint.and_then(|hint| text.strip_suffix(&format!(" ({hint})"))) {
        text = rest;
    }
    text.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_carries_what_the_metadata_says() {
        let text = "[not_found] table \"x\" not found (did you mean \"y\"?) query q1";
        let mut status = Status::not_found(text);
        status.metadata_mut().insert(header::ERROR_CODE, "not_found".parse().unwrap());
        status.metadata_mut().insert(header::HINT, "did you mean \"y\"?".parse().unwrap());
        status.metadata_mut().insert(header::QUERY_ID, "q1".parse().unwrap());
        let error = Error::from(status);
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.message, "table \"x\" not found");
        assert_eq!(refusal.hint.as_deref(), Some("did you mean \"y\"?"));
        assert_eq!(refusal.code.as_deref(), Some("not_found"));
        assert_eq!(refusal.query_id.as_deref(), Some("q1"));
    }
}
