//! Certificates made for a moment: which files are taken, and what a handshake sees of them.

use std::io;
use std::os::unix::fs::PermissionsExt;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;
use crate::domain::{DeviceId, Timestamp};
use crate::pki::{Ca, Issued, KeySource, Validity};

/// 2026-02-12T10:00:00Z.
const NOW: Timestamp = Timestamp(1_770_890_400_000_000);
const DAY_US: i64 = 86_400_000_000;
const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// A directory of files that may be replaced, and what is made of them.
struct Bed {
    dir: TempDir,
    ca: Ca,
    clock: Clock,
    revocations: Revocations,
}

impl Bed {
    fn new() -> Self {
        let (dir, ca) = (tempfile::tempdir().unwrap(), authority());
        let bed = Self { dir, ca, clock: Clock::manual(NOW), revocations: Revocations::default() };
        bed.replace();
        bed.write("ca.pem", bed.ca.pem());
        bed
    }

    fn options(&self) -> TlsOptions {
        TlsOptions {
            server: "mqtt",
            cert_file: self.dir.path().join("cert.pem"),
            key_file: self.dir.path().join("key.pem"),
            min_version: TlsVersion::V13,
            client_ca_files: vec![self.dir.path().join("ca.pem")],
            own_ca_file: None,
            crl_file: None,
            is_certificate_required: false,
            reload_every: Duration::from_millis(10),
        }
    }

    fn open(&self) -> Tls {
        self.open_with(self.options())
    }

    fn open_with(&self, options: TlsOptions) -> Tls {
        Tls::open(options, &self.revocations, &self.clock).unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A new certificate of the server with its key.
    fn replace(&self) {
        let made = self.ca.issue_server(&["localhost".to_owned()], days(90)).unwrap();
        self.write("cert.pem", &made.pem);
        self.write("key.pem", made.key_pem.as_ref().unwrap());
    }

    /// A device's certificate.
    fn device(&self, days_good: u32) -> Issued {
        device_of(&self.ca, days_good)
    }
}

fn authority() -> Ca {
    let name = format!("Test CA {}", uuid::Uuid::new_v4());
    Ca::make(&name, days(3650)).unwrap().0
}

fn days(days: u32) -> Validity {
    Validity { now: NOW, days }
}

fn device_of(ca: &Ca, days_good: u32) -> Issued {
    ca.issue_device(&DeviceId::parse("m1").unwrap(), KeySource::New, days(days_good)).unwrap()
}

/// A client that trusts the authority of this bed, perhaps with a certificate; it remembers tickets.
fn client(trusted: &Ca, own: Option<&Issued>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
    let time = Arc::new(Standing);
    let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), time)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = vec![CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_ref().unwrap().as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// The clients' clock.
#[derive(Debug)]
struct Standing;

impl rustls::time_provider::TimeProvider for Standing {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(NOW.since(Timestamp(0))))
    }
}

type Admitted = (TlsStream<DuplexStream>, Option<Arc<Peer>>);

/// A handshake and a word in each direction, so that tickets arrive; the server's side of it, and whether the client saw it
/// resumed.
async fn shake(tls: &Tls, client: &Arc<ClientConfig>) -> (Result<Admitted, Refusal>, io::Result<bool>) {
    let (ours, theirs) = duplex(64 << 10);
    let server = async {
        let mut admitted = tls.accept(ours).await?;
        admitted.0.write_all(b"x").await.map_err(|_| Refusal::Other)?;
        admitted.0.flush().await.map_err(|_| Refusal::Other)?;
        Ok(admitted)
    };
    let connector = TlsConnector::from(Arc::clone(client));
    let client = async {
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), theirs).await?;
        let mut word = [0];
        stream.read_exact(&mut word).await?;
        Ok(stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed))
    };
    tokio::join!(server, client)
}

async fn refusal(tls: &Tls, client: &Arc<ClientConfig>) -> Option<Refusal> {
    shake(tls, client).await.0.err()
}

async fn is_resumed(tls: &Tls, client: &Arc<ClientConfig>) -> bool {
    let (admitted, resumed) = shake(tls, client).await;
    admitted.unwrap_or_else(|refusal| panic!("{refusal}"));
    resumed.unwrap()
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_it_is_asked_for() {
    let bed = Bed::new();
    let version_with = async |tls: &Tls, versions| {
        let (admitted, _) = shake(tls, &client(&bed.ca, None, versions)).await;
        admitted.map(|(stream, _)| stream.get_ref().1.protocol_version().unwrap())
    };
    let (new, old) = (bed.open(), bed.open_with(TlsOptions { min_version: TlsVersion::V12, ..bed.options() }));
    let only_12 = &[&version::TLS12][..];
    assert_eq!(version_with(&new, BOTH).await, Ok(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(version_with(&new, only_12).await, Err(Refusal::Incompatible));
    assert_eq!(version_with(&old, BOTH).await, Ok(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(version_with(&old, only_12).await, Ok(rustls::ProtocolVersion::TLSv1_2));
}

#[tokio::test]
async fn a_client_shows_its_certificate_or_none() {
    let bed = Bed::new();
    let tls = bed.open();
    let (issued, none) = (bed.device(365), client(&bed.ca, None, BOTH));
    let (admitted, _) = shake(&tls, &client(&bed.ca, Some(&issued), BOTH)).await;
    let peer = admitted.unwrap().1.unwrap();
    assert_eq!((peer.common_name(), peer.serial()), (Some("m1"), issued.facts.serial.as_str()));
    assert!(shake(&tls, &none).await.0.unwrap().1.is_none());
    let strict = bed.open_with(TlsOptions { is_certificate_required: true, ..bed.options() });
    assert_eq!(refusal(&strict, &none).await, Some(Refusal::NoCertificate));
    let (ours, mut theirs) = duplex(1024);
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(tls.accept(ours).await.err(), Some(Refusal::NotTls));
}

#[tokio::test]
async fn a_certificate_that_is_no_good_is_refused_in_the_handshake() {
    let bed = Bed::new();
    let tls = bed.open();
    let with = |issued: &Issued| client(&bed.ca, Some(issued), BOTH);
    assert_eq!(refusal(&tls, &with(&device_of(&authority(), 365))).await, Some(Refusal::UnknownCa));
    let server = bed.ca.issue_server(&["m1".to_owned()], days(1)).unwrap();
    assert_eq!(refusal(&tls, &with(&server)).await, Some(Refusal::BadCertificate), "it may be a server only");
    let (short, revoked) = (bed.device(1), bed.device(365));
    assert_eq!(refusal(&tls, &with(&short)).await, None);
    bed.revocations.add([(revoked.facts.serial.clone(), revoked.facts.not_after)]);
    assert_eq!(refusal(&tls, &with(&revoked)).await, Some(Refusal::Revoked));
    bed.clock.set(NOW.plus_us(DAY_US + 1_000_000));
    assert_eq!(refusal(&tls, &with(&short)).await, Some(Refusal::Expired));
    bed.revocations.prune(NOW);
    assert_eq!(refusal(&tls, &with(&revoked)).await, Some(Refusal::Revoked), "it would still be good");
}

/// A certificate for a client that says for what it is, or does not.
fn for_purposes(ca: &(Ca, String), purposes: &[ExtendedKeyUsagePurpose]) -> Issued {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "m1");
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params.extended_key_usages = purposes.to_vec();
    let issuer = rcgen::KeyPair::from_pem(&ca.1).unwrap();
    let der = CertificateDer::from_pem_slice(ca.0.pem().as_bytes()).unwrap();
    let pem = params.signed_by(&key, &rcgen::Issuer::from_ca_cert_der(&der, issuer).unwrap()).unwrap().pem();
    Issued { facts: crate::pki::Facts::of_pem(&pem).unwrap(), pem, key_pem: Some(key.serialize_pem()) }
}

#[tokio::test]
async fn a_certificate_must_be_for_clients_and_of_our_own_authority_say_so() {
    let (own, external) = (Ca::make("Own", days(3650)).unwrap(), Ca::make("External", days(3650)).unwrap());
    let bed = Bed::new();
    bed.write("ca.pem", own.0.pem());
    bed.write("external.pem", external.0.pem());
    let own_ca_file = Some(bed.dir.path().join("ca.pem"));
    let client_ca_files = vec![bed.dir.path().join("ca.pem"), bed.dir.path().join("external.pem")];
    let tls = bed.open_with(TlsOptions { own_ca_file, client_ca_files, ..bed.options() });
    let check = async |what: &str, purposes: &[ExtendedKeyUsagePurpose], expected: [Option<Refusal>; 2]| {
        for (ca, expected) in [&own, &external].into_iter().zip(expected) {
            let card = for_purposes(ca, purposes);
            let name = &ca.0.facts().common_name;
            assert_eq!(refusal(&tls, &client(&bed.ca, Some(&card), BOTH)).await, expected, "{what}, {name:?}");
        }
    };
    let bad = Some(Refusal::BadCertificate);
    check("for clients", &[ExtendedKeyUsagePurpose::ClientAuth], [None, None]).await;
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    check("for clients too", &both, [None, None]).await;
    check("for servers", &[ExtendedKeyUsagePurpose::ServerAuth], [bad, bad]).await;
    check("for mail", &[ExtendedKeyUsagePurpose::EmailProtection], [bad, bad]).await;
    check("for it does not say what", &[], [bad, None]).await;
}

#[tokio::test]
async fn a_session_is_resumed_while_its_certificate_is_good_and_no_longer() {
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let bed = Bed::new();
        let tls = bed.open_with(TlsOptions { min_version: TlsVersion::V12, ..bed.options() });
        let issued = bed.device(2);
        let (known, nobody) = (client(&bed.ca, Some(&issued), versions), client(&bed.ca, None, versions));
        for client in [&known, &nobody] {
            assert!(!is_resumed(&tls, client).await, "the first one is whole");
            assert!(is_resumed(&tls, client).await);
        }
        let (admitted, _) = shake(&tls, &known).await;
        let peer = admitted.unwrap().1.expect("the ticket has the certificate");
        assert_eq!(peer.standing(NOW), Ok(()));
        bed.revocations.add([(issued.facts.serial.clone(), issued.facts.not_after)]);
        assert_eq!(refusal(&tls, &known).await, Some(Refusal::Revoked));
        assert_eq!(peer.standing(NOW), Err(Unfit::Revoked));
        assert!(is_resumed(&tls, &nobody).await);

        let late = bed.device(2);
        let late = client(&bed.ca, Some(&late), versions);
        assert_eq!(refusal(&tls, &late).await, None);
        bed.clock.set(NOW.plus_us(3 * DAY_US));
        assert_eq!(refusal(&tls, &late).await, Some(Refusal::Expired));
    }
}

#[tokio::test]
async fn new_files_count_from_the_next_handshake_on_for_tickets_too_and_bad_ones_never() {
    let bed = Bed::new();
    let tls = bed.open();
    let issued = bed.device(365);
    let known = client(&bed.ca, Some(&issued), BOTH);
    let (admitted, _) = shake(&tls, &known).await;
    let peer = admitted.unwrap().1.unwrap();
    assert!(is_resumed(&tls, &known).await);
    assert!(!tls.refresh().unwrap(), "nothing is new");
    let changes = bed.revocations.subscribe();

    bed.replace();
    assert!(tls.refresh().unwrap() && changes.has_changed().unwrap());
    assert!(!is_resumed(&tls, &known).await, "the old tickets are void");
    assert_eq!(peer.standing(NOW), Ok(()), "its authority is still trusted");

    // Half a replacement: the new certificate is there, its key not yet.
    let key = std::fs::read_to_string(bed.options().key_file).unwrap();
    bed.replace();
    bed.write("key.pem", &key);
    assert!(matches!(tls.refresh(), Err(Error::UnusableKey { .. })));
    assert!(is_resumed(&tls, &known).await, "the last good ones stay");
    bed.replace();

    let other = authority();
    bed.write("ca.pem", other.pem());
    assert!(tls.refresh().unwrap());
    assert_eq!(refusal(&tls, &known).await, Some(Refusal::UnknownCa));
    assert_eq!(peer.standing(NOW), Err(Unfit::NotTrusted));
    bed.write("ca.pem", &format!("{}{}", other.pem(), bed.ca.pem()));
    assert!(tls.refresh().unwrap());
    assert_eq!(refusal(&tls, &known).await, None, "two authorities in one file");
    assert_eq!(peer.standing(NOW), Ok(()));
    bed.write("ca.pem", "");
    assert!(matches!(tls.refresh(), Err(Error::NoCertificate { .. })));
    assert_eq!(refusal(&tls, &known).await, None);
}

#[tokio::test]
async fn the_list_of_an_external_authority_revokes() {
    let bed = Bed::new();
    let (good, bad) = (bed.device(365), bed.device(365));
    let list = |serials: &[&str]| {
        let entries = serials.iter().map(|s| crate::pki::Revoked { serial: (*s).to_owned(), at: NOW });
        bed.ca.crl(&entries.collect::<Vec<_>>(), NOW, Duration::from_secs(86_400)).unwrap()
    };
    bed.write("crl.pem", &list(&[]));
    let tls = bed.open_with(TlsOptions { crl_file: Some(bed.dir.path().join("crl.pem")), ..bed.options() });
    let (good, bad) = (client(&bed.ca, Some(&good), BOTH), (client(&bed.ca, Some(&bad), BOTH), bad.facts.serial));
    let (admitted, _) = shake(&tls, &bad.0).await;
    let peer = admitted.unwrap().1.unwrap();
    bed.write("crl.pem", &list(&[&bad.1]));
    assert!(tls.refresh().unwrap());
    assert_eq!(refusal(&tls, &good).await, None);
    assert_eq!(refusal(&tls, &bad.0).await, Some(Refusal::Revoked));
    assert_eq!(peer.standing(NOW), Err(Unfit::Revoked));
    bed.write("crl.pem", "nonsense");
    assert!(matches!(tls.refresh(), Err(Error::UnusableCrl { .. })));
}

#[test]
fn a_file_that_is_no_good_is_named() {
    let check = |name: &str, file: &str, spoil: &dyn Fn(&Bed)| {
        let bed = Bed::new();
        spoil(&bed);
        let error = Tls::open(bed.options(), &bed.revocations, &bed.clock).expect_err(name);
        let path = bed.dir.path().join(file);
        assert_eq!(error.path(), Some(&*path), "{name}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{name}: {error}");
        assert!(!error.to_string().contains("-----"), "{name}: {error}");
    };
    let remove = |bed: &Bed, file: &str| std::fs::remove_file(bed.dir.path().join(file)).unwrap();
    check("no certificate file", "cert.pem", &|bed| remove(bed, "cert.pem"));
    check("no key file", "key.pem", &|bed| remove(bed, "key.pem"));
    check("no file of authorities", "ca.pem", &|bed| remove(bed, "ca.pem"));
    check("no authority", "ca.pem", &|bed| bed.write("ca.pem", "nothing\n"));
    check("an empty certificate file", "cert.pem", &|bed| bed.write("cert.pem", ""));
    check("a key in the place of the certificate", "cert.pem", &|bed| {
        std::fs::copy(bed.options().key_file, bed.options().cert_file).unwrap();
    });
    check("a torn certificate", "cert.pem", &|bed| bed.write("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n"));
    check("a certificate in the place of the key", "key.pem", &|bed| {
        bed.write("key.pem", &std::fs::read_to_string(bed.options().cert_file).unwrap());
    });
    check("the key of another certificate", "key.pem", &|bed| {
        let cert = std::fs::read_to_string(bed.options().cert_file).unwrap();
        bed.replace();
        bed.write("cert.pem", &cert);
    });
    check("a key for all to read", "key.pem", &|bed| {
        let path = bed.options().key_file;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    });
}
