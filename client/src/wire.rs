//! The channel below a connection: address, session cookie, bearer token.
//!
//! Servers keep a session by cookie or by the bearer of a handshake; arrow-flight's clients
//! keep neither cookie. [`Wire`] is a service around tonic's channel that remembers both and
//! sends them with every call. The rule: nothing here knows a Flight message.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, Result, innermost};

/// The port of an address that names none.
const PORT_DEFAULT: u16 = 32010;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pings find a server that is gone while a long query is silent.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Windows that one fast stream of results can fill.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// A server's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `host:port`.
    pub authority: String,
    /// User and password for the handshake, if the address names them.
    pub credentials: Option<(String, String)>,
}

impl Address {
    /// Reads `grpc://[user:password@]host[:port]`; `grpc+tcp` and `http` mean the same.
    pub fn parse(url: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::Url { url: url.to_string(), reason: reason.to_string() };
        let (scheme, rest) = url.split_once("://").unwrap_or(("grpc", url));
        match scheme {
            "grpc" | "grpc+tcp" | "http" => {}
            "grpc+tls" | "https" => return Err(invalid("TLS is not supported yet")),
            _ => return Err(invalid("it must begin with grpc://")),
        }
        let rest = rest.trim_end_matches('/');
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user.split_once(':').unwrap_or((user, ""))), host),
            None => (None, rest),
        };
        let uri: Uri = format!("http://{host}").parse().map_err(|_| invalid("it names no host"))?;
        let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("nothing may follow the port"));
        }
        if authority.host().is_empty() {
            return Err(invalid("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(PORT_DEFAULT);
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            credentials: credentials.map(|(user, password)| (user.to_string(), password.to_string())),
        })
    }
}

/// A channel that keeps the session.
#[derive(Clone)]
pub(crate) struct Wire {
    channel: Channel,
    state: Arc<Mutex<State>>,
}

/// What the server gave us to come back with.
#[derive(Default)]
struct State {
    cookies: BTreeMap<String, String>,
    /// The server's token of this session.
    bearer: Option<HeaderValue>,
    /// The user's own token, for as long as the server gives none.
    own: Option<HeaderValue>,
}

impl Wire {
    /// Connects; fails when nobody listens.
    pub async fn connect(url: &str, address: &Address) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{}", address.authority))
            .map_err(|error| Error::Url { url: url.to_string(), reason: innermost(&error) })?
            .user_agent(concat!("tarn-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Error::Url { url: url.to_string(), reason: innermost(&error) })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(2 * STREAM_WINDOW_BYTES);
        let channel = endpoint.connect().await.map_err(|source| Error::Connect {
            url: url.to_string(),
            reason: innermost(&source),
            source,
        })?;
        Ok(Self { channel, state: Arc::default() })
    }

    /// Sends this token with every call.
    pub fn set_bearer(&self, token: &str) -> Result<()> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::Protocol("the token is not printable ASCII".into()))?;
        value.set_sensitive(true);
        self.state().own = Some(value);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn write(&self, headers: &mut HeaderMap) {
        if let Some(bearer) = self.bearer.as_ref().or(self.own.as_ref()) {
            headers.entry(header::AUTHORIZATION).or_insert_with(|| bearer.clone());
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<_> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if let Ok(value) = HeaderValue::from_str(&cookies.join("; ")) {
                headers.insert(header::COOKIE, value);
            }
        }
    }

    fn read(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            let Some((name, value, expired)) = cookie.to_str().ok().and_then(parse_cookie) else { continue };
            if expired {
                // The session is over, and so is its token: the next call opens another.
                self.cookies.remove(&name);
                self.bearer = None;
            } else {
                self.cookies.insert(name, value);
            }
        }
        if let Some(value) = headers.get(header::AUTHORIZATION)
            && value.to_str().is_ok_and(|text| text.starts_with("Bearer "))
        {
            self.bearer = Some(value.clone());
        }
    }
}

/// Name, value, and whether the cookie ends now. Path, domain and dates do not matter for one
/// connection to one server.
fn parse_cookie(text: &str) -> Option<(String, String, bool)> {
    let mut parts = text.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let expired = parts.any(|part| part.eq_ignore_ascii_case("max-age=0"));
    Some((name.trim().to_string(), value.trim().to_string(), expired))
}

impl Service<Request<tonic::body::Body>> for Wire {
    type Response = Response<tonic::body::Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        self.state().write(request.headers_mut());
        let answer = self.channel.call(request);
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            let response = answer.await?;
            state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).read(response.headers());
            Ok(response)
        })
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_takes_the_usual_spellings() {
        for url in ["grpc://db:32010", "grpc+tcp://db:32010/", "http://db:32010", "db", "grpc://db"] {
            assert_eq!(Address::parse(url).unwrap().authority, "db:32010", "{url}");
        }
        assert_eq!(Address::parse("grpc://[::1]:7").unwrap().authority, "[::1]:7");
        let with_user = Address::parse("grpc://ann:se:cret@db:1").unwrap();
        assert_eq!(with_user.credentials, Some(("ann".into(), "se:cret".into())));
        for url in ["ftp://db", "grpc://", "grpc+tls://db", "grpc://db/path"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn cookies_are_kept_and_dropped() {
        let mut state = State::default();
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, "a=1; Path=/; HttpOnly".parse().unwrap());
        headers.append(header::SET_COOKIE, "b=2".parse().unwrap());
        state.read(&headers);
        let mut sent = HeaderMap::new();
        state.write(&mut sent);
        assert_eq!(sent[header::COOKIE], "a=1; b=2");

        headers.clear();
        headers.append(header::SET_COOKIE, "a=; Max-Age=0".parse().unwrap());
        state.read(&headers);
        state.write(&mut sent);
        assert_eq!(sent[header::COOKIE], "b=2");
    }
}
