//! From the engine's, the catalog's and the scan's errors to a code and a message.
//!
//! Classified once, by the root cause, at the door of the scheduler. Errors that already
//! are ours pass through unchanged. The rule: one `match` per crate and nothing elsewhere.

use std::error::Error as StdError;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use tarn_scan::error::store_error;

use super::{Error, ErrorCode};

/// Longest message that is sent to a client, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

/// An error of the engine.
pub(super) fn engine(error: DataFusionError) -> Error {
    let position = position_of(&error);
    let error = match take_own(error) {
        Ok(own) => return own,
        Err(error) => error,
    };
    let (code, message, hint) = describe(&error);
    let mut classified = Error::new(code, shorten(&message, position.as_deref()));
    if let Some(hint) = hint {
        classified = classified.with_hint(hint);
    }
    classified.with_source(error)
}

/// An error of the scan.
pub(super) fn scan(error: &tarn_scan::Error) -> Error {
    use tarn_scan::ErrorKind;
    let code = match error.kind() {
        ErrorKind::NotFound | ErrorKind::Storage => ErrorCode::StorageError,
        ErrorKind::Corrupt => ErrorCode::CorruptData,
        ErrorKind::NotSupported => ErrorCode::NotSupported,
        ErrorKind::Invalid => ErrorCode::InvalidArgument,
        ErrorKind::Internal => ErrorCode::Internal,
    };
    Error::new(code, error.to_string())
}

/// Digs our own error out of the engine's wrappers, if it is one.
fn take_own(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => Ok(*own),
            Err(inner) => match inner.downcast::<tarn_catalog::Error>() {
                Ok(catalog) => Ok((*catalog).into()),
                Err(inner) => match inner.downcast::<tarn_scan::Error>() {
                    Ok(scan) => Ok((*scan).into()),
                    Err(inner) => match inner.downcast::<DataFusionError>() {
                        Ok(nested) => take_own(*nested),
                        Err(inner) => Err(DataFusionError::External(inner)),
                    },
                },
            },
        },
        DataFusionError::Context(context, inner) => {
            take_own(*inner).map_err(|inner| DataFusionError::Context(context, Box::new(inner)))
        }
        DataFusionError::Diagnostic(diagnostic, inner) => {
            take_own(*inner).map_err(|inner| DataFusionError::Diagnostic(diagnostic, Box::new(inner)))
        }
        DataFusionError::ArrowError(arrow, context) => match *arrow {
            ArrowError::ExternalError(inner) => take_own(DataFusionError::External(inner)),
            arrow => Err(DataFusionError::ArrowError(Box::new(arrow), context)),
        },
        DataFusionError::ParquetError(parquet) => match *parquet {
            ParquetError::External(inner) => take_own(DataFusionError::External(inner)),
            parquet => Err(DataFusionError::ParquetError(Box::new(parquet))),
        },
        DataFusionError::Shared(shared) => match shared_own(shared.as_ref()) {
            Some(own) => Ok(own),
            None => Err(DataFusionError::Shared(shared)),
        },
        DataFusionError::Collection(mut errors) if !errors.is_empty() => take_own(errors.swap_remove(0)),
        other => Err(other),
    }
}

/// A copy of our own error behind a shared one: a stream that is read by several keeps the
/// original.
fn shared_own(error: &DataFusionError) -> Option<Error> {
    let DataFusionError::External(inner) = error.find_root() else { return None };
    if let Some(own) = inner.downcast_ref::<Error>() {
        let mut copy = Error::new(own.code(), own.message());
        if let Some(hint) = own.hint() {
            copy = copy.with_hint(hint);
        }
        return Some(copy);
    }
    if let Some(error) = inner.downcast_ref::<tarn_catalog::Error>() {
        return Some(catalog(error));
    }
    inner.downcast_ref::<tarn_scan::Error>().map(scan)
}

/// Code, message and hint of an error that is the engine's own.
fn describe(error: &DataFusionError) -> (ErrorCode, String, Option<String>) {
    match error.find_root() {
        DataFusionError::SQL(parser, _) => (ErrorCode::SyntaxError, plain(&parser.to_string()), None),
        DataFusionError::SchemaError(schema, _) => column(schema),
        DataFusionError::NotImplemented(what) => (ErrorCode::NotSupported, plain(what), None),
        DataFusionError::ResourcesExhausted(what) => (
            ErrorCode::OutOfMemory,
            plain(what),
            Some("narrow the query, or run it with `set execution_mode = 'staged'`".to_string()),
        ),
        DataFusionError::Plan(what) => (ErrorCode::InvalidArgument, plain(what), None),
        DataFusionError::Configuration(what) => (ErrorCode::InvalidArgument, plain(what), None),
        DataFusionError::Execution(what) => (ErrorCode::InvalidArgument, plain(what), None),
        // Of what was spilled: a disk is full, or broken.
        DataFusionError::ArrowError(arrow, _) if matches!(arrow.as_ref(), ArrowError::IoError(..)) => {
            (ErrorCode::StorageError, plain(&arrow.to_string()), None)
        }
        DataFusionError::ArrowError(arrow, _) => {
            (ErrorCode::InvalidArgument, plain(&arrow.to_string()), None)
        }
        DataFusionError::ParquetError(parquet) => (ErrorCode::CorruptData, plain(&parquet.to_string()), None),
        DataFusionError::ObjectStore(store) => (ErrorCode::StorageError, storage(store), None),
        DataFusionError::IoError(io) => (ErrorCode::StorageError, plain(&io.to_string()), None),
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::Internal(what) if what.contains("signature") || what.contains("coerc") => {
            (ErrorCode::InvalidArgument, plain(what), None)
        }
        other => (ErrorCode::Internal, plain(&other.to_string()), None),
    }
}

/// An error that came in from a library below the engine.
fn external(error: &(dyn StdError + Send + Sync + 'static)) -> (ErrorCode, String, Option<String>) {
    if let Some(store) = store_error(error) {
        return (ErrorCode::StorageError, storage(store), None);
    }
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        return (ErrorCode::ExecutorLost, plain(status.message()), None);
    }
    (ErrorCode::Internal, plain(&error.to_string()), None)
}

/// An unknown or ambiguous column, with the nearest known name as the hint.
fn column(error: &SchemaError) -> (ErrorCode, String, Option<String>) {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let wanted = field.name();
            let nearest = valid_fields
                .iter()
                .map(|known| (strsim::damerau_levenshtein(wanted, known.name()), known.name()))
                .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
                .min_by_key(|(distance, _)| *distance)
                .map(|(_, name)| format!("did you mean \"{name}\"?"));
            let place = match &field.relation {
                Some(relation) => format!("column \"{wanted}\" not found in \"{relation}\""),
                None => format!("column \"{wanted}\" not found"),
            };
            (ErrorCode::NotFound, place, nearest)
        }
        other => (ErrorCode::InvalidArgument, plain(&other.to_string()), None),
    }
}

/// A store's failure without the addresses and paths of this machine.
fn storage(error: &object_store::Error) -> String {
    match error {
        object_store::Error::NotFound { path, .. } => format!("object \"{path}\" not found"),
        object_store::Error::PermissionDenied { path, .. } => {
            format!("the object store refused access to \"{path}\"")
        }
        object_store::Error::Unauthenticated { path, .. } => {
            format!("the object store did not accept the credentials for \"{path}\"")
        }
        other => plain(&other.to_string()),
    }
}

/// `line:column` of an error that has a span in the SQL text.
fn position_of(error: &DataFusionError) -> Option<String> {
    let span = error.diagnostic()?.span?;
    Some(format!("{}:{}", span.start.line, span.start.column))
}

/// The engine's prefixes taken off: clients read one sentence.
fn plain(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let message = message.split("\nThis issue was likely caused by a bug").next().unwrap_or(message);
    let mut rest = message.trim();
    for prefix in [
        "sql parser error: ",
        "Error during planning: ",
        "Execution error: ",
        "Invalid argument error: ",
        "This feature is not implemented: ",
        "External error: ",
        "Optimizer rule ",
    ] {
        if let Some(stripped) = rest.strip_prefix(prefix) {
            rest = stripped;
        }
    }
    rest.to_string()
}

fn shorten(message: &str, position: Option<&str>) -> String {
    let mut text: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    if message.chars().count() > MESSAGE_CHARS_MAX {
        text.push_str(" …");
    }
    match position {
        Some(position) if !text.contains("Line:") => format!("{text} (at {position})"),
        _ => text,
    }
}

/// An error of the catalog.
pub(super) fn catalog(error: &tarn_catalog::Error) -> Error {
    use tarn_catalog::ErrorKind;
    let code = match error.kind() {
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::AlreadyExists => ErrorCode::AlreadyExists,
        ErrorKind::Invalid => ErrorCode::InvalidArgument,
        ErrorKind::NotSupported => ErrorCode::NotSupported,
        ErrorKind::CommitConflict => ErrorCode::CommitConflict,
        ErrorKind::CommitUnknown => ErrorCode::CommitUnknown,
        ErrorKind::Refused => ErrorCode::PermissionDenied,
        ErrorKind::Storage => ErrorCode::StorageError,
        ErrorKind::Corrupt => ErrorCode::CorruptData,
        ErrorKind::Internal => ErrorCode::Internal,
    };
    let classified = Error::new(code, error.to_string());
    match error.hint() {
        Some(hint) => classified.with_hint(hint),
        None => classified,
    }
}
