//! What the settings of an object store must be, and what is said of those that cannot be.

use super::*;

fn options(access_key_id: &str, secret_access_key: &str) -> CloudOptions {
    let (access_key_id, secret_access_key) = (access_key_id.to_owned(), secret_access_key.to_owned());
    CloudOptions { access_key_id, secret_access_key, ..CloudOptions::default() }
}

#[cfg(any(feature = "azure", feature = "gcs"))]
fn refused(url: &str, options: &CloudOptions) -> String {
    open(url, options).expect("a cloud").expect_err("is refused").to_string()
}

#[cfg(feature = "s3")]
#[test]
fn a_bucket_is_part_of_the_path_or_of_the_hosts_name() {
    let check = |endpoint: &str, is_virtual_hosted, expected: &str| {
        let options = CloudOptions { endpoint: endpoint.to_owned(), is_virtual_hosted, ..options("", "") };
        assert_eq!(addressed("meters", &options), expected);
    };
    check("https://store.example:9000", false, "https://store.example:9000");
    check("https://store.example:9000", true, "https://meters.store.example:9000");
}

#[cfg(feature = "azure")]
#[test]
fn azure_wants_an_account_and_a_key_that_is_one_or_none() {
    assert!(
        refused("az://meters", &options("", "")).starts_with("archive.access_key_id must name the storage account")
    );
    let said = refused("az://meters", &options("fleet", "not base64!"));
    assert!(said.starts_with("archive.secret_access_key must be a key") && !said.contains("base64!"), "{said}");
    assert!(open("az://meters", &options("fleet", "")).unwrap().is_ok(), "with the machine's identity");
}

#[cfg(feature = "gcs")]
#[test]
fn google_wants_a_whole_service_account_and_says_nothing_of_what_it_got() {
    for damaged in ["\"secret\"", "{\"private_key\": \"secret\"}", "secret", "/run/secrets/account.json"] {
        let said = refused("gs://meters", &options("", damaged));
        assert!(said.starts_with("archive.secret_access_key must be the key of a Google"), "{said}");
        assert!(!said.contains("secret\"") && !said.contains("/run"), "{said}");
    }
}
