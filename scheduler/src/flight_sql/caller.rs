//! Who calls: from headers and connection to a session.
//!
//! In this order: the cookie, a bearer token that we signed, the HTTP/2 connection together with
//! the credential sent on it. Never the user alone: two connections of one user are two sessions.
//! A session that has ended is an error, not a new session: what `USE` and `SET` had changed
//! would be lost without a word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use moka::sync::Cache;
use tarn_wire::header;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::server::TcpConnectInfo;
use tonic::{Extensions, Response, Status};

use super::connection::ConnectionInfo;
use super::status;
use super::ticket::{Refusal, SessionToken, Signer, Subject};
use crate::error::{Error, ErrorCode};
use crate::session::{Session, Store};

/// Name of who gives none, while there is no authentication.
const ANONYMOUS: &str = "anonymous";

/// A call's session.
pub(super) struct Caller {
    /// The session.
    pub session: Session,
    /// Opened by this very call: the answer tells the client its token and cookie.
    fresh: bool,
}

/// Finds and opens sessions. A cheap handle.
#[derive(Clone)]
pub(super) struct Callers {
    sessions: Store,
    signer: Signer,
    /// For listeners that do not come from [`super::incoming`]: sessions by peer and credential.
    by_peer: Cache<(std::net::SocketAddr, String), Session>,
}

/// What the headers say of who calls.
enum Credential {
    /// Our own token, in a cookie or as bearer.
    Ours { token: Vec<u8>, cookie: bool },
    /// Somebody's user name; there is no authentication yet.
    User(String),
    /// A static token of the client's, or nothing at all.
    Other(String),
}

impl Callers {
    pub fn new(sessions: Store, signer: Signer) -> Self {
        let by_peer =
            Cache::builder().max_capacity(10_000).time_to_idle(std::time::Duration::from_secs(1800));
        Self { sessions, signer, by_peer: by_peer.build() }
    }

    /// The caller's session, opened if there is none yet.
    pub fn identify(&self, headers: &MetadataMap, extensions: &Extensions) -> Result<Caller, Status> {
        match credential(headers)? {
            Credential::Ours { token, cookie } => {
                self.by_token(&token, cookie).map(|session| Caller { session, fresh: false })
            }
            Credential::User(user) => self.by_connection(&user, &format!("user {user}"), extensions),
            Credential::Other(token) => self.by_connection(ANONYMOUS, &format!("token {token}"), extensions),
        }
    }

    /// Always a new session, for a handshake with user and password; else as [`Callers::identify`].
    pub fn handshake(&self, headers: &MetadataMap, extensions: &Extensions) -> Result<Caller, Status> {
        // A stale cookie must not stand in the way of who connects anew.
        match authorization(headers)? {
            Credential::User(user) => Ok(Caller { session: self.sessions.create(&user), fresh: true }),
            _ => self.identify(headers, extensions).map(|caller| Caller { fresh: true, ..caller }),
        }
    }

    /// The session that a ticket or a handle names, if it is the caller's or of the same
    /// principal: a ticket may be read over another connection.
    pub fn of_ticket(&self, caller: &Caller, session: &str, principal: &str) -> Result<Session, Status> {
        if caller.session.id() == session {
            return Ok(caller.session.clone());
        }
        if caller.session.principal() != principal {
            let denied = Error::new(ErrorCode::PermissionDenied, "the ticket belongs to somebody else");
            return Err(status::status(denied));
        }
        self.sessions.get(session).ok_or_else(|| status::not_found("the session of the ticket has ended"))
    }

    /// Ends a session. What it had must not come back by the same connection.
    pub fn close(&self, session: &Session, extensions: &Extensions) {
        self.sessions.close(session.id());
        if let Some(connection) = extensions.get::<ConnectionInfo>() {
            connection.forget(session.id());
        }
        let id = session.id().to_string();
        let stale: Vec<_> =
            self.by_peer.iter().filter(|(_, held)| held.id() == id).map(|(key, _)| key).collect();
        stale.iter().for_each(|key| self.by_peer.invalidate(key.as_ref()));
    }

    /// The answer, with token and cookie in its headers if the session is new.
    pub fn respond<T>(&self, caller: &Caller, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        if caller.fresh {
            let token = self.token(&caller.session);
            let headers = response.metadata_mut();
            insert(headers, "authorization", &format!("Bearer {token}"));
            insert(headers, "set-cookie", &format!("{}={token}", header::SESSION_COOKIE));
        }
        response
    }

    fn token(&self, session: &Session) -> String {
        let subject = Subject::Session(SessionToken {});
        Signer::to_text(&self.signer.sign(session.id(), session.principal(), subject, None))
    }

    fn by_token(&self, token: &[u8], cookie: bool) -> Result<Session, Status> {
        let ended = |text: &str| {
            let mut ended = status::unauthenticated(text);
            if cookie {
                // Otherwise the client would send it for ever.
                insert(
                    ended.metadata_mut(),
                    "set-cookie",
                    &format!("{}=; Max-Age=0", header::SESSION_COOKIE),
                );
            }
            ended
        };
        let claims = self.signer.open(token).map_err(|refusal| match refusal {
            Refusal::Forged => {
                ended("the session token does not carry this server's signature; connect again")
            }
            _ => ended("the session token cannot be read; connect again"),
        })?;
        if !matches!(claims.subject, Some(Subject::Session(_))) {
            return Err(status::unauthenticated("the token names no session"));
        }
        self.sessions.get(&claims.session).ok_or_else(|| ended("the session has ended; connect again"))
    }

    fn by_connection(&self, principal: &str, key: &str, extensions: &Extensions) -> Result<Caller, Status> {
        let open = || self.sessions.create(principal);
        if let Some(connection) = extensions.get::<ConnectionInfo>() {
            let (session, fresh) = connection.session(key, open).ok_or_else(|| {
                let full = "too many sessions on one connection";
                status::status(Error::new(ErrorCode::LimitExceeded, full))
            })?;
            // Counts as use, so that tickets find the session in the store.
            self.sessions.get(session.id());
            return Ok(Caller { session, fresh });
        }
        let Some(peer) = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr) else {
            return Ok(Caller { session: open(), fresh: true });
        };
        let entry = self.by_peer.entry((peer, key.to_string())).or_insert_with(open);
        let fresh = entry.is_fresh();
        Ok(Caller { session: entry.into_value(), fresh })
    }
}

fn credential(headers: &MetadataMap) -> Result<Credential, Status> {
    match cookie(headers).and_then(Signer::from_text) {
        Some(token) => Ok(Credential::Ours { token, cookie: true }),
        None => authorization(headers),
    }
}

fn authorization(headers: &MetadataMap) -> Result<Credential, Status> {
    let Some(authorization) = headers.get("authorization") else {
        return Ok(Credential::Other(String::new()));
    };
    let unreadable = || status::unauthenticated("the header \"authorization\" is neither Basic nor Bearer");
    let text = authorization.to_str().map_err(|_| unreadable())?.trim();
    let (scheme, value) = text.split_once(' ').ok_or_else(unreadable)?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok(match Signer::from_text(value.trim()) {
            Some(token) => Credential::Ours { token, cookie: false },
            None => Credential::Other(value.trim().to_string()),
        }),
        "basic" => {
            let decoded = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or_else(|| {
                status::unauthenticated("the header \"authorization: Basic\" is not base64 of user:password")
            })?;
            let user = decoded.split_once(':').map_or(decoded.as_str(), |(user, _)| user);
            Ok(Credential::User(if user.is_empty() { ANONYMOUS } else { user }.to_string()))
        }
        _ => Err(unreadable()),
    }
}

fn cookie(headers: &MetadataMap) -> Option<&str> {
    let values = headers.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == header::SESSION_COOKIE)
        .map(|(_, value)| value.trim_matches('"'))
}

fn insert(headers: &mut MetadataMap, name: &'static str, value: &str) {
    if let Ok(value) = MetadataValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;
    use crate::session::{Settings, StoreConfig};

    #[test]
    fn a_handshake_gives_a_token_that_finds_the_session_anywhere() {
        let callers = callers();
        let mut headers = MetadataMap::new();
        insert(&mut headers, "authorization", &format!("Basic {}", STANDARD.encode("ann:secret")));
        let caller = callers.handshake(&headers, &Extensions::default()).unwrap();
        assert_eq!(caller.session.principal(), "ann");
        let again = callers.handshake(&headers, &Extensions::default()).unwrap();
        assert_ne!(caller.session.id(), again.session.id());

        let response = callers.respond(&caller, ());
        let mut headers = MetadataMap::new();
        headers.insert("authorization", response.metadata().get("authorization").unwrap().clone());
        let found = callers.identify(&headers, &Extensions::default()).unwrap();
        assert_eq!(found.session.id(), caller.session.id());
    }

    #[test]
    fn the_cookie_comes_before_the_token() {
        let callers = callers();
        let first = callers.identify(&MetadataMap::new(), &Extensions::default()).unwrap();
        let second = callers.identify(&MetadataMap::new(), &Extensions::default()).unwrap();
        let mut headers = MetadataMap::new();
        insert(&mut headers, "authorization", &format!("Bearer {}", callers.token(&first.session)));
        let cookie = format!("other=1; {}={}", header::SESSION_COOKIE, callers.token(&second.session));
        insert(&mut headers, "cookie", &cookie);
        let found = callers.identify(&headers, &Extensions::default()).unwrap();
        assert_eq!(found.session.id(), second.session.id());
    }

    #[test]
    fn an_ended_session_is_an_error_and_takes_its_cookie_away() {
        let callers = callers();
        let caller = callers.identify(&MetadataMap::new(), &Extensions::default()).unwrap();
        let mut headers = MetadataMap::new();
        let cookie = format!("{}={}", header::SESSION_COOKIE, callers.token(&caller.session));
        insert(&mut headers, "cookie", &cookie);
        callers.close(&caller.session, &Extensions::default());
        let refused = callers.identify(&headers, &Extensions::default()).err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.metadata().get("set-cookie").unwrap().to_str().unwrap().contains("Max-Age=0"));
    }

    #[test]
    fn a_forged_token_is_refused_and_a_foreign_one_is_not_ours_to_judge() {
        let callers = callers();
        let foreign =
            Signer::new("elsewhere", None).sign("s", "ann", Subject::Session(SessionToken {}), None);
        let mut headers = MetadataMap::new();
        insert(&mut headers, "authorization", &format!("Bearer {}", Signer::to_text(&foreign)));
        let refused = callers.identify(&headers, &Extensions::default()).err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
        insert(&mut headers, "authorization", "Bearer some.static.token");
        assert!(callers.identify(&headers, &Extensions::default()).is_ok());
        insert(&mut headers, "authorization", "Negotiate abc");
        let refused = callers.identify(&headers, &Extensions::default()).err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    fn callers() -> Callers {
        let store = Store::new(StoreConfig {
            sessions_max: 10,
            idle_timeout: Duration::from_secs(60),
            catalog: "lake".to_string(),
            schema: "shop".to_string(),
            settings: Settings::default(),
        });
        Callers::new(store, Signer::new("s1", None))
    }
}
