//! The answer to CreatePreparedStatement, with the field that arrow-flight does not know yet.

use bytes::Bytes;
use prost::Message;

/// What the server says of a new prepared statement.
#[derive(Clone, PartialEq, Message)]
pub struct ActionCreatePreparedStatementResult {
    /// Opaque name of the statement.
    #[prost(bytes = "bytes", tag = "1")]
    pub prepared_statement_handle: Bytes,
    /// IPC-encapsulated schema of the rows; empty for a statement that returns a count.
    #[prost(bytes = "bytes", tag = "2")]
    pub dataset_schema: Bytes,
    /// IPC-encapsulated schema of the parameters; empty if there are none.
    #[prost(bytes = "bytes", tag = "3")]
    pub parameter_schema: Bytes,
    /// Whether the statement changes something and returns a count.
    #[prost(bool, optional, tag = "4")]
    pub is_update: Option<bool>,
}

impl ActionCreatePreparedStatementResult {
    const TYPE_URL: &'static str =
        "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult";

    /// The message inside a `google.protobuf.Any`, as Flight SQL sends it.
    pub fn encode_in_any(&self) -> Bytes {
        let any = Any { type_url: Self::TYPE_URL.to_string(), value: self.encode_to_vec().into() };
        any.encode_to_vec().into()
    }

    /// Reads the message out of a `google.protobuf.Any`; `None` if another one is in there.
    pub fn decode_from_any(body: &[u8]) -> Result<Option<Self>, prost::DecodeError> {
        let any = Any::decode(body)?;
        if any.type_url != Self::TYPE_URL {
            return Ok(None);
        }
        Self::decode(any.value).map(Some)
    }
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_survives_its_any() {
        let answer = ActionCreatePreparedStatementResult {
            prepared_statement_handle: Bytes::from_static(b"handle"),
            is_update: Some(false),
            ..Default::default()
        };
        let read = ActionCreatePreparedStatementResult::decode_from_any(&answer.encode_in_any());
        assert_eq!(read.unwrap(), Some(answer));
    }
}
