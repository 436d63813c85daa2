//! Session options, after the messages of the same names in `Flight.proto`.
//!
//! The bodies of these actions are bare messages, not wrapped in an `Any`. Integers are
//! `sfixed64`, which is why no generic decoder of options would do.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};

/// One option's value; none at all erases the option.
#[derive(Clone, PartialEq, Message)]
pub struct SessionOptionValue {
    /// The value, if there is one.
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub option_value: Option<OptionValue>,
}

/// The kinds of values.
#[derive(Clone, PartialEq, Oneof)]
pub enum OptionValue {
    /// Text.
    #[prost(string, tag = "1")]
    String(String),
    /// A flag.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// An integer.
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    /// A floating-point number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// A list of texts.
    #[prost(message, tag = "5")]
    StringList(StringListValue),
}

/// A list of texts.
#[derive(Clone, PartialEq, Message)]
pub struct StringListValue {
    /// The texts.
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

impl From<&str> for SessionOptionValue {
    fn from(value: &str) -> Self {
        Self { option_value: Some(OptionValue::String(value.to_string())) }
    }
}

/// Changes options of the session.
#[derive(Clone, PartialEq, Message)]
pub struct SetSessionOptionsRequest {
    /// Options by name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// Which options were not changed, and why; empty if all were.
#[derive(Clone, PartialEq, Message)]
pub struct SetSessionOptionsResult {
    /// Errors by option name.
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, SetSessionOptionError>,
}

/// Why one option was not changed.
#[derive(Clone, PartialEq, Message)]
pub struct SetSessionOptionError {
    /// The kind of error.
    #[prost(enumeration = "SetSessionOptionErrorValue", tag = "1")]
    pub value: i32,
}

/// The kinds of errors of one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SetSessionOptionErrorValue {
    /// Not said.
    Unspecified = 0,
    /// There is no such option.
    InvalidName = 1,
    /// The value does not fit the option.
    InvalidValue = 2,
    /// The option could not be changed.
    Error = 3,
}

/// Asks for the options of the session.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct GetSessionOptionsRequest {}

/// The options of the session.
#[derive(Clone, PartialEq, Message)]
pub struct GetSessionOptionsResult {
    /// Options by name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// Ends the session.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct CloseSessionRequest {}

/// How the session ended.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct CloseSessionResult {
    /// Its state now.
    #[prost(enumeration = "CloseSessionStatus", tag = "1")]
    pub status: i32,
}

/// The states of a session that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CloseSessionStatus {
    /// Not said.
    Unspecified = 0,
    /// It has ended.
    Closed = 1,
    /// It is about to end.
    Closing = 2,
    /// It cannot be ended.
    NotCloseable = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_option_is_eight_fixed_bytes() {
        let value = SessionOptionValue { option_value: Some(OptionValue::Int64(-1)) };
        // Field 3, wire type 1 (64 bit): tag byte 0x19.
        assert_eq!(value.encode_to_vec(), [0x19, 255, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn a_request_reads_back_with_an_erased_option() {
        let options = HashMap::from([
            ("catalog".to_string(), SessionOptionValue::from("lake")),
            ("timezone".to_string(), SessionOptionValue { option_value: None }),
        ]);
        let request = SetSessionOptionsRequest { session_options: options };
        let read = SetSessionOptionsRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read, request);
    }
}
