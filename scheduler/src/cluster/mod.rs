//! The executors: who is alive, who drains, how busy they are, and who reads what.
//!
//! [`Members`] is the cheap handle that the engines and the planner hold. `service.rs` is how executors come
//! and go; `affinity.rs` says which executor reads which file; `credentials.rs` hands them keys to storage. The rule: what an engine finds out about an
//! executor makes it suspect until its next sign of life, nothing more; this room knows no query.

pub mod affinity;
mod credentials;
pub mod members;
mod service;

use serde::{Deserialize, Serialize};

pub use credentials::Deliveries;
pub use members::{Load, Member, Members, State};
pub use service::{Jobs, RegistrationSettings};

/// Section `cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Milliseconds between two signs of life of an executor.
    pub heartbeat_ms: u64,
    /// Milliseconds without a sign of life after which an executor is dead.
    pub dead_after_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { heartbeat_ms: 1000, dead_after_ms: 5000 }
    }
}

impl Config {
    /// Every fault, each with its key.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.heartbeat_ms == 0 {
            faults.push("heartbeat_ms: must be above 0".to_string());
        }
        if self.dead_after_ms < 2 * self.heartbeat_ms {
            faults.push("dead_after_ms: must be at least twice heartbeat_ms".to_string());
        }
        faults
    }
}
