//! Object stores far away: S3 and what speaks like it, Azure Blob Storage, Google Cloud Storage. Built in by the features
//! `s3`, `azure` and `gcs`.
//!
//! Credentials: those of the settings, else what the environment names (`AWS_…`, `AZURE_…`, `GOOGLE_…`), else the machine's
//! own role; never a mixture, such as a key of the settings with a session token of the environment. All else that the
//! environment says (a proxy, a region) holds where the settings say nothing. Invariant: a request ends by itself; trying again
//! for long is the archiver's business, which says so on the board. Nothing here shows a secret.

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
    /// Name of the key: access key id (S3), storage account (Azure, also without a key).
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

    use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};

    use super::CloudOptions;

    /// Time for one request and its answer; an object of 16 MiB at 2 Mbit/s takes a minute.
    const REQUEST_TIMEOUT: &str = "120s";
    const CONNECT_TIMEOUT: &str = "5s";

    /// Has `set` say how requests are made: over TLS unless the endpoint says otherwise.
    pub(super) fn requests<B>(builder: B, options: &CloudOptions, set: impl Fn(B, ClientConfigKey, &str) -> B) -> B {
        // The HTTP client takes the process's provider. A second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = set(builder, ClientConfigKey::Timeout, REQUEST_TIMEOUT);
        let builder = set(builder, ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT);
        match options.endpoint.starts_with("http://") {
            true => set(builder, ClientConfigKey::AllowHttp, "true"),
            false => builder,
        }
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
    use object_store::StaticCredentialProvider;
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, S3ConditionalPut};
    let set = |builder: AmazonS3Builder, key, value: &str| builder.with_config(AmazonS3ConfigKey::Client(key), value);
    let mut builder = clients::requests(AmazonS3Builder::from_env(), options, set)
        .with_bucket_name(bucket)
        .with_retry(clients::retry())
        .with_conditional_put(S3ConditionalPut::ETagMatch);
    if options.is_virtual_hosted {
        builder = builder.with_virtual_hosted_style_request(true);
    }
    if !options.endpoint.is_empty() {
        builder = builder.with_endpoint(addressed(bucket, options));
    }
    if !options.region.is_empty() {
        builder = builder.with_region(&options.region);
    }
    if !options.secret_access_key.is_empty() {
        let (key_id, secret_key) = (options.access_key_id.clone(), options.secret_access_key.clone());
        let credential = AwsCredential { key_id, secret_key, token: None };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    opened(builder.build())
}

/// The endpoint, with the bucket before its host where that is how it is addressed.
#[cfg(feature = "s3")]
fn addressed(bucket: &str, options: &CloudOptions) -> String {
    match options.endpoint.split_once("://") {
        Some((scheme, host)) if options.is_virtual_hosted => format!("{scheme}://{bucket}.{host}"),
        _ => options.endpoint.clone(),
    }
}

#[cfg(feature = "azure")]
fn azure(container: &str, options: &CloudOptions) -> Result<Arc<dyn ObjectStore>, Error> {
    use object_store::StaticCredentialProvider;
    use object_store::azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
    let set =
        |builder: MicrosoftAzureBuilder, key, value: &str| builder.with_config(AzureConfigKey::Client(key), value);
    let mut builder = clients::requests(MicrosoftAzureBuilder::from_env(), options, set)
        .with_container_name(container)
        .with_retry(clients::retry());
    if !options.endpoint.is_empty() {
        builder = builder.with_endpoint(options.endpoint.clone());
    }
    if !options.access_key_id.is_empty() {
        builder = builder.with_account(&options.access_key_id);
    }
    if !options.secret_access_key.is_empty() {
        let wrong = |_| Error::Setting {
            setting: "archive.secret_access_key",
            wanted: "must be a key of the storage account, which is base64",
        };
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(&options.secret_access_key).map_err(wrong)?);
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(key)));
    }
    let says = |key| builder.get_config_value(&key);
    if says(AzureConfigKey::AccountName).is_none() && says(AzureConfigKey::UseEmulator).is_none_or(|is| is == "false") {
        let wanted = "must name the storage account of an archive at az:// (or AZURE_STORAGE_ACCOUNT_NAME does)";
        return Err(Error::Setting { setting: "archive.access_key_id", wanted });
    }
    opened(builder.build())
}

#[cfg(feature = "gcs")]
fn google(bucket: &str, options: &CloudOptions) -> Result<Arc<dyn ObjectStore>, Error> {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    let set =
        |builder: GoogleCloudStorageBuilder, key, value: &str| builder.with_config(GoogleConfigKey::Client(key), value);
    let has_key = !options.secret_access_key.is_empty();
    let builder = match has_key {
        // Another account of the environment would be one too many.
        true => GoogleCloudStorageBuilder::new().with_service_account_key(&options.secret_access_key),
        false => GoogleCloudStorageBuilder::from_env(),
    };
    let mut builder = clients::requests(builder, options, set).with_bucket_name(bucket).with_retry(clients::retry());
    if !options.endpoint.is_empty() {
        builder = builder.with_base_url(&options.endpoint);
    }
    match builder.build() {
        // What is wrong with it would be said by showing some of it.
        Err(_) if has_key => Err(Error::Setting {
            setting: "archive.secret_access_key",
            wanted: "must be the key of a Google service account: its JSON, with the private key whole",
        }),
        built => opened(built),
    }
}

#[cfg(all(test, any(feature = "s3", feature = "azure", feature = "gcs")))]
#[path = "cloud_tests.rs"]
mod tests;
