//! The Flight SQL messages that arrow-flight lacks.
//!
//! Written by hand with prost's derive, after `Flight.proto` and `FlightSql.proto` of the Arrow
//! format, because the machine that builds us need not have `protoc`:
//!
//! - [`session`]: SetSessionOptions, GetSessionOptions, CloseSession (their bodies travel bare);
//! - [`prepared`]: the answer to CreatePreparedStatement with `is_update` (it travels in an `Any`).
//!
//! What lives here is the wire alone: no server, no client, no arrow type.

pub mod action;
pub mod header;
pub mod prepared;
pub mod session;
