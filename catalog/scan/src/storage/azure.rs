//! Building the store of one container of an Azure storage account, or of the part of one that a catalog vended a
//! key for.
//!
//! The authority of a location is `container@account.dfs.core.windows.net` (or `.blob.`), as Hadoop writes it. The
//! host decides nothing but the account: requests go to the account's blob service, or to the configured endpoint.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::azure::{AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder};

use super::credentials::{Credential, Credentials, VendedKey};
use super::{Config, client};

/// Begins the names of vended keys; the account, with or without its host, follows.
const SAS_TOKEN: &str = "adls.sas-token.";

/// The store of one container. Nothing is requested yet.
pub(super) fn build(config: &Config, authority: &str) -> object_store::Result<MicrosoftAzure> {
    let place = Place::parse(config, authority)?;
    with_own_key(builder(config, &place)).build()
}

/// The store of the part of a container that a catalog vended a key for; the key is asked for anew with each request.
pub(super) fn build_vended(
    config: &Config,
    authority: &str,
    credential: &Credential,
    prefix: &str,
    credentials: &Credentials,
) -> object_store::Result<MicrosoftAzure> {
    let place = Place::parse(config, authority)?;
    let builder = builder(config, &place);
    if !credential.has_key() {
        return with_own_key(builder).build();
    }
    let (key, account) = (VendedKey::new(prefix, credentials), place.account.to_owned());
    builder.with_credentials(Arc::new(VendedToken { key, account })).build()
}

struct Place<'a> {
    container: &'a str,
    account: &'a str,
    /// OneLake, which has hosts of its own.
    fabric: bool,
}

impl<'a> Place<'a> {
    fn parse(config: &'a Config, authority: &'a str) -> object_store::Result<Self> {
        let (container, host) = match authority.split_once('@') {
            Some((container, host)) => (container, Some(host)),
            None => (authority, None),
        };
        let account = match host {
            Some(host) => host.split('.').next().filter(|account| !account.is_empty()),
            None => config.azure.account.as_deref(),
        };
        let fabric = host.is_some_and(|host| host.ends_with(".fabric.microsoft.com"));
        match account {
            Some(account) if !container.is_empty() => Ok(Self { container, account, fabric }),
            _ => {
                let reason = format!(
                    "{authority:?} is not container@account.dfs.core.windows.net, and storage.azure.account is not set"
                );
                Err(object_store::Error::Generic { store: "Azure", source: reason.into() })
            }
        }
    }
}

/// The token of a prefix, whichever is the newest.
#[derive(Debug)]
struct VendedToken {
    key: VendedKey,
    account: String,
}

#[async_trait]
impl CredentialProvider for VendedToken {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let make = |credential: &Credential| {
            let token = sas_token(credential, &self.account);
            let token = token.ok_or("the credentials that the catalog vended are for other accounts")?;
            Ok(AzureCredential::SASToken(query_pairs(token)))
        };
        self.key.current("Azure", make).await
    }
}

fn sas_token<'a>(credential: &'a Credential, account: &str) -> Option<&'a str> {
    credential.properties.iter().find_map(|(key, value)| {
        let named = key.strip_prefix(SAS_TOKEN)?;
        (named.split('.').next() == Some(account)).then(|| value.expose())
    })
}

/// The parts of a token, decoded: they are encoded again when a request is made.
fn query_pairs(token: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(token.trim_start_matches('?').as_bytes()).into_owned().collect()
}

fn builder(config: &Config, place: &Place<'_>) -> MicrosoftAzureBuilder {
    let endpoint = config.azure.endpoint.as_deref();
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let builder = MicrosoftAzureBuilder::new()
        .with_client_options(client::options(config, allow_http))
        .with_retry(client::retry(config))
        .with_account(place.account)
        .with_use_fabric_endpoint(place.fabric)
        .with_container_name(place.container);
    match endpoint {
        Some(endpoint) => builder.with_endpoint(endpoint.trim_end_matches('/').to_owned()),
        None => builder,
    }
}

/// Authorises with what this process's environment holds, or not at all.
fn with_own_key(builder: MicrosoftAzureBuilder) -> MicrosoftAzureBuilder {
    let key = client::environment;
    if let Some(account_key) = key("AZURE_STORAGE_ACCOUNT_KEY") {
        return builder.with_access_key(account_key.expose());
    }
    if let Some(token) = key("AZURE_STORAGE_SAS_TOKEN") {
        return builder.with_sas_authorization(query_pairs(token.expose()));
    }
    match (key("AZURE_TENANT_ID"), key("AZURE_CLIENT_ID"), key("AZURE_CLIENT_SECRET")) {
        (Some(tenant), Some(id), Some(secret)) => {
            builder.with_client_secret_authorization(id.expose(), secret.expose(), tenant.expose())
        }
        // Otherwise the client would ask an instance metadata service, which hangs where there is none.
        _ => builder.with_skip_signature(true),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{AzureConfig, Secret};
    use super::*;

    #[test]
    fn authority_names_container_and_account() {
        let mut config = Config::default();
        let place = |config: &Config, authority: &str| {
            let place = Place::parse(config, authority).map_err(|error| error.to_string())?;
            Ok::<_, String>(format!("{} {}", place.container, place.account))
        };
        assert_eq!(place(&config, "c@acc.dfs.core.windows.net").unwrap(), "c acc");
        assert_eq!(place(&config, "c@acc.blob.core.windows.net").unwrap(), "c acc");
        assert!(place(&config, "c").unwrap_err().contains("storage.azure.account"));
        assert!(place(&config, "@acc").is_err());
        config.azure = AzureConfig { account: Some("own".to_owned()), ..AzureConfig::default() };
        assert_eq!(place(&config, "c").unwrap(), "c own");
    }

    #[test]
    fn vended_token_is_that_of_the_account() {
        let vended = [
            ("adls.sas-token.other", "sv=1&sig=x"),
            ("adls.sas-token.acc.dfs.core.windows.net", "?sv=2&sig=a%2Bb%3D"),
        ];
        let properties: BTreeMap<_, _> =
            vended.map(|(key, value)| (key.to_owned(), Secret::new(value))).into();
        let credential = Credential { prefix: "abfss://c@acc".to_owned(), properties };
        let token = sas_token(&credential, "acc").unwrap();
        let pairs = query_pairs(token);
        assert_eq!(pairs, [("sv", "2"), ("sig", "a+b=")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(sas_token(&credential, "ac").is_none());
    }
}
