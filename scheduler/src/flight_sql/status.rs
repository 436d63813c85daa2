//! From our errors to gRPC status: one table, used by every answer of the front door.
//!
//! The text reads `[code] message (hint) query <id>`; code and query id also travel as
//! trailers, so that a client need not parse the text.

use arrow_flight::error::FlightError;
use datafusion::arrow::error::ArrowError;
use tarn_wire::header;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tracing::{debug, error};

use crate::error::{Error, ErrorCode};

/// The gRPC code of each of ours.
pub(super) fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::SyntaxError | ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::NotSupported => Code::Unimplemented,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::OutOfMemory | ErrorCode::LimitExceeded => Code::ResourceExhausted,
        ErrorCode::Timeout => Code::DeadlineExceeded,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::CommitConflict => Code::Aborted,
        ErrorCode::CommitUnknown => Code::Unknown,
        ErrorCode::ExecutorLost
        | ErrorCode::NoExecutors
        | ErrorCode::StorageError
        | ErrorCode::Overloaded
        | ErrorCode::ShuttingDown => Code::Unavailable,
        ErrorCode::CorruptData => Code::DataLoss,
        ErrorCode::Internal => Code::Internal,
    }
}

/// The status that a client gets for an error; the cause goes to the log.
pub(super) fn status(failure: Error) -> Status {
    let query_id = failure.query_id().map(ToString::to_string);
    log(&failure, query_id.as_deref());
    let mut text = format!("[{}] {}", failure.code(), failure.message());
    let mut trailers = MetadataMap::new();
    if let Some(hint) = failure.hint() {
        text.push_str(&format!(" ({hint})"));
        if let Ok(value) = MetadataValue::try_from(hint) {
            trailers.insert(header::HINT, value);
        }
    }
    trailers.insert(header::ERROR_CODE, MetadataValue::from_static(failure.code().as_str()));
    if let Some(id) = &query_id {
        text.push_str(&format!(" query {id}"));
        if let Ok(value) = MetadataValue::try_from(id.as_str()) {
            trailers.insert(header::QUERY_ID, value);
        }
    }
    Status::with_metadata(grpc_code(failure.code()), text, trailers)
}

/// The status of an error of the columnar library: a defect of ours, not of the request.
pub(super) fn from_arrow(failure: ArrowError) -> Status {
    status(Error::from(failure))
}

/// The status inside an error of the encoder.
pub(super) fn from_flight(failure: FlightError) -> Status {
    match failure {
        FlightError::Tonic(status) => *status,
        FlightError::Arrow(failure) => from_arrow(failure),
        other => status(Error::internal(other.to_string())),
    }
}

/// A request that cannot be read.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    status(Error::invalid(message))
}

/// Something that is not there, or no longer.
pub(super) fn not_found(message: impl Into<String>) -> Status {
    status(Error::new(ErrorCode::NotFound, message))
}

/// A part of Flight SQL that is not offered.
pub(super) fn not_supported(what: &str) -> Status {
    status(Error::not_supported(what))
}

/// A caller who is not known, or no longer.
pub(super) fn unauthenticated(message: impl Into<String>) -> Status {
    status(Error::new(ErrorCode::Unauthenticated, message))
}

fn log(failure: &Error, query_id: Option<&str>) {
    use std::error::Error as _;
    let query_id = query_id.unwrap_or("-");
    let cause = failure.source().map(ToString::to_string).unwrap_or_default();
    let code = failure.code().as_str();
    if failure.code() == ErrorCode::Internal {
        error!(query_id, code, message = failure.message(), cause, "request failed");
    } else {
        debug!(query_id, code, cause, "request refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::QueryId;

    #[test]
    fn a_status_carries_code_hint_and_query() {
        let id = QueryId::generate();
        let failure = Error::new(ErrorCode::NotFound, "table \"a.b.sale\" not found")
            .with_hint("did you mean \"sales\"?")
            .with_query(&id);
        let status = status(failure);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(
            status.message(),
            format!("[not_found] table \"a.b.sale\" not found (did you mean \"sales\"?) query {id}")
        );
        assert_eq!(status.metadata().get(header::ERROR_CODE).unwrap(), "not_found");
        assert_eq!(status.metadata().get(header::QUERY_ID).unwrap(), id.as_str());
    }
}
