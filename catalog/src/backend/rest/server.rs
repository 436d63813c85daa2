//! What a REST catalog says about itself, and the paths that follow from it.
//!
//! Asked for once, when the catalog is first used: a catalog that is down does not keep the server
//! from starting. The rule: every name in a path is escaped here.

use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tarn_scan::storage::Secret;

use super::auth::Auth;
use super::client::{Call, Client, Failure};
use super::config::RestConfig;
use super::messages::{ConfigResponse, Properties};

/// All but what is never special in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const SEPARATOR_DEFAULT: &str = "%1F";

const CREDENTIALS_ENDPOINT: &str = "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials";

const VIEW_ENDPOINT: &str = "GET /v1/{prefix}/namespaces/{namespace}/views/{view}";

/// A server whose configuration is known.
pub(super) struct Server {
    pub(super) client: Client,
    /// `v1`, or `v1/<prefix>`.
    root: String,
    /// Between the levels of a namespace in paths, escaped.
    separator: String,
    /// What the server says about storage, for all its tables.
    pub(super) storage: Vec<(String, Secret)>,
    pub(super) has_credentials_endpoint: bool,
    /// Whether there can be views; a server that does not say what it has may have them.
    pub(super) has_views: bool,
}

impl Server {
    /// Asks a server for its configuration.
    pub(super) async fn connect(uri: &str, warehouse: &str, config: &RestConfig) -> Result<Self, Failure> {
        let uri = uri.trim_end_matches('/');
        let token_uri = |base: &str| format!("{}/v1/oauth/tokens", base.trim_end_matches('/'));
        let first = Client::new(uri, config, Auth::new(config, token_uri(uri)))?;
        let mut call = Call::get("v1/config".to_owned());
        if !warehouse.is_empty() {
            call = call.query("warehouse", warehouse);
        }
        let answer: ConfigResponse = first.send(call).await?.json()?;
        let mut properties = answer.defaults;
        properties.extend(answer.overrides);
        let client = match (properties.get("uri"), properties.get("oauth2-server-uri")) {
            (None, None) => first,
            (base, oauth2) => {
                let base = base.map_or(uri, String::as_str);
                let token = oauth2.map_or_else(|| token_uri(base), |oauth2| absolute(base, oauth2));
                Client::new(base, config, Auth::new(config, token))?
            }
        };
        let prefix = config.prefix.as_ref().or(properties.get("prefix"));
        let prefix = prefix.map(|prefix| prefix.trim_matches('/')).filter(|prefix| !prefix.is_empty());
        let separator = config.namespace_separator.as_ref().or(properties.get("namespace-separator"));
        let endpoints: HashSet<String> = answer.endpoints.into_iter().flatten().collect();
        Ok(Self {
            client,
            root: prefix.map_or_else(|| "v1".to_owned(), |prefix| format!("v1/{prefix}")),
            separator: separator.map_or(SEPARATOR_DEFAULT, String::as_str).to_owned(),
            storage: storage_properties(properties),
            has_views: endpoints.is_empty() || endpoints.contains(VIEW_ENDPOINT),
            has_credentials_endpoint: endpoints.contains(CREDENTIALS_ENDPOINT),
        })
    }

    pub(super) fn namespaces(&self) -> String {
        format!("{}/namespaces", self.root)
    }

    pub(super) fn namespace(&self, schema: &str) -> String {
        let levels: Vec<_> = schema.split('.').map(escaped).collect();
        format!("{}/namespaces/{}", self.root, levels.join(&self.separator))
    }

    pub(super) fn tables(&self, schema: &str) -> String {
        format!("{}/tables", self.namespace(schema))
    }

    pub(super) fn table(&self, schema: &str, table: &str) -> String {
        format!("{}/{}", self.tables(schema), escaped(table))
    }

    pub(super) fn views(&self, schema: &str) -> String {
        format!("{}/views", self.namespace(schema))
    }

    pub(super) fn view(&self, schema: &str, view: &str) -> String {
        format!("{}/{}", self.views(schema), escaped(view))
    }

    /// A namespace as the value of a query parameter, which is escaped once more on its way.
    pub(super) fn parent(&self, levels: &[String]) -> String {
        let separator = percent_decode_str(&self.separator).decode_utf8_lossy();
        levels.join(&separator)
    }
}

/// Those properties that are about storage.
pub(super) fn storage_properties(properties: Properties) -> Vec<(String, Secret)> {
    let about_storage = |key: &str| {
        ["s3.", "gcs.", "adls."].iter().any(|begin| key.starts_with(begin)) || key == "client.region"
    };
    let kept = properties.into_iter().filter(|(key, _)| about_storage(key));
    kept.map(|(key, value)| (key, Secret::new(value))).collect()
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, ESCAPED).to_string()
}

/// A place that may be given below the server's own.
fn absolute(base: &str, place: &str) -> String {
    match place.starts_with("http://") || place.starts_with("https://") {
        true => place.to_owned(),
        false => format!("{}/{}", base.trim_end_matches('/'), place.trim_start_matches('/')),
    }
}
