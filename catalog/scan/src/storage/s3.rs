//! Building the store of one S3 bucket.

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::Config;

/// Used if no region is configured; servers other than AWS accept any.
const REGION_DEFAULT: &str = "us-east-1";

/// The store of one bucket. Nothing is requested yet.
pub(super) fn build(config: &Config, bucket: &str) -> object_store::Result<AmazonS3> {
    let s3 = &config.s3;
    let client = ClientOptions::new()
        .with_timeout(config.request_timeout())
        .with_connect_timeout(config.connect_timeout())
        .with_pool_max_idle_per_host(config.concurrent_requests_max)
        .with_allow_http(s3.allow_http);
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: config.retries_max,
        retry_timeout: config.retry_timeout(),
    };
    let mut builder = AmazonS3Builder::new()
        .with_client_options(client)
        .with_retry(retry)
        .with_bucket_name(bucket)
        .with_region(s3.region.as_deref().unwrap_or(REGION_DEFAULT))
        .with_virtual_hosted_style_request(!s3.path_style);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    match (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = key("AWS_SESSION_TOKEN") {
                builder = builder.with_token(token);
            }
        }
        // Otherwise the client would ask an instance metadata service, which hangs where there is none.
        _ => builder = builder.with_skip_signature(true),
    }
    builder.build()
}

fn key(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
