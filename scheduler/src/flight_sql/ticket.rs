//! Tickets, statement handles and session tokens: signed, versioned, self-describing.
//!
//! What a client hands back is parsed into a [`Claims`] here or refused; no other module
//! reads those bytes. Layout: magic `TRN`, one version byte, 32 bytes HMAC-SHA256 over the
//! rest, a protobuf message. The signature is compared in constant time and before a byte of
//! the message is looked at.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use prost::{Message, Oneof};
use sha2::Sha256;
use tonic::Status;

use super::status;

const MAGIC: &[u8; 3] = b"TRN";
const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 1 + MAC_BYTES;

/// What a signed message says.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Claims {
    /// The scheduler that signed.
    #[prost(string, tag = "1")]
    pub scheduler: String,
    /// The session it belongs to.
    #[prost(string, tag = "2")]
    pub session: String,
    /// Whose session that is.
    #[prost(string, tag = "3")]
    pub principal: String,
    /// When it ends, in milliseconds since the epoch; 0 is never.
    #[prost(int64, tag = "4")]
    pub expires_at_ms: i64,
    /// What it names.
    #[prost(oneof = "Subject", tags = "5, 6, 7")]
    pub subject: Option<Subject>,
}

/// What a signed message names.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Subject {
    /// The session itself: a bearer token or a cookie.
    #[prost(message, tag = "5")]
    Session(SessionToken),
    /// The rows of a query.
    #[prost(message, tag = "6")]
    Query(QueryTicket),
    /// A prepared statement.
    #[prost(message, tag = "7")]
    Statement(StatementHandle),
}

/// Names a session.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct SessionToken {}

/// Names the rows of a query.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryTicket {
    /// The query.
    #[prost(string, tag = "1")]
    pub query_id: String,
    /// Whether the rows were announced in the `native` profile.
    #[prost(bool, tag = "2")]
    pub native: bool,
    /// For a statement that changed something: how many rows, so that the ticket itself can
    /// serve the answer any number of times.
    #[prost(sint64, optional, tag = "3")]
    pub rows: Option<i64>,
}

/// Names a prepared statement.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatementHandle {
    /// The statement, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
}

/// Why signed bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not something that we sign.
    Garbage,
    /// Another version of this format.
    Version(u8),
    /// The signature is not ours.
    Forged,
    /// It was ours, but its time is over.
    Expired,
}

impl Refusal {
    /// The status for a refused ticket or handle, named by `what`.
    pub fn status(self, what: &str) -> Status {
        match self {
            Self::Garbage => {
                status::invalid(format!("{what} cannot be read: it was not made by this server"))
            }
            Self::Version(version) => {
                status::invalid(format!("{what} has format version {version}, this server reads {VERSION}"))
            }
            Self::Forged => status::unauthenticated(format!(
                "{what} does not carry this server's signature; was the server restarted?"
            )),
            Self::Expired => status::not_found(format!("{what} has expired")),
        }
    }
}

/// Signs and checks. A cheap handle.
#[derive(Clone)]
pub(super) struct Signer {
    scheduler: String,
    mac: Hmac<Sha256>,
}

impl Signer {
    /// A signer of a scheduler, with a key that is shared with others, or a random one.
    pub fn new(scheduler: &str, key: Option<&[u8]>) -> Self {
        let random: [u8; 32] = rand::random();
        let mac =
            Hmac::<Sha256>::new_from_slice(key.unwrap_or(&random)).expect("HMAC takes keys of any length");
        Self { scheduler: scheduler.to_string(), mac }
    }

    /// Signs a subject of a session, to end after `lifetime` if one is given.
    pub fn sign(
        &self,
        session: &str,
        principal: &str,
        subject: Subject,
        lifetime: Option<Duration>,
    ) -> Bytes {
        let expires_at_ms = lifetime.map_or(0, |lifetime| now_ms() + to_ms(lifetime));
        let claims = Claims {
            scheduler: self.scheduler.clone(),
            session: session.to_string(),
            principal: principal.to_string(),
            expires_at_ms,
            subject: Some(subject),
        };
        self.seal(&claims.encode_to_vec())
    }

    /// Reads what [`Signer::sign`] wrote, or says why not.
    pub fn open(&self, signed: &[u8]) -> Result<Claims, Refusal> {
        if signed.len() < HEADER_BYTES || !signed.starts_with(MAGIC) {
            return Err(Refusal::Garbage);
        }
        if signed[MAGIC.len()] != VERSION {
            return Err(Refusal::Version(signed[MAGIC.len()]));
        }
        let (mac, body) = signed[MAGIC.len() + 1..].split_at(MAC_BYTES);
        self.mac_of(body).verify_slice(mac).map_err(|_| Refusal::Forged)?;
        let claims = Claims::decode(body).map_err(|_| Refusal::Garbage)?;
        if claims.expires_at_ms != 0 && claims.expires_at_ms < now_ms() {
            return Err(Refusal::Expired);
        }
        Ok(claims)
    }

    /// The signed bytes as text, for headers and cookies.
    pub fn to_text(signed: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(signed)
    }

    /// The bytes of a text that looks like ours; `None` for anybody else's token.
    pub fn from_text(text: &str) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.starts_with(MAGIC))
    }

    fn seal(&self, body: &[u8]) -> Bytes {
        let mut sealed = Vec::with_capacity(HEADER_BYTES + body.len());
        sealed.extend_from_slice(MAGIC);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.mac_of(body).finalize().into_bytes());
        sealed.extend_from_slice(body);
        sealed.into()
    }

    fn mac_of(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(&[VERSION]);
        mac.update(body);
        mac
    }
}

fn now_ms() -> i64 {
    to_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn to_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

    #[test]
    fn a_ticket_reads_back() {
        let signer = Signer::new("s1", Some(b"key"));
        let claims = signer.open(&signer.sign("session", "ann", query(), HOUR)).unwrap();
        assert_eq!((claims.scheduler.as_str(), claims.session.as_str()), ("s1", "session"));
        assert_eq!((claims.principal.as_str(), claims.subject), ("ann", Some(query())));
    }

    #[test]
    fn another_scheduler_with_the_same_key_reads_it_and_one_with_its_own_does_not() {
        let ticket = Signer::new("s1", Some(b"key")).sign("session", "ann", query(), HOUR);
        assert!(Signer::new("s2", Some(b"key")).open(&ticket).is_ok());
        assert_eq!(Signer::new("s2", None).open(&ticket), Err(Refusal::Forged));
    }

    #[test]
    fn a_changed_bit_anywhere_is_refused() {
        let signer = Signer::new("s1", None);
        let ticket = signer.sign("session", "ann", query(), HOUR);
        for index in 0..ticket.len() {
            let mut changed = ticket.to_vec();
            changed[index] ^= 1;
            assert!(signer.open(&changed).is_err(), "byte {index}");
        }
    }

    #[test]
    fn garbage_cut_and_empty_tickets_are_refused_without_panic() {
        let signer = Signer::new("s1", None);
        let ticket = signer.sign("session", "ann", query(), HOUR);
        for length in 0..ticket.len() {
            assert!(signer.open(&ticket[..length]).is_err());
        }
        assert_eq!(signer.open(b""), Err(Refusal::Garbage));
        assert_eq!(signer.open(&[0xff; 400]), Err(Refusal::Garbage));
        assert_eq!(Signer::from_text("not base64 !"), None);
        assert_eq!(Signer::from_text("c29tZWJvZHkgZWxzZQ"), None);
    }

    #[test]
    fn a_ticket_ends_at_its_time() {
        let signer = Signer::new("s1", None);
        let claims = Claims { expires_at_ms: now_ms() - 1, ..Default::default() };
        assert_eq!(signer.open(&signer.seal(&claims.encode_to_vec())), Err(Refusal::Expired));
    }

    #[test]
    fn each_refusal_has_its_status() {
        assert_eq!(Refusal::Garbage.status("ticket").code(), Code::InvalidArgument);
        assert_eq!(Refusal::Version(9).status("ticket").code(), Code::InvalidArgument);
        assert_eq!(Refusal::Forged.status("ticket").code(), Code::Unauthenticated);
        assert_eq!(Refusal::Expired.status("ticket").code(), Code::NotFound);
    }

    #[test]
    fn fuzzed_ticket() {
        let signer = Signer::new("s1", Some(b"key"));
        let decode = |input: &[u8]| {
            let text = Signer::from_text(&String::from_utf8_lossy(input)).is_some();
            let claims = match signer.open(input) {
                Ok(claims) => claims,
                Err(refusal) => return format!("{text} {refusal:?} {}", refusal.status("ticket").code()),
            };
            let subject = match &claims.subject {
                Some(Subject::Query(ticket)) => {
                    let id = crate::query::QueryId::parse(&ticket.query_id).is_some();
                    format!("query {id} {} {:?}", ticket.native, ticket.rows.map(i64::signum))
                }
                Some(Subject::Statement(handle)) => format!("statement {}", handle.id.len() == 16),
                Some(Subject::Session(_)) => "session".to_owned(),
                None => "nothing".to_owned(),
            };
            format!("{text} {subject} {}", claims.expires_at_ms == 0)
        };
        // Signed again: what is behind the signature is what a mistake of ours could make.
        let repair = |input: &mut Vec<u8>| {
            let body = input.get(HEADER_BYTES..).unwrap_or_default().to_vec();
            *input = signer.seal(&body).to_vec();
        };
        let subjects = [
            query(),
            Subject::Query(QueryTicket {
                query_id: crate::query::QueryId::generate().to_string(),
                native: false,
                rows: None,
            }),
            Subject::Session(SessionToken {}),
            Subject::Statement(StatementHandle { id: vec![7; 16] }),
        ];
        let mut seeds: Vec<_> = subjects
            .into_iter()
            .map(|subject| {
                signer.sign("session", "ann", subject, Some(Duration::from_secs(1 << 32))).to_vec()
            })
            .collect();
        seeds.push(Signer::to_text(&seeds[0]).into_bytes());
        let shape = tarn_fuzz::Shape::Protobuf(HEADER_BYTES);
        tarn_fuzz::check(&tarn_fuzz::Target {
            name: "ticket",
            shape,
            seeds,
            repair: &repair,
            decode: &decode,
        });
    }

    fn query() -> Subject {
        Subject::Query(QueryTicket { query_id: "0123".to_string(), native: true, rows: Some(-1) })
    }
}
