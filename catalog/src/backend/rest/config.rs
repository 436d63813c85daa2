//! How a REST catalog is spoken to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarn_scan::storage::Secret;
use url::Url;

/// Section `rest` of a catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestConfig {
    /// Client credentials for OAuth2, as `id:secret`; a token is fetched with them and renewed before it expires.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub credential: Secret,
    /// A token that is sent as it is; `credential` goes before it.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub token: Secret,
    /// Where tokens are fetched; not set is where the catalog says, else `v1/oauth/tokens` below its URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2_uri: Option<String>,
    /// Scope of the token.
    pub scope: String,
    /// Audience of the token, if the server wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Resource of the token, if the server wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Headers that each request carries.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// What stands in front of `namespaces` in paths; not set is as the catalog says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What stands between the levels of a namespace in paths; not set is as the catalog says, else `%1F`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_separator: Option<String>,
    /// Whether namespaces may lie in namespaces. Not asking saves one request a namespace in listings.
    pub nested_namespaces: bool,
    /// Ask the catalog for keys to storage with each table.
    pub vended_credentials: bool,
    /// Deadline of one request.
    pub request_timeout_ms: u64,
    /// How often a request that changes nothing is tried again.
    pub retries_max: u32,
}

impl Default for RestConfig {
    fn default() -> Self {
        Self {
            credential: Secret::default(),
            token: Secret::default(),
            oauth2_uri: None,
            scope: "catalog".to_owned(),
            audience: None,
            resource: None,
            headers: BTreeMap::new(),
            prefix: None,
            namespace_separator: None,
            nested_namespaces: true,
            vended_credentials: true,
            request_timeout_ms: 30_000,
            retries_max: 4,
        }
    }
}

impl RestConfig {
    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// Every fault of this section and of the catalog's URI; keys are those of the catalog.
    pub(crate) fn validate(&self, uri: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut url = |key: &str, text: &str| match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => {
                if url.password().is_some() || !url.username().is_empty() {
                    faults.push(format!("{key}: user and password do not stand in a URL"));
                }
            }
            _ => faults.push(format!("{key}: {text:?} is not a URL of http or https")),
        };
        url("uri", uri);
        if let Some(oauth2) = &self.oauth2_uri {
            url("rest.oauth2_uri", oauth2);
        }
        for (name, value) in &self.headers {
            if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err()
                || reqwest::header::HeaderValue::from_str(value.expose()).is_err()
            {
                faults.push(format!("rest.headers.{name}: not a header"));
            }
        }
        if self.request_timeout_ms == 0 {
            faults.push("rest.request_timeout_ms: 0 leaves no time".to_owned());
        }
        faults
    }
}
