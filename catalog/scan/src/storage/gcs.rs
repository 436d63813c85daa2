//! Building the store of one bucket of Google Cloud Storage, or of the part of one that a catalog vended a key for.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder};

use super::credentials::{Credential, Credentials, VendedKey};
use super::{Config, client};

/// What a catalog may say about the store itself, besides keys.
pub(super) const SETTINGS: [&str; 1] = ["gcs.service.host"];

/// The store of one bucket. Nothing is requested yet.
pub(super) fn build(config: &Config, bucket: &str) -> object_store::Result<GoogleCloudStorage> {
    with_own_key(builder(config, bucket, config.gcs.endpoint.as_deref())).build()
}

/// The store of the part of a bucket that a catalog vended a key for; the key is asked for anew with each request.
pub(super) fn build_vended(
    config: &Config,
    bucket: &str,
    credential: &Credential,
    prefix: &str,
    credentials: &Credentials,
) -> object_store::Result<GoogleCloudStorage> {
    let [endpoint] = SETTINGS.map(|key| credential.property(key));
    let builder = builder(config, bucket, endpoint.or(config.gcs.endpoint.as_deref()));
    if !credential.has_key() {
        return with_own_key(builder).build();
    }
    builder.with_credentials(Arc::new(VendedToken(VendedKey::new(prefix, credentials)))).build()
}

/// The token of a prefix, whichever is the newest.
#[derive(Debug)]
struct VendedToken(VendedKey);

#[async_trait]
impl CredentialProvider for VendedToken {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let make = |credential: &Credential| {
            let token = credential.property("gcs.oauth2.token");
            let token = token.ok_or("the credentials that the catalog vended hold no token")?;
            Ok(GcpCredential { bearer: token.to_owned() })
        };
        self.0.current("GCS", make).await
    }
}

fn builder(config: &Config, bucket: &str, endpoint: Option<&str>) -> GoogleCloudStorageBuilder {
    // An endpoint that was written down without TLS is meant so.
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let builder = GoogleCloudStorageBuilder::new()
        .with_client_options(client::options(config, allow_http))
        .with_retry(client::retry(config))
        .with_bucket_name(bucket);
    match endpoint {
        Some(endpoint) => builder.with_base_url(endpoint.trim_end_matches('/')),
        None => builder,
    }
}

/// Authorises with the account that this process's environment names, or not at all.
fn with_own_key(builder: GoogleCloudStorageBuilder) -> GoogleCloudStorageBuilder {
    match client::environment("GOOGLE_APPLICATION_CREDENTIALS") {
        Some(file) => builder.with_application_credentials(file.expose()),
        None => {
            // An empty token and no signature; otherwise the client would look for a key in the home folder and then
            // ask a metadata service, which hangs where there is none.
            let nobody = GcpCredential { bearer: String::new() };
            let provider = object_store::StaticCredentialProvider::new(nobody);
            builder.with_credentials(Arc::new(provider)).with_skip_signature(true)
        }
    }
}
