//! The bodies of Iceberg's REST protocol, as far as they are used.
//!
//! Unknown fields are ignored: servers add their own. What may hold keys has no `Debug`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Properties; a server's `null` is no property.
pub(super) type Properties = BTreeMap<String, String>;

#[derive(Deserialize)]
pub(super) struct ConfigResponse {
    #[serde(default, deserialize_with = "properties")]
    pub(super) defaults: Properties,
    #[serde(default, deserialize_with = "properties")]
    pub(super) overrides: Properties,
    pub(super) endpoints: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct TokenResponse {
    pub(super) access_token: String,
    pub(super) expires_in: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct ErrorResponse {
    pub(super) error: ErrorModel,
}

#[derive(Deserialize)]
pub(super) struct ErrorModel {
    #[serde(default)]
    pub(super) message: Option<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
}

/// The error of a token endpoint that follows OAuth2.
#[derive(Deserialize)]
pub(super) struct OauthError {
    pub(super) error: String,
    pub(super) error_description: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Namespaces {
    #[serde(default)]
    pub(super) namespaces: Vec<Vec<String>>,
    #[serde(rename = "next-page-token")]
    pub(super) next_page_token: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Namespace {
    #[serde(default, deserialize_with = "properties")]
    pub(super) properties: Properties,
}

#[derive(Deserialize)]
pub(super) struct Identifiers {
    #[serde(default)]
    pub(super) identifiers: Vec<Identifier>,
    #[serde(rename = "next-page-token")]
    pub(super) next_page_token: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Identifier {
    pub(super) namespace: Vec<String>,
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct LoadTable {
    #[serde(rename = "metadata-location")]
    pub(super) metadata_location: Option<String>,
    pub(super) metadata: Box<RawValue>,
    #[serde(default, deserialize_with = "properties")]
    pub(super) config: Properties,
    #[serde(default, rename = "storage-credentials", deserialize_with = "nullable")]
    pub(super) storage_credentials: Vec<StorageCredential>,
}

#[derive(Deserialize)]
pub(super) struct LoadCredentials {
    #[serde(default, rename = "storage-credentials", deserialize_with = "nullable")]
    pub(super) storage_credentials: Vec<StorageCredential>,
}

#[derive(Deserialize)]
pub(super) struct StorageCredential {
    pub(super) prefix: String,
    #[serde(default, deserialize_with = "properties")]
    pub(super) config: Properties,
}

#[derive(Deserialize)]
pub(super) struct CommitTable {
    #[serde(rename = "metadata-location")]
    pub(super) metadata_location: String,
    pub(super) metadata: Box<RawValue>,
}

#[derive(Deserialize)]
pub(super) struct LoadView {
    #[serde(rename = "metadata-location")]
    pub(super) metadata_location: String,
    pub(super) metadata: Box<RawValue>,
}

fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Properties, D::Error> {
    let given: Option<BTreeMap<String, Option<String>>> = Deserialize::deserialize(deserializer)?;
    Ok(given.into_iter().flatten().filter_map(|(key, value)| Some((key, value?))).collect())
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let given: Option<Vec<T>> = Deserialize::deserialize(deserializer)?;
    Ok(given.unwrap_or_default())
}
