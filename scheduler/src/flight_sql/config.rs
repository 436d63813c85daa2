//! Settings of the front door.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Section `flight_sql` of the scheduler's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Key that signs tickets, statement handles and session tokens, at least 16 bytes. Schedulers
    /// that share it read each other's. Empty: a random one for each start of the server.
    pub ticket_key: String,
    /// Seconds for which the ticket of a query may be used.
    pub ticket_ttl_s: u64,
    /// Most prepared statements that one session may hold.
    pub statements_per_session_max: usize,
    /// Seconds after which a prepared statement that is not used is dropped.
    pub statement_idle_s: u64,
    /// Bytes of rows to which a message of a result is cut.
    pub message_bytes: usize,
    /// Most bytes of a message that has only one row, unless the client says what it takes.
    pub row_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ticket_key: String::new(),
            ticket_ttl_s: 3600,
            statements_per_session_max: 1000,
            statement_idle_s: 3600,
            message_bytes: 2 << 20,
            row_bytes_max: 16 << 20,
        }
    }
}

impl Config {
    /// What is wrong with the values, each with the name of its key.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, fault: &str| {
            if !ok {
                faults.push(fault.to_string());
            }
        };
        let key_bytes = self.ticket_key.len();
        check(key_bytes == 0 || key_bytes >= 16, "ticket_key: shorter than 16 bytes");
        check(self.ticket_ttl_s > 0, "ticket_ttl_s: must be above 0");
        check(self.statements_per_session_max > 0, "statements_per_session_max: must be above 0");
        check(self.statement_idle_s > 0, "statement_idle_s: must be above 0");
        // Clients with gRPC's own default take messages of 4 MiB.
        check((1 << 10..=4 << 20).contains(&self.message_bytes), "message_bytes: must be 1 KiB to 4 MiB");
        check(self.row_bytes_max >= self.message_bytes, "row_bytes_max: must not be below message_bytes");
        faults
    }

    pub(super) fn ticket_ttl(&self) -> Duration {
        Duration::from_secs(self.ticket_ttl_s)
    }

    pub(super) fn statement_idle(&self) -> Duration {
        Duration::from_secs(self.statement_idle_s)
    }
}
