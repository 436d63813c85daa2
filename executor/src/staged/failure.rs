//! Errors of tasks, in the form in which they reach the scheduler.
//!
//! Ballista tells by its own types which errors are worth another attempt; those pass as
//! they are. All others leave as a code and a message written into the text.

use arrow::error::ArrowError;
use ballista_core::error::BallistaError;
use datafusion::error::DataFusionError;
use tarn_runtime::control::{Failure, code, is_disk_full};

/// The error as the scheduler shall see it.
pub(super) fn describe(error: DataFusionError) -> DataFusionError {
    match engine(&error) {
        Kind::Passing => error,
        Kind::Broken(reason) => {
            DataFusionError::IoError(std::io::Error::new(std::io::ErrorKind::ConnectionReset, reason))
        }
        Kind::Lasting(failure) => failure.into_text_datafusion(),
    }
}

/// What Ballista should do about an error.
enum Kind {
    /// It knows.
    Passing,
    /// A shuffle broke off in the middle, or could not be written: a disk may be full, and another is not. As an I/O error the task is run again, and then
    /// finds out which executor is gone.
    Broken(String),
    /// The query ends.
    Lasting(Failure),
}

fn engine(error: &DataFusionError) -> Kind {
    match error.find_root() {
        DataFusionError::IoError(_) => Kind::Passing,
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::IpcError(reason) | ArrowError::IoError(reason, _) => Kind::Broken(reason.clone()),
            _ => Kind::Lasting(crate::error::failure(error)),
        },
        DataFusionError::External(inner) => match inner.downcast_ref::<BallistaError>() {
            Some(error) => ballista(error),
            None => Kind::Lasting(crate::error::failure(error)),
        },
        // Ballista's writers print some of their errors into a text.
        DataFusionError::Execution(text) if is_disk_full(text) => Kind::Broken(text.clone()),
        _ => Kind::Lasting(crate::error::failure(error)),
    }
}

/// Writers wrap what their input failed with.
fn ballista(error: &BallistaError) -> Kind {
    match error {
        BallistaError::FetchFailed(..) | BallistaError::IoError(_) | BallistaError::Cancelled => {
            Kind::Passing
        }
        BallistaError::DataFusionError(inner) => engine(inner),
        BallistaError::ArrowError(arrow) => match arrow.as_ref() {
            ArrowError::IpcError(reason) | ArrowError::IoError(reason, _) => Kind::Broken(reason.clone()),
            arrow => Kind::Lasting(Failure::new(code::INVALID_ARGUMENT, arrow.to_string())),
        },
        BallistaError::GrpcConnectionError(reason) | BallistaError::GrpcActionError(reason) => {
            Kind::Broken(reason.clone())
        }
        other => Kind::Lasting(Failure::internal(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_below_a_writer_keeps_its_code() {
        let wrapped =
            BallistaError::from(DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None));
        let described = describe(DataFusionError::External(Box::new(wrapped)));
        assert_eq!(Failure::find(&described).unwrap().code(), code::INVALID_ARGUMENT);
    }

    #[test]
    fn broken_shuffle_is_worth_another_attempt() {
        let error = DataFusionError::ArrowError(Box::new(ArrowError::IpcError("h2".into())), None);
        let failed = ballista_core::serde::protobuf::FailedTask::from(BallistaError::from(describe(error)));
        assert!(failed.retryable);
    }

    #[test]
    fn full_disk_is_worth_another_attempt() {
        let full = || ArrowError::from(std::io::Error::from_raw_os_error(28));
        let below = DataFusionError::ArrowError(Box::new(full()), None);
        let writer = DataFusionError::External(Box::new(BallistaError::ArrowError(Box::new(full()))));
        let text = BallistaError::IoError(std::io::Error::from_raw_os_error(28));
        let printed = DataFusionError::Execution(format!("{text:?}"));
        for error in [below, writer, printed] {
            let failed =
                ballista_core::serde::protobuf::FailedTask::from(BallistaError::from(describe(error)));
            assert!(failed.retryable && is_disk_full(&failed.error), "{}", failed.error);
        }
    }
}
