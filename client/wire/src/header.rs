//! The gRPC headers that client and server of this project agree on.
//!
//! Clients that set headers from connection parameters (JDBC, ODBC, ADBC) can send the request
//! headers too.

/// Answer and error trailer: the stable error code.
pub const ERROR_CODE: &str = "x-tarn-code";
/// Answer and error trailer: the id of the query.
pub const QUERY_ID: &str = "x-tarn-query-id";
/// Error trailer: what to try instead, where it is plain ASCII; the text always has it.
pub const HINT: &str = "x-tarn-hint";
/// Request: `compat` or `native`, which Arrow types results are sent in.
pub const WIRE_PROFILE: &str = "wire_profile";
/// Request: the largest message in bytes that the client takes.
pub const MESSAGE_BYTES_MAX: &str = "x-tarn-message-bytes-max";
/// The cookie that names a session.
pub const SESSION_COOKIE: &str = "arrow_flight_session_id";
