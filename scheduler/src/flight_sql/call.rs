//! One call: who makes it, in which wire profile, and how long it may take.

use std::time::Duration;

use tarn_wire::header;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Response, Status};

use super::caller::{Caller, Callers};
use super::config::Config;
use super::status;
use super::wire_stream::Limits;
use super::wire_types::Profile;
use crate::query::QueryId;
use crate::session::Session;

/// No client's word makes a message larger than this.
const ROW_BYTES_MAX: usize = 512 << 20;

/// What the headers of a call say.
pub(super) struct Call {
    /// Who calls.
    pub caller: Caller,
    /// Header `wire_profile`, or else the session's setting.
    pub profile: Profile,
    /// How large messages may be.
    pub limits: Limits,
    /// The client's deadline, from `grpc-timeout`.
    pub timeout: Option<Duration>,
    callers: Callers,
}

impl Call {
    /// Reads the headers and finds or opens the caller's session.
    pub fn new(
        callers: &Callers,
        config: &Config,
        headers: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Self, Status> {
        let caller = callers.identify(headers, extensions)?;
        let profile = profile(headers, &caller.session)?;
        let limits = limits(headers, config)?;
        Ok(Self { caller, profile, limits, timeout: timeout(headers), callers: callers.clone() })
    }

    /// The caller's session.
    pub fn session(&self) -> &Session {
        &self.caller.session
    }

    /// The answer, with what a new session needs to know.
    pub fn respond<T>(&self, answer: T) -> Response<T> {
        self.callers.respond(&self.caller, answer)
    }

    /// The answer of a query, its id in the headers.
    pub fn respond_for<T>(&self, query_id: &QueryId, answer: T) -> Response<T> {
        let mut response = self.respond(answer);
        if let Ok(value) = query_id.as_str().parse() {
            response.metadata_mut().insert(header::QUERY_ID, value);
        }
        response
    }
}

fn profile(headers: &MetadataMap, session: &Session) -> Result<Profile, Status> {
    let settings = session.settings();
    let name = match headers.get(header::WIRE_PROFILE) {
        Some(value) => value.to_str().unwrap_or("?"),
        None => settings.wire_profile(),
    };
    Profile::parse(name)
        .ok_or_else(|| status::invalid(format!("wire profile \"{name}\" is unknown: compat or native")))
}

fn limits(headers: &MetadataMap, config: &Config) -> Result<Limits, Status> {
    let standard =
        Limits { message_bytes: config.message_bytes, row_bytes: without_frame(config.row_bytes_max) };
    let Some(value) = headers.get(header::MESSAGE_BYTES_MAX) else { return Ok(standard) };
    let bytes = value.to_str().ok().and_then(|text| text.trim().parse::<usize>().ok());
    let bytes = bytes.filter(|bytes| *bytes >= 64 << 10).ok_or_else(|| {
        status::invalid(format!(
            "header \"{}\" must be a number of bytes from 65536",
            header::MESSAGE_BYTES_MAX
        ))
    })?;
    let row_bytes = without_frame(bytes.min(ROW_BYTES_MAX));
    Ok(Limits { message_bytes: standard.message_bytes.min(row_bytes), row_bytes })
}

/// What a message has left for rows beside the description of its columns.
fn without_frame(message_bytes: usize) -> usize {
    message_bytes - message_bytes / 64
}

/// Reads `grpc-timeout`: up to eight digits and a unit. Anything else is no deadline, as the
/// transport takes it too.
fn timeout(headers: &MetadataMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_read_in_every_unit() {
        let cases = [
            ("30S", Some(Duration::from_secs(30))),
            ("1500m", Some(Duration::from_millis(1500))),
            ("2H", Some(Duration::from_secs(7200))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5x", None),
        ];
        for (text, expected) in cases {
            let mut headers = MetadataMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(timeout(&headers), expected, "{text}");
        }
    }

    #[test]
    fn a_client_may_ask_for_smaller_and_larger_messages() {
        let read = |text: &str| {
            let mut headers = MetadataMap::new();
            headers.insert(header::MESSAGE_BYTES_MAX, text.parse().unwrap());
            limits(&headers, &Config::default())
        };
        assert_eq!(read("1048576").unwrap().message_bytes, 1008 << 10);
        assert_eq!(read("67108864").unwrap().row_bytes, 63 << 20);
        assert_eq!(read("67108864").unwrap().message_bytes, 2 << 20);
        assert_eq!(read("12").unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
