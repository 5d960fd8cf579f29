//! Certificates made for a moment: which files are taken, and what a handshake sees of them.

use std::os::unix::fs::PermissionsExt;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::duplex;
use tokio_rustls::TlsConnector;

use super::*;

/// Two files that may be replaced.
struct Pair {
    dir: TempDir,
}

impl Pair {
    fn new() -> (Self, CertificateDer<'static>) {
        let pair = Self { dir: tempfile::tempdir().unwrap() };
        let cert = pair.replace();
        (pair, cert)
    }

    fn options(&self) -> TlsOptions {
        TlsOptions {
            cert_file: self.dir.path().join("cert.pem"),
            key_file: self.dir.path().join("key.pem"),
            min_version: TlsVersion::V13,
            reload_every: Duration::from_millis(10),
        }
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A new certificate with its key.
    fn replace(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.write("cert.pem", &made.cert.pem());
        self.write("key.pem", &made.signing_key.serialize_pem());
        made.cert.der().clone()
    }
}

/// A handshake with a client that trusts this certificate alone; the version agreed on.
async fn handshake(
    tls: &Tls,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<rustls::ProtocolVersion> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (ours, peer) = duplex(64 << 10);
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("localhost").unwrap();
    let (accepted, connected) = tokio::join!(tls.acceptor().accept(ours), connector.connect(name, peer));
    connected?;
    Ok(accepted?.get_ref().1.protocol_version().expect("the handshake is done"))
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

#[tokio::test]
async fn tls_1_2_is_refused_unless_it_is_asked_for() {
    let (pair, cert) = Pair::new();
    let new = Tls::open(pair.options()).unwrap();
    assert_eq!(handshake(&new, &cert, BOTH).await.unwrap(), rustls::ProtocolVersion::TLSv1_3);
    assert!(handshake(&new, &cert, &[&version::TLS12]).await.is_err());
    let old = Tls::open(TlsOptions { min_version: TlsVersion::V12, ..pair.options() }).unwrap();
    assert_eq!(handshake(&old, &cert, BOTH).await.unwrap(), rustls::ProtocolVersion::TLSv1_3);
    assert_eq!(handshake(&old, &cert, &[&version::TLS12]).await.unwrap(), rustls::ProtocolVersion::TLSv1_2);
}

#[tokio::test]
async fn a_new_pair_counts_from_the_next_handshake_on_and_a_bad_one_never() {
    let (pair, first) = Pair::new();
    let tls = Tls::open(pair.options()).unwrap();
    assert!(!tls.refresh().unwrap(), "nothing is new");
    let second = pair.replace();
    assert!(handshake(&tls, &first, BOTH).await.is_ok(), "nobody has looked yet");
    assert!(tls.refresh().unwrap());
    assert!(handshake(&tls, &second, BOTH).await.is_ok());
    assert!(handshake(&tls, &first, BOTH).await.is_err());

    // Half a replacement: the new certificate is there, its key not yet.
    let key = std::fs::read_to_string(pair.options().key_file).unwrap();
    pair.replace();
    pair.write("key.pem", &key);
    assert!(matches!(tls.refresh(), Err(Error::UnusableKey { .. })));
    assert!(handshake(&tls, &second, BOTH).await.is_ok(), "the last good one stays");
    let third = pair.replace();
    assert!(tls.refresh().unwrap());
    assert!(handshake(&tls, &third, BOTH).await.is_ok());
}

#[test]
fn a_file_that_is_no_good_is_named() {
    let check = |name: &str, file: &str, spoil: &dyn Fn(&Pair)| {
        let (pair, _) = Pair::new();
        spoil(&pair);
        let error = Tls::open(pair.options()).expect_err(name);
        let path = pair.dir.path().join(file);
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{name}: {error}");
        assert!(!error.to_string().contains("-----"), "{name}: {error}");
    };
    let remove = |pair: &Pair, file: &str| std::fs::remove_file(pair.dir.path().join(file)).unwrap();
    check("no certificate file", "cert.pem", &|pair| remove(pair, "cert.pem"));
    check("no key file", "key.pem", &|pair| remove(pair, "key.pem"));
    check("an empty certificate file", "cert.pem", &|pair| pair.write("cert.pem", ""));
    check("a key in the place of the certificate", "cert.pem", &|pair| {
        std::fs::copy(pair.options().key_file, pair.options().cert_file).unwrap();
    });
    check("a torn certificate", "cert.pem", &|pair| pair.write("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n"));
    check("a certificate in the place of the key", "key.pem", &|pair| {
        pair.write("key.pem", &std::fs::read_to_string(pair.options().cert_file).unwrap());
    });
    check("the key of another certificate", "key.pem", &|pair| {
        let cert = std::fs::read_to_string(pair.options().cert_file).unwrap();
        pair.replace();
        pair.write("cert.pem", &cert);
    });
    check("a key for all to read", "key.pem", &|pair| {
        let path = pair.options().key_file;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    });
}
