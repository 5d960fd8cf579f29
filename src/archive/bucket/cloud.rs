//! Object stores far away: S3 and what speaks like it, Azure Blob Storage, Google Cloud Storage. Built in by the features
//! `s3`, `azure` and `gcs`.
//!
//! Credentials: those of the settings, else what the environment names (`AWS_…`, `AZURE_…`, `GOOGLE_…`), else the machine's
//! own role. Invariant: a request ends by itself; trying again for long is the archiver's business, which says so on the
//! board. Nothing here shows a secret.

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;

use super::super::Error;

/// How to reach the store of a URL. What is empty comes from the environment.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CloudOptions {
    /// Address of a server that is not the cloud's own: `https://minio.example:9000`.
    pub endpoint: String,
    /// Region of an S3 bucket.
    pub region: String,
    /// Name of the key: access key id (S3), storage account (Azure).
    pub access_key_id: String,
    /// The key: secret access key (S3), account key (Azure), service account as JSON (Google).
    pub secret_access_key: String,
    /// The bucket is part of the host's name (`bucket.host`) rather than of the path.
    pub is_virtual_hosted: bool,
}

impl fmt::Debug for CloudOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudOptions").field("endpoint", &self.endpoint).field("region", &self.region).finish()
    }
}

/// An object store, and the folder in it.
pub(super) type Opened = (Arc<dyn ObjectStore>, String);

/// The store of `url` and the folder in it; `None` = not a scheme of clouds.
pub(super) fn open(url: &str, options: &CloudOptions) -> Option<Result<Opened, Error>> {
    let (scheme, rest) = url.split_once("://")?;
    let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
    let bad = || Err(Error::BadUrl { url: url.to_owned() });
    let feature = match scheme {
        "s3" => "s3",
        "az" => "azure",
        "gs" => "gcs",
        _ => return None,
    };
    if bucket.is_empty() || bucket.contains(['@', '?', ':']) || folder.contains('?') {
        return Some(bad());
    }
    let store = match scheme {
        #[cfg(feature = "s3")]
        "s3" => s3(bucket, options),
        #[cfg(feature = "azure")]
        "az" => azure(bucket, options),
        #[cfg(feature = "gcs")]
        "gs" => google(bucket, options),
        _ => Err(Error::NotBuilt { scheme: scheme.to_owned(), feature }),
    };
    #[cfg(not(any(feature = "s3", feature = "azure", feature = "gcs")))]
    let _ = options;
    Some(store.map(|store| (store, folder.trim_matches('/').to_owned())))
}

#[cfg(any(feature = "s3", feature = "azure", feature = "gcs"))]
mod clients {
    use std::time::Duration;

    use object_store::{BackoffConfig, ClientOptions, RetryConfig};

    use super::CloudOptions;

    /// Time for one request and its answer; an object of 16 MiB at 2 Mbit/s takes a minute.
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Requests over TLS unless the endpoint says otherwise.
    pub(super) fn client(options: &CloudOptions) -> ClientOptions {
        // The HTTP client takes the process's provider. A second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(options.endpoint.starts_with("http://"))
    }

    /// A hiccup is not worth a line in the log, an absence is.
    pub(super) fn retry() -> RetryConfig {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            ..BackoffConfig::default()
        };
        RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_secs(10) }
    }
}

/// Every request that has no answer is an error worth trying again; a wrong setting is one of the start.
#[cfg(any(feature = "s3", feature = "azure", feature = "gcs"))]
fn opened<S: ObjectStore>(built: object_store::Result<S>) -> Result<Arc<dyn ObjectStore>, Error> {
    match built {
        Ok(store) => Ok(Arc::new(store)),
        Err(source) => Err(Error::Cloud { source }),
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &str, options: &CloudOptions) -> Result<Arc<dyn ObjectStore>, Error> {
    use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(clients::client(options))
        .with_retry(clients::retry())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_virtual_hosted_style_request(options.is_virtual_hosted);
    if !options.endpoint.is_empty() {
        builder = builder.with_endpoint(&options.endpoint).with_allow_http(options.endpoint.starts_with("http://"));
    }
    if !options.region.is_empty() {
        builder = builder.with_region(&options.region);
    }
    if !options.access_key_id.is_empty() {
        builder = builder.with_access_key_id(&options.access_key_id).with_secret_access_key(&options.secret_access_key);
    }
    opened(builder.build())
}

#[cfg(feature = "azure")]
fn azure(container: &str, options: &CloudOptions) -> Result<Arc<dyn ObjectStore>, Error> {
    use object_store::azure::MicrosoftAzureBuilder;
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(clients::client(options))
        .with_retry(clients::retry());
    if !options.endpoint.is_empty() {
        builder = builder.with_endpoint(options.endpoint.clone());
    }
    if !options.access_key_id.is_empty() {
        builder = builder.with_account(&options.access_key_id).with_access_key(&options.secret_access_key);
    }
    opened(builder.build())
}

#[cfg(feature = "gcs")]
fn google(bucket: &str, options: &CloudOptions) -> Result<Arc<dyn ObjectStore>, Error> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(clients::client(options))
        .with_retry(clients::retry());
    if !options.endpoint.is_empty() {
        builder = builder.with_base_url(&options.endpoint);
    }
    if !options.secret_access_key.is_empty() {
        builder = builder.with_service_account_key(&options.secret_access_key);
    }
    opened(builder.build())
}
