//! Building the store of one S3 bucket, or of the part of one that a catalog vended a key for.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};

use super::Config;
use super::client::{self, environment as key};
use super::credentials::{Credential, Credentials, VendedKey};

/// Used if no region is configured; servers other than AWS accept any.
const REGION_DEFAULT: &str = "us-east-1";

/// What a catalog may say about the store itself, besides keys.
pub(super) const SETTINGS: [&str; 4] = ["s3.endpoint", "s3.region", "client.region", "s3.path-style-access"];

/// The store of one bucket. Nothing is requested yet.
pub(super) fn build(config: &Config, bucket: &str) -> object_store::Result<AmazonS3> {
    with_own_key(builder(config, bucket)).build()
}

/// The store of the part of a bucket that a catalog vended a key for. Whatever the catalog does not say is as the
/// configuration has it; the key is asked for anew with each request, so that its successor is used at once.
pub(super) fn build_vended(
    config: &Config,
    bucket: &str,
    credential: &Credential,
    prefix: &str,
    credentials: &Credentials,
) -> object_store::Result<AmazonS3> {
    let mut builder = builder(config, bucket);
    let [endpoint, region, client_region, path_style] = SETTINGS.map(|key| credential.property(key));
    if let Some(endpoint) = endpoint {
        // A server that is trusted with the names of all tables may say that it has no TLS.
        let options = client::options(config, config.s3.allow_http || endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint).with_client_options(options);
    }
    if let Some(region) = region.or(client_region) {
        builder = builder.with_region(region);
    }
    if let Some(path_style) = path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style.eq_ignore_ascii_case("true"));
    }
    if !credential.has_key() {
        return with_own_key(builder).build();
    }
    builder.with_credentials(Arc::new(VendedSigner(VendedKey::new(prefix, credentials)))).build()
}

/// The signing key of a prefix, whichever is the newest.
#[derive(Debug)]
struct VendedSigner(VendedKey);

#[async_trait]
impl CredentialProvider for VendedSigner {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        const MISSING: &str = "the credentials that the catalog vended are not whole";
        let make = |credential: &Credential| {
            let part = |key: &str| credential.property(key).map(str::to_owned);
            Ok(AwsCredential {
                key_id: part("s3.access-key-id").ok_or(MISSING)?,
                secret_key: part("s3.secret-access-key").ok_or(MISSING)?,
                token: part("s3.session-token"),
            })
        };
        self.0.current("S3", make).await
    }
}

fn builder(config: &Config, bucket: &str) -> AmazonS3Builder {
    let s3 = &config.s3;
    let mut builder = AmazonS3Builder::new()
        .with_client_options(client::options(config, s3.allow_http))
        .with_retry(client::retry(config))
        .with_bucket_name(bucket)
        .with_region(s3.region.as_deref().unwrap_or(REGION_DEFAULT))
        .with_virtual_hosted_style_request(!s3.path_style);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder
}

/// Signs with the key of this process's environment, or not at all.
fn with_own_key(builder: AmazonS3Builder) -> AmazonS3Builder {
    match (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let builder = builder.with_access_key_id(id.expose()).with_secret_access_key(secret.expose());
            match key("AWS_SESSION_TOKEN") {
                Some(token) => builder.with_token(token.expose()),
                None => builder,
            }
        }
        // Otherwise the client would ask an instance metadata service, which hangs where there is none.
        _ => builder.with_skip_signature(true),
    }
}
