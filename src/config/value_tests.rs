//! Which values are taken, and how they show.

use super::*;

fn word_of(text: &str) -> Raw {
    Raw::Word(text.to_owned())
}

#[test]
fn sizes_are_bytes_or_texts_with_a_unit() {
    let check = |text: &str, expected: Option<u64>| assert_eq!(parse_size(text), expected, "{text:?}");
    check("0", Some(0));
    check("64 MiB", Some(64 << 20));
    check("64MiB", Some(64 << 20));
    check(" 1 GiB ", Some(1 << 30));
    check("5 kB", Some(5000));
    check("64 mb", None);
    check("MiB", None);
    check("-1", None);
    check("1.5 GiB", None);
    check("99999999999 GiB", None);
}

#[test]
fn a_size_shows_in_the_largest_unit_that_divides_it() {
    let check = |bytes: u64, expected: &str| assert_eq!(show_size(bytes), expected);
    check(0, "0");
    check(1023, "1023");
    check(1 << 20, "1 MiB");
    check((1 << 20) + 1024, "1025 KiB");
}

#[test]
fn listeners_are_addresses_with_ports() {
    let kind = Kind::Listen { may_be_off: false };
    let check = |text: &str, good: bool| assert_eq!(kind.check(&word_of(text)).is_ok(), good, "{text:?}");
    check("127.0.0.1:0", true);
    check("[::]:8080", true);
    check("localhost:8080", true);
    check("8080", false);
    check("off", false);
    check("127.0.0.1:99999", false);
    assert_eq!(Kind::Listen { may_be_off: true }.check(&word_of("off")), Ok(Value::Addr(None)));
}

#[test]
fn filters_are_checked_by_the_rules_of_mqtt() {
    let check = |text: &str, good: bool| assert_eq!(filter(text.to_owned()).is_ok(), good, "{text:?}");
    check("#", true);
    check("iot/+/telemetry", true);
    check("iot/#", true);
    check("iot/#/x", false);
    check("iot/a+", false);
    check("", false);
}

#[test]
fn a_url_is_never_repeated_in_an_error() {
    let kind = Kind::SecretUrl { schemes: &["sqlite"] };
    let error = kind.check(&word_of("postgres://me:hunter2@db/x")).expect_err("is refused");
    assert!(!error.contains("hunter2"), "{error}");
    assert!(kind.check(&word_of("sqlite://")).is_err());
}

#[test]
fn toml_types_are_told_apart() {
    let kind = Kind::Int { min: 1, max: 5, unit: "s" };
    assert_eq!(kind.check(&Raw::Int(Some(5))), Ok(Value::Int(5)));
    assert!(kind.check(&Raw::Int(Some(6))).is_err());
    assert!(kind.check(&Raw::Text("5".to_owned())).is_err());
    assert_eq!(kind.check(&word_of("5")), Ok(Value::Int(5)));
    assert!(Kind::Path.check(&Raw::Int(Some(5))).is_err());
}

#[test]
fn a_ratio_is_a_number_from_0_to_1() {
    let check = |raw: Raw, expected: Option<f64>| {
        let expected = expected.map(Value::Ratio);
        assert_eq!(Kind::Ratio.check(&raw).ok(), expected, "{raw:?}");
    };
    check(Raw::Float(0.25), Some(0.25));
    check(Raw::Int(Some(1)), Some(1.0));
    check(Raw::Word("0.5".to_owned()), Some(0.5));
    check(Raw::Word("half".to_owned()), None);
    check(Raw::Float(1.5), None);
    check(Raw::Float(f64::NAN), None);
    check(Raw::Int(Some(2)), None);
    check(Raw::Text("0.5".to_owned()), None);
}
