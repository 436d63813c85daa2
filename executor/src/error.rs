//! Why an executor does not start or ends early, and how an engine's error is named for the scheduler.

use std::error::Error as StdError;
use std::net::SocketAddr;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use tarn_runtime::control::{Failure, code, is_disk_full};
use tarn_scan::error::store_error;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of an executor as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings that cannot be used; one line a fault.
    #[error("{}", .0.join("; "))]
    Settings(Vec<String>),
    /// A port could not be bound.
    #[error("{key}: cannot listen on {address}: {reason}")]
    Listen {
        /// Which of the addresses.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// In short.
        reason: String,
    },
    /// A folder could not be made or used.
    #[error("cannot use the work folder")]
    Folder(#[source] std::io::Error),
    /// The runtime does not start.
    #[error(transparent)]
    Runtime(#[from] tarn_runtime::Error),
    /// The scheduler's storage settings make no sense here.
    #[error("the scheduler's storage settings cannot be read")]
    StorageSettings(#[source] serde_json::Error),
    /// A server of the executor broke.
    #[error("the {server} server broke")]
    Server {
        /// Which one.
        server: &'static str,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Texts by which a lost peer shows in the pipelined engine's errors, which have no type for it.
const LOST_PEER: [&str; 9] = [
    "Error connecting to Distributed DataFusion worker",
    "Error waiting for Distributed DataFusion channel",
    "tcp connect error",
    "transport error",
    "broken pipe",
    "h2 protocol error",
    "connection reset",
    "connection error",
    "while waiting for the plan to be set",
];

/// A code and a message for an error of the engine.
pub(crate) fn failure(error: &DataFusionError) -> Failure {
    if let Some(failure) = Failure::find(error) {
        return failure;
    }
    match root(error) {
        Root::Engine(error) => engine(error),
        Root::Other(error) => other(error),
    }
}

/// The error in a form whose code survives as text, for its way between executors.
pub(crate) fn as_text(error: DataFusionError) -> DataFusionError {
    failure(&error).into_text_datafusion()
}

enum Root<'a> {
    Engine(&'a DataFusionError),
    Other(&'a (dyn StdError + Send + Sync + 'static)),
}

/// Through the wrappers of the engine, Arrow and Parquet to where it began.
fn root(error: &DataFusionError) -> Root<'_> {
    let error = error.find_root();
    let inner: &(dyn StdError + Send + Sync + 'static) = match error {
        DataFusionError::External(inner) => inner.as_ref(),
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::ExternalError(inner) => inner.as_ref(),
            _ => return Root::Engine(error),
        },
        DataFusionError::ParquetError(parquet) => match parquet.as_ref() {
            ParquetError::External(inner) => inner.as_ref(),
            _ => return Root::Engine(error),
        },
        _ => return Root::Engine(error),
    };
    match inner.downcast_ref::<DataFusionError>() {
        Some(nested) => root(nested),
        None => Root::Other(inner),
    }
}

fn engine(error: &DataFusionError) -> Failure {
    let text = error.strip_backtrace();
    if is_lost_peer(&text) {
        return lost();
    }
    let code = match error {
        DataFusionError::ResourcesExhausted(_) => code::OUT_OF_MEMORY,
        DataFusionError::NotImplemented(_) => code::NOT_SUPPORTED,
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => code::STORAGE_ERROR,
        DataFusionError::ArrowError(arrow, _) if matches!(arrow.as_ref(), ArrowError::IoError(..)) => {
            code::STORAGE_ERROR
        }
        _ if is_disk_full(&text) => code::STORAGE_ERROR,
        DataFusionError::ParquetError(_) => code::CORRUPT_DATA,
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) | DataFusionError::Plan(_) => {
            code::INVALID_ARGUMENT
        }
        _ => code::INTERNAL,
    };
    Failure::new(code, plain(&text))
}

fn other(error: &(dyn StdError + Send + Sync + 'static)) -> Failure {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.clone();
    }
    if let Some(scan) = error.downcast_ref::<tarn_scan::Error>() {
        return Failure::new(scan_code(scan), scan.to_string());
    }
    if let Some(store) = store_error(error) {
        return Failure::new(code::STORAGE_ERROR, store.to_string());
    }
    let text = error.to_string();
    match error.downcast_ref::<tonic::Status>().is_some() || is_lost_peer(&text) {
        true => lost(),
        false => Failure::internal(plain(&text)),
    }
}

fn scan_code(error: &tarn_scan::Error) -> &'static str {
    use tarn_scan::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Storage => code::STORAGE_ERROR,
        ErrorKind::Corrupt => code::CORRUPT_DATA,
        ErrorKind::NotSupported => code::NOT_SUPPORTED,
        ErrorKind::Invalid => code::INVALID_ARGUMENT,
        ErrorKind::Internal => code::INTERNAL,
    }
}

fn is_lost_peer(text: &str) -> bool {
    LOST_PEER.iter().any(|mark| text.contains(mark))
}

fn lost() -> Failure {
    Failure::executor_lost("an executor was lost while the query ran")
}

/// The engine's prefixes taken off.
fn plain(text: &str) -> String {
    let mut rest = text.trim();
    for prefix in
        ["External error: ", "Execution error: ", "Arrow error: ", "Parquet error: ", "Resources exhausted: "]
    {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_by_their_root() {
        let cases = [
            (DataFusionError::ResourcesExhausted("x".into()), code::OUT_OF_MEMORY),
            (DataFusionError::Execution("divide by zero".into()).context("in a"), code::INVALID_ARGUMENT),
            (DataFusionError::External(Box::new(tonic::Status::unknown("h2"))), code::EXECUTOR_LOST),
            (DataFusionError::Execution("tcp connect error".into()), code::EXECUTOR_LOST),
            (DataFusionError::Internal("x".into()), code::INTERNAL),
            (DataFusionError::Execution(format!("{:?}", full_disk())), code::STORAGE_ERROR),
            (ArrowError::from(full_disk()).into(), code::STORAGE_ERROR),
            (Failure::cancelled().into_datafusion(), code::CANCELLED),
            (ParquetError::External(Box::new(Failure::new("corrupt_data", "x"))).into(), code::CORRUPT_DATA),
        ];
        for (error, code) in cases {
            assert_eq!(failure(&error).code(), code, "{error}");
        }
    }

    fn full_disk() -> std::io::Error {
        std::io::Error::from_raw_os_error(28)
    }

    #[test]
    fn code_survives_the_way_between_executors() {
        let sent = as_text(DataFusionError::ResourcesExhausted("too little".into()));
        let arrived = DataFusionError::External(sent.to_string().into());
        assert_eq!(failure(&arrived).code(), code::OUT_OF_MEMORY);
    }
}
