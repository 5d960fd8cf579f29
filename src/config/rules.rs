//! Rules between keys: what follows from others, and what contradicts them.
//!
//! Pure: whether a file is there is not asked here. Each key alone has passed its own check before.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::keys::Settings;

/// Where MQTT in TLS is by itself, once there is a certificate.
pub const TLS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8883);

/// Keys that break a rule, and which.
pub(super) fn broken(s: &Settings) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut rule = |holds: bool, key: &'static str, message: String| {
        if !holds {
            found.push((key, message));
        }
    };
    let (segment, all) = (s.journal.segment_bytes, s.journal.max_bytes);
    rule(all / 2 >= segment, "journal.max_bytes", format!("must be at least twice journal.segment_bytes ({segment})"));
    let packet = s.mqtt.max_packet_bytes;
    let holds_a_packet = || format!("must be at least mqtt.max_packet_bytes ({packet})");
    rule(s.journal.queue_bytes >= packet, "journal.queue_bytes", holds_a_packet());
    rule(s.collector.batch_bytes >= packet, "collector.batch_bytes", holds_a_packet());
    let beat = s.nodes.heartbeat_s;
    let beats_twice = format!("must be at least twice nodes.heartbeat_s ({beat})");
    rule(s.nodes.timeout_s >= 2 * beat, "nodes.timeout_s", beats_twice);
    let has_web_socket = s.mqtt.ws_listen.is_some() || s.mqtt.wss_listen.is_some();
    rule(!has_web_socket || s.mqtt.ws_max_message_bytes >= packet, "mqtt.ws_max_message_bytes", holds_a_packet());
    for (holds, key, message) in object_store_keys(s) {
        rule(holds, key, message.to_owned());
    }
    for (key, url) in [("database.url", s.database.url.reveal()), ("archive.url", s.archive.url.as_str())] {
        if let Some((scheme, feature)) = not_built_for(url) {
            let message = format!(
                "this program was built without the feature `{feature}`, which `{scheme}://` needs: build it with `cargo build --release --features {feature}`"
            );
            rule(false, key, message);
        }
    }
    let files = [("mqtt.tls_cert_file", &s.mqtt.tls_cert_file), ("mqtt.tls_key_file", &s.mqtt.tls_key_file)];
    for (place, (key, file)) in files.into_iter().enumerate() {
        let (other, other_file) = files[1 - place];
        rule(file.is_some() || other_file.is_none(), key, format!("is needed by {other}"));
    }
    let has_ca = s.mqtt.tls_client_ca_file.is_some();
    rule(
        has_ca || s.mqtt.tls_crl_file.is_none(),
        "mqtt.tls_crl_file",
        "is of no use without mqtt.tls_client_ca_file".to_owned(),
    );
    let (oidc, is_on) = (&s.oidc, !s.oidc.issuer.is_empty());
    let is_used = !oidc.audience.is_empty() || !oidc.client_id.is_empty();
    rule(!is_on || is_used, "oidc.issuer", "is of no use without oidc.audience or oidc.client_id".to_owned());
    rule(is_on || !is_used, "oidc.issuer", "is needed by oidc.audience and oidc.client_id".to_owned());
    let (has_client, has_redirect) = (!oidc.client_id.is_empty(), !oidc.redirect_url.is_empty());
    rule(has_redirect || !has_client, "oidc.redirect_url", "is needed by oidc.client_id".to_owned());
    let one_source = oidc.jwks_file.is_none() || oidc.jwks_url.is_empty();
    rule(one_source, "oidc.jwks_url", "is given as well as oidc.jwks_file; one of them is enough".to_owned());
    rule(!is_on || !oidc.algorithms.is_empty(), "oidc.algorithms", "must name at least one".to_owned());
    rule(!is_on || !oidc.role_claim.is_empty(), "oidc.role_claim", "is wanted".to_owned());
    let (github, is_sent) = (&s.github, s.github.dry_run != Some(true));
    let has_token = github.token.is_some();
    rule(
        has_token || github.dry_run != Some(false),
        "github.token",
        "is needed where github.dry_run is false".to_owned(),
    );
    let has_repository = !github.repository.is_empty();
    rule(has_repository || !(has_token && is_sent), "github.repository", "is needed by github.token".to_owned());
    rule(!github.api_url.is_empty(), "github.api_url", "is wanted".to_owned());
    let is_long = s.alertmanager.token.as_ref().is_none_or(|token| token.reveal().len() >= 20);
    rule(is_long, "alertmanager.token", "must be at least 20 characters".to_owned());
    let can_send = cfg!(feature = "otel") || s.trace.endpoint.is_empty();
    rule(can_send, "trace.endpoint", "needs an executable built with --features otel; this one is not".to_owned());
    let listeners = s.listeners();
    for (place, (key, address)) in listeners.into_iter().enumerate() {
        let before = &listeners[..place];
        let is_taken = address.is_some_and(|a| a.port() != 0 && before.iter().any(|(_, other)| *other == Some(a)));
        rule(!is_taken, key, "is the address of another listener".to_owned());
    }
    found
}

/// The scheme of a URL that this program cannot use, and the feature it would need.
fn not_built_for(url: &str) -> Option<(&str, &'static str)> {
    let (scheme, _) = url.split_once("://")?;
    let (feature, is_built) = match scheme {
        "postgres" | "postgresql" => ("postgres", cfg!(feature = "postgres")),
        "s3" => ("s3", cfg!(feature = "s3")),
        "az" => ("azure", cfg!(feature = "azure")),
        "gs" => ("gcs", cfg!(feature = "gcs")),
        _ => return None,
    };
    (!is_built).then_some((scheme, feature))
}

/// What goes together of the archive's object store.
fn object_store_keys(s: &Settings) -> [(bool, &'static str, &'static str); 3] {
    let (name, secret) =
        (!s.archive.access_key_id.reveal().is_empty(), !s.archive.secret_access_key.reveal().is_empty());
    let is_at = |scheme: &str| s.archive.url.starts_with(scheme);
    [
        // A storage account alone is used with the machine's identity, or what the environment names.
        (!name || secret || is_at("az://"), "archive.secret_access_key", "is needed by archive.access_key_id"),
        (!secret || name || !is_at("s3://"), "archive.access_key_id", "is needed by archive.secret_access_key"),
        (!name || !is_at("gs://"), "archive.access_key_id", "is of no use with gs://"),
    ]
}

#[cfg(test)]
mod tests {
    use crate::config::{Fault, Flag, Settings, Sources, load};

    fn settings(flags: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
        let flag = |(key, value): &(&str, &str)| Flag {
            flag: format!("--set {key}"),
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let flags = flags.iter().map(flag).collect();
        let loaded = load(&Sources { flags, working_dir: "/srv".into(), ..Sources::default() });
        loaded.map(|loaded| loaded.settings).map_err(|error| error.faults)
    }

    #[test]
    fn keys_that_contradict_each_other_are_faults() {
        let check = |flags: &[(&str, &str)], keys: &[&str]| {
            let found = settings(flags).expect_err("has faults");
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), keys, "{found:#?}");
        };
        check(&[("journal.max_bytes", "100 MiB")], &["journal.max_bytes"]);
        check(&[("mqtt.max_packet_bytes", "8193 KiB"), ("collector.batch_bytes", "16 MiB")], &["journal.queue_bytes"]);
        check(&[("archive.access_key_id", "AK")], &["archive.secret_access_key"]);
        check(&[("mqtt.listen", "127.0.0.1:8080")], &["mqtt.listen"]);
        #[cfg(not(feature = "otel"))]
        check(&[("trace.endpoint", "http://127.0.0.1:4318")], &["trace.endpoint"]);
        check(&[("metrics.listen", "127.0.0.1:1883")], &["metrics.listen"]);
        check(&[("mqtt.ws_listen", "127.0.0.1:1883")], &["mqtt.ws_listen"]);
        let large = [("mqtt.max_packet_bytes", "1 MiB"), ("mqtt.ws_listen", "127.0.0.1:0")];
        check(&large, &["mqtt.ws_max_message_bytes"]);
        assert!(settings(&large[..1]).is_ok(), "nobody speaks WebSocket");
        assert!(settings(&[("mqtt.listen", "127.0.0.1:0"), ("http.listen", "127.0.0.1:0")]).is_ok());
    }

    #[test]
    fn an_object_store_gets_the_name_and_the_key_it_needs() {
        let check = |url: &str, name: &str, secret: &str, expected: &[&str]| {
            let flags = [("archive.url", url), ("archive.access_key_id", name), ("archive.secret_access_key", secret)];
            let found = settings(&flags).err().unwrap_or_default();
            // Whether this program can use it is another question.
            let keys: Vec<_> = found.iter().map(|f| f.key.as_str()).filter(|key| *key != "archive.url").collect();
            assert_eq!(keys, expected, "{url}: {found:#?}");
        };
        check("s3://b", "AK", "", &["archive.secret_access_key"]);
        check("s3://b", "", "x", &["archive.access_key_id"]);
        check("s3://b", "AK", "x", &[]);
        check("s3://b", "", "", &[]);
        check("az://b", "account", "", &[]);
        check("az://b", "", "x", &[]);
        check("gs://b", "", "{}", &[]);
        check("gs://b", "AK", "{}", &["archive.access_key_id"]);
    }

    #[test]
    fn a_url_that_this_program_was_built_without_is_a_fault() {
        let check = |key: &str, url: &str, is_built: bool, feature: &str| {
            let found = settings(&[(key, url)]).err().unwrap_or_default();
            assert_eq!(found.len(), usize::from(!is_built), "{found:#?}");
            for fault in found {
                assert_eq!((fault.key.as_str(), fault.source.to_string()), (key, format!("flag --set {key}")));
                assert!(fault.message.contains(&format!("--features {feature}`")), "{fault:?}");
                assert!(!fault.message.contains("hunter2"), "{fault:?}");
            }
        };
        check("database.url", "postgres://me:hunter2@db/x", cfg!(feature = "postgres"), "postgres");
        check("database.url", "postgresql://db/x", cfg!(feature = "postgres"), "postgres");
        check("archive.url", "s3://b", cfg!(feature = "s3"), "s3");
        check("archive.url", "az://b", cfg!(feature = "azure"), "azure");
        check("archive.url", "gs://b", cfg!(feature = "gcs"), "gcs");
        check("database.url", "sqlite:///x.db", true, "");
        check("archive.url", "file:///x", true, "");
    }

    #[test]
    fn issues_need_a_repository_and_a_token_or_are_only_logged() {
        let check = |flags: &[(&str, &str)], expected: &[&str]| {
            let found = settings(flags).err().unwrap_or_default();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), expected, "{flags:?}");
        };
        let (repository, token) = (("github.repository", "a/b"), ("github.token", "x"));
        check(&[repository], &[]);
        check(&[repository, token], &[]);
        check(&[token], &["github.repository"]);
        check(&[token, ("github.dry_run", "true")], &[]);
        check(&[repository, ("github.dry_run", "false")], &["github.token"]);
        check(&[("github.repository", "a")], &["github.repository"]);
        check(&[("github.dry_run", "yes")], &["github.dry_run"]);
        check(&[("github.api_url", "http://git.example/api/v3")], &["github.api_url"]);
        check(&[("github.api_url", "")], &["github.api_url"]);
        check(&[("alertmanager.token", "short")], &["alertmanager.token"]);
        check(&[("alertmanager.token", "0123456789abcdef0123")], &[]);
    }

    #[test]
    fn a_certificate_and_its_key_come_together_or_not_at_all() {
        let check = |flags: &[(&str, &str)], expected: &[&str]| {
            let found = settings(flags).expect_err("has faults");
            let found: Vec<_> = found.iter().map(|f| format!("{} {}", f.key, f.message)).collect();
            assert_eq!(found, expected);
        };
        let (cert, key) = (("mqtt.tls_cert_file", "/c.pem"), ("mqtt.tls_key_file", "/k.pem"));
        let (tls, wss) = (("mqtt.tls_listen", "127.0.0.1:0"), ("mqtt.wss_listen", "127.0.0.1:0"));
        check(&[wss, key], &["mqtt.tls_cert_file is needed by mqtt.tls_key_file"]);
        check(&[cert], &["mqtt.tls_key_file is needed by mqtt.tls_cert_file"]);
        check(&[("mqtt.tls_crl_file", "/x")], &["mqtt.tls_crl_file is of no use without mqtt.tls_client_ca_file"]);
        assert!(settings(&[tls, wss, cert, key]).is_ok());
        assert!(settings(&[tls, wss]).is_ok(), "the server makes itself a certificate");
    }

    #[test]
    fn mqtt_in_tls_on_its_usual_port_can_be_reached_by_others() {
        let check = |listen: Option<&str>, has_files: bool, expected: Option<&str>| {
            let mut flags = vec![];
            if has_files {
                flags.extend([("mqtt.tls_cert_file", "/c.pem"), ("mqtt.tls_key_file", "/k.pem")]);
            }
            flags.extend(listen.map(|listen| ("mqtt.tls_listen", listen)));
            let settings = settings(&flags).expect("is good");
            let found = settings.listeners().into_iter().find(|(key, _)| *key == "mqtt.tls_listen");
            let found = found.and_then(|(_, address)| address).map(|a| a.to_string());
            assert_eq!(found.as_deref(), expected, "{flags:?}");
        };
        check(None, false, None);
        check(None, true, Some("0.0.0.0:8883"));
        check(Some("auto"), true, Some("0.0.0.0:8883"));
        check(Some("off"), true, None);
        check(Some("127.0.0.1:9"), true, Some("127.0.0.1:9"));
        let public = settings(&[("mqtt.tls_cert_file", "/c.pem"), ("mqtt.tls_key_file", "/k.pem")]).expect("is good");
        assert_eq!(public.public_listeners(), [("mqtt.tls_listen", super::TLS_LISTEN)]);
    }
}
