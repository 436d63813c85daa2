//! Who we say we are: nobody, a token, or OAuth2 client credentials.
//!
//! A fetched token is renewed before it expires, by one request at a time; while the renewal fails
//! the old one serves until its end. The rule: a token that the server refused is not sent again.

use std::time::Duration;

use reqwest::header::HeaderValue;
use tarn_scan::storage::Secret;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::client::{Failure, failure, oauth_failure, read};
use super::config::RestConfig;
use super::messages::TokenResponse;

/// A token is renewed when less than this part of its life, or less than [`RENEWAL_MAX`], is left.
const RENEWAL_PART: f64 = 0.2;
const RENEWAL_MAX: Duration = Duration::from_secs(60);

/// Bytes of an answer with a token.
const TOKEN_BYTES_MAX: usize = 1 << 20;

pub(super) enum Auth {
    /// Nothing is sent.
    None,
    /// The same token always.
    Bearer(Secret),
    /// Tokens that are fetched.
    Oauth2(Box<Oauth2>),
}

pub(super) struct Oauth2 {
    uri: String,
    form: Vec<(&'static str, Secret)>,
    /// The token at hand; held while another is fetched, so that one is.
    token: Mutex<Option<Token>>,
}

struct Token {
    value: Secret,
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
}

impl Auth {
    /// As configured; tokens are fetched at `token_uri` unless the configuration names another place.
    pub(super) fn new(config: &RestConfig, token_uri: String) -> Self {
        if !config.credential.is_empty() {
            let credential = config.credential.expose();
            // A credential without a colon is a secret alone.
            let (id, secret) = match credential.split_once(':') {
                Some((id, secret)) => (Some(id), secret),
                None => (None, credential),
            };
            let mut form = vec![("grant_type", Secret::new("client_credentials"))];
            form.extend(id.map(|id| ("client_id", Secret::new(id))));
            form.push(("client_secret", Secret::new(secret)));
            form.push(("scope", Secret::new(&config.scope)));
            form.extend(config.audience.iter().map(|audience| ("audience", Secret::new(audience))));
            form.extend(config.resource.iter().map(|resource| ("resource", Secret::new(resource))));
            let uri = config.oauth2_uri.clone().unwrap_or(token_uri);
            return Self::Oauth2(Box::new(Oauth2 { uri, form, token: Mutex::new(None) }));
        }
        match config.token.is_empty() {
            true => Self::None,
            false => Self::Bearer(config.token.clone()),
        }
    }

    /// The header that says who we are.
    pub(super) async fn header(&self, http: &reqwest::Client) -> Result<Option<HeaderValue>, Failure> {
        let token = match self {
            Self::None => return Ok(None),
            Self::Bearer(token) => token.clone(),
            Self::Oauth2(oauth2) => oauth2.token(http).await?,
        };
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
            Failure::Unsent("the token cannot be sent: it holds control characters".to_owned())
        })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// The server did not take this header. Says whether another one may be had.
    pub(super) async fn refused(&self, header: Option<&HeaderValue>) -> bool {
        let Self::Oauth2(oauth2) = self else { return false };
        let mut token = oauth2.token.lock().await;
        let same = |token: &Token| {
            header.is_some_and(|header| {
                header.as_bytes() == format!("Bearer {}", token.value.expose()).as_bytes()
            })
        };
        if token.as_ref().is_some_and(same) {
            *token = None;
        }
        true
    }

    /// Texts that must not be shown.
    pub(super) async fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::None => Vec::new(),
            Self::Bearer(token) => vec![token.clone()],
            Self::Oauth2(oauth2) => {
                let token = oauth2.token.lock().await.as_ref().map(|token| token.value.clone());
                oauth2.secret().into_iter().chain(token).collect()
            }
        }
    }
}

impl Oauth2 {
    async fn token(&self, http: &reqwest::Client) -> Result<Secret, Failure> {
        let mut token = self.token.lock().await;
        let now = Instant::now();
        if let Some(token) = token.as_ref().filter(|token| token.renew_at.is_none_or(|at| now < at)) {
            return Ok(token.value.clone());
        }
        match self.fetch(http).await {
            Ok(fetched) => Ok(token.insert(fetched).value.clone()),
            Err(failure) => match token.as_ref().filter(|token| token.expires_at.is_none_or(|at| now < at)) {
                Some(token) => {
                    warn!("token of a catalog could not be renewed before its end");
                    Ok(token.value.clone())
                }
                None => Err(failure),
            },
        }
    }

    fn secret(&self) -> Vec<Secret> {
        let secret = self.form.iter().filter(|(key, _)| *key == "client_secret");
        secret.map(|(_, secret)| secret.clone()).collect()
    }

    async fn fetch(&self, http: &reqwest::Client) -> Result<Token, Failure> {
        let form: Vec<_> = self.form.iter().map(|(key, value)| (*key, value.expose())).collect();
        let asked = Instant::now();
        let response = http.post(&self.uri).form(&form).send().await.map_err(failure)?;
        let (status, body) = read(response, TOKEN_BYTES_MAX).await?;
        if !status.is_success() {
            return Err(oauth_failure(status, &body, &self.secret()));
        }
        // The parser's message would quote the answer.
        let answer: TokenResponse = serde_json::from_slice(&body)
            .map_err(|_| Failure::Lost("the answer with the token is not readable".to_owned()))?;
        let life = answer.expires_in.filter(|life| life.is_finite() && *life >= 0.0);
        let life = life.and_then(|life| Duration::try_from_secs_f64(life).ok());
        let margin = |life: Duration| life.mul_f64(RENEWAL_PART).min(RENEWAL_MAX);
        Ok(Token {
            value: Secret::new(answer.access_token),
            renew_at: life.and_then(|life| asked.checked_add(life - margin(life))),
            expires_at: life.and_then(|life| asked.checked_add(life)),
        })
    }
}
