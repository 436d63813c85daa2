//! The types of actions that Flight and Flight SQL define and arrow-flight has no public name for.

/// Prepares a statement; the request is arrow-flight's, the answer
/// [`crate::prepared::ActionCreatePreparedStatementResult`].
pub const CREATE_PREPARED_STATEMENT: &str = "CreatePreparedStatement";
/// Drops a prepared statement.
pub const CLOSE_PREPARED_STATEMENT: &str = "ClosePreparedStatement";
/// Cancels the query of a FlightInfo, in the older form.
pub const CANCEL_QUERY: &str = "CancelQuery";

/// Changes options of the session; body [`crate::session::SetSessionOptionsRequest`].
pub const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
/// Reads the options of the session; body [`crate::session::GetSessionOptionsRequest`].
pub const GET_SESSION_OPTIONS: &str = "GetSessionOptions";
/// Ends the session; body [`crate::session::CloseSessionRequest`].
pub const CLOSE_SESSION: &str = "CloseSession";
/// Cancels the query of a FlightInfo; the body is arrow-flight's `CancelFlightInfoRequest`.
pub const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
