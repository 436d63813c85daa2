//! The front door: Flight SQL.
//!
//! ```text
//!  outer        the gRPC service: every call, dispatched by its command
//!  call         one call's session, wire profile, limits, deadline   <- caller <- connection
//!  statement    statements: GetFlightInfo, DoGet, updates            <- ticket
//!  prepared     prepared statements                                  <- binding, multi_insert
//!  metadata     catalogs, schemas, tables, keys                      <- pattern, sql_info, type_name
//!  session_actions  options, close, cancel
//!  wire_types   the types that are announced; wire_stream sends them <- row_size
//!  status       our errors as gRPC status
//! ```
//!
//! This room translates: it plans nothing, runs nothing and keeps nothing of a query. A SELECT
//! starts with its first DoGet; what changes something runs once, where the client first asks
//! for its result. The rule: nothing outside this room names a Flight message, and what comes
//! from a client is parsed into a type here or refused, never unwrapped.

mod binding;
mod call;
mod caller;
mod config;
mod connection;
mod metadata;
mod multi_insert;
mod outer;
mod pattern;
mod prepared;
mod row_size;
mod service;
mod session_actions;
mod sql_info;
mod statement;
mod status;
mod ticket;
mod type_name;
mod wire_stream;
mod wire_types;

pub use config::Config;
pub use connection::{Connection, ConnectionInfo, incoming};
pub use outer::Outer;
pub use service::{Parts, service};
pub use wire_types::{Profile, wire_schema};
