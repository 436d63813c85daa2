//! What can go wrong in starting a process's runtime and in its calls to others.

use std::path::PathBuf;

use crate::control::Failure;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of the runtime and of control calls.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tokio runtime could not be built.
    #[error("cannot start the {name} threads")]
    Threads {
        /// Which of the runtimes.
        name: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The spill folder cannot be used.
    #[error("cannot use the spill folder {path:?}")]
    SpillFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// DataFusion refused the environment.
    #[error("cannot build the execution environment")]
    Environment(#[source] datafusion::error::DataFusionError),
    /// An address does not name a host and a port.
    #[error("address {address:?} is not HOST:PORT")]
    Address {
        /// The address as given.
        address: String,
    },
    /// The peer could not be reached or broke the connection.
    #[error("cannot reach {peer}: {reason}")]
    Unreachable {
        /// Host and port.
        peer: String,
        /// In short.
        reason: String,
    },
    /// The peer answered with an error.
    #[error(transparent)]
    Remote(#[from] Failure),
}
