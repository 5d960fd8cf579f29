//! What is issued is what was asked for; what is refused is told why.

use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;
use crate::domain::{DeviceId, Timestamp};

/// 2026-02-12T10:00:00Z.
const NOW: Timestamp = Timestamp(1_770_890_400_000_000);

fn ca() -> Ca {
    Ca::make("Test CA", Validity { now: NOW, days: 3650 }).unwrap().0
}

fn m1() -> DeviceId {
    DeviceId::parse("m1").unwrap()
}

fn year() -> Validity {
    Validity { now: NOW, days: 365 }
}

/// A request with these common names, signed by a key of that kind.
fn request(names: &[&str], kind: &'static rcgen::SignatureAlgorithm) -> String {
    let key = KeyPair::generate_for(kind).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for name in names {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn a_device_certificate_is_for_its_device_and_its_time() {
    let (ca, issued) = (ca(), ca().issue_device(&m1(), KeySource::New, year()).unwrap());
    let facts = &issued.facts;
    assert_eq!(facts.common_name.as_deref(), Some("m1"));
    assert_eq!((facts.not_before, facts.not_after), (NOW.plus_us(-300_000_000), NOW.plus_us(365 * 86_400_000_000)));
    assert_eq!(facts.serial.len(), 2 * SERIAL_BYTES);
    assert!(!facts.is_ca && ca.facts().is_ca && !facts.issuer_key_id.is_empty());
    assert!(issued.key_pem.as_ref().unwrap().contains("PRIVATE KEY"));
    assert!(!format!("{issued:?} {ca:?}").contains("PRIVATE"));
    let other = ca.issue_device(&m1(), KeySource::New, year()).unwrap();
    assert_ne!(other.facts.serial, facts.serial);
    assert_ne!(other.facts.fingerprint, facts.fingerprint);
    assert_eq!(pem_of(&pem_certificates(issued.pem.as_bytes())[0]).lines().count(), issued.pem.lines().count());
}

#[test]
fn nothing_outlives_the_ca() {
    let ca = ca();
    let long = ca.issue_device(&m1(), KeySource::New, Validity { now: NOW, days: 36_500 }).unwrap();
    assert_eq!(long.facts.not_after, ca.facts().not_after);
    let after = Validity { now: ca.facts().not_after, days: 1 };
    assert!(matches!(ca.issue_device(&m1(), KeySource::New, after), Err(Error::CaExpired)));
}

#[test]
fn a_ca_comes_back_from_its_two_files_and_from_no_others() {
    let (ca, key) = Ca::make("Test CA", year()).unwrap();
    let again = Ca::load(ca.pem(), &key).unwrap();
    assert_eq!(again.facts(), ca.facts());
    let leaf = again.issue_device(&m1(), KeySource::New, year()).unwrap();
    assert_eq!(leaf.facts.issuer_key_id, ca.issue_device(&m1(), KeySource::New, year()).unwrap().facts.issuer_key_id);
    let (_, other) = Ca::make("Test CA", year()).unwrap();
    assert!(matches!(Ca::load(ca.pem(), &other), Err(Error::OtherKey)));
    assert!(matches!(Ca::load(&leaf.pem, leaf.key_pem.as_ref().unwrap()), Err(Error::NotCa)));
    assert!(matches!(Ca::load("nonsense", &key), Err(Error::NoCertificate)));
    assert!(matches!(Ca::load(ca.pem(), "nonsense"), Err(Error::NoKey)));
}

#[test]
fn of_a_request_only_the_key_is_taken_and_only_for_its_device() {
    let ca = ca();
    let issue = |pem: &str| ca.issue_device(&m1(), KeySource::Request(pem), year());
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        for names in [&["m1"][..], &[]] {
            let issued = issue(&request(names, kind)).unwrap();
            assert_eq!((issued.facts.common_name.as_deref(), issued.key_pem), (Some("m1"), None));
        }
    }
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    assert!(matches!(issue(&request(&["m2"], p256)), Err(Error::RequestName)));
    assert!(matches!(
        issue("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"),
        Err(Error::NoRequest)
    ));
    assert!(matches!(issue(&"x".repeat(MAX_REQUEST_BYTES + 1)), Err(Error::NoRequest)));
    assert!(matches!(issue(ca.pem()), Err(Error::NoRequest)));
}

#[test]
fn a_request_that_was_changed_is_refused() {
    let pem = request(&["m1"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let mut der = facts::blocks(pem.as_bytes(), "CERTIFICATE REQUEST").unwrap().remove(0);
    let last = der.len() - 1;
    der[last] ^= 1;
    let spoiled = pem_of(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
    let refused = ca().issue_device(&m1(), KeySource::Request(&spoiled), year()).unwrap_err();
    assert!(matches!(refused, Error::RequestSignature | Error::NoRequest), "{refused:?}");
}

#[test]
fn a_renewed_certificate_is_for_the_same_key() {
    let ca = ca();
    let first = ca.issue_device(&m1(), KeySource::New, year()).unwrap();
    let second = ca.issue_device(&m1(), KeySource::Certificate(&first.pem), year()).unwrap();
    assert_eq!(second.facts.public_key, first.facts.public_key);
    assert_ne!(second.facts.serial, first.facts.serial);
    assert_eq!(second.key_pem, None);
}

#[test]
fn a_server_has_names_and_addresses_and_no_others() {
    let ca = ca();
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let issued = ca.issue_server(&names(&["host.example", "*.example", "127.0.0.1", "::1"]), year()).unwrap();
    assert_eq!(issued.facts.common_name.as_deref(), Some("host.example"));
    assert_eq!(issued.facts.names, ["host.example", "*.example", "127.0.0.1", "::1"]);
    assert_eq!(issued.facts.issuer_key_id, ca.facts().key_id);
    for bad in ["", "a b", "-x", "é", "a..b", "*"] {
        assert!(matches!(ca.issue_server(&names(&[bad]), year()), Err(Error::ServerName { .. })), "{bad:?}");
    }
}

#[test]
fn a_serial_is_read_however_it_is_written() {
    let check = |text: &str, expected: Option<&str>| assert_eq!(serial_of(text).as_deref(), expected, "{text:?}");
    check("0a", Some("0a"));
    check(" 4F:0A ", Some("4f0a"));
    check("A", Some("0a"));
    check("00ff", Some("ff"));
    check("0", Some("00"));
    check(&"f".repeat(40), Some(&"f".repeat(40)));
    for none in ["", ":", "xy", "0x0a", "../0a", &"f".repeat(42)] {
        check(none, None);
    }
}

#[test]
fn what_is_issued_says_what_it_is_for() {
    let ca = ca();
    let device = ca.issue_device(&m1(), KeySource::New, year()).unwrap().facts;
    let server = ca.issue_server(&["localhost".to_owned()], year()).unwrap().facts;
    assert!(device.is_for_clients && !server.is_for_clients && !ca.facts().is_for_clients);
    assert!(device.issuer == ca.facts().subject && device.subject != ca.facts().subject);
}

#[test]
fn a_list_of_revoked_certificates_is_read_as_it_was_made() {
    let ca = ca();
    let serial = ca.issue_device(&m1(), KeySource::New, year()).unwrap().facts.serial;
    let day = std::time::Duration::from_secs(86_400);
    let pem = ca.crl(&[Revoked { serial: serial.clone(), at: NOW }], NOW, day).unwrap();
    let read = Crl::read(pem.as_bytes()).unwrap();
    assert_eq!((read[0].serials.clone(), read[0].next_update), (vec![serial], Some(NOW.plus(day))));
    assert_eq!(Crl::read(&read[0].der).unwrap(), read, "the same in DER form");
    assert_eq!(Crl::read(ca.crl(&[], NOW, day).unwrap().as_bytes()).unwrap()[0].serials, Vec::<String>::new());
    assert!(matches!(Crl::read(b"nonsense"), Err(Error::NoCrl)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..512), at in 0usize..400, to: u8) {
        let _ = (Facts::of_der(&bytes), Crl::read(&bytes), pem_certificates(&bytes));
        static DER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| pem_certificates(ca().pem().as_bytes()).remove(0));
        let mut der = DER.clone();
        let place = at % der.len();
        der[place] = to;
        let _ = Facts::of_der(&der);
        let pem = pem_of(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        let _ = ca().issue_device(&m1(), KeySource::Request(&pem), year());
    }
}
