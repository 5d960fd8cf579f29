//! Which commands there are and what parameters they take: one table, all faults at once.
//!
//! Pure. The ranges are the meter protocol's.

use serde_json::{Map, Value};

use crate::api::error::Fault;

/// What a parameter must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A text of 1 to so many bytes.
    Text(usize),
    /// An `http://` or `https://` address of at most so many bytes.
    Url(usize),
    /// So many hexadecimal digits.
    Hex(usize),
    /// 1 to so many of `{host, port}`.
    Brokers(usize),
}

/// How many of a command's parameters must be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Needed {
    All,
    AtLeastOne,
}

struct Command {
    name: &'static str,
    needed: Needed,
    params: &'static [(&'static str, Rule)],
}

const COMMANDS: [Command; 5] = [
    Command {
        name: "update_config",
        needed: Needed::AtLeastOne,
        params: &[
            ("sampling_cadence_ms", Rule::Whole(100, 60_000)),
            ("send_interval_s", Rule::Whole(1, 3600)),
            ("hello_interval_s", Rule::Whole(5, 3600)),
            ("brokers", Rule::Brokers(5)),
        ],
    },
    Command {
        name: "start_ota",
        needed: Needed::All,
        params: &[
            ("fw_version", Rule::Text(64)),
            ("fw_url", Rule::Url(2048)),
            ("fw_sha256", Rule::Hex(64)),
            ("fw_size_bytes", Rule::Whole(1, 1 << 40)),
        ],
    },
    Command { name: "reboot", needed: Needed::All, params: &[] },
    Command { name: "factory_reset", needed: Needed::All, params: &[] },
    Command { name: "request_status", needed: Needed::All, params: &[] },
];

/// The names of all commands, for error messages.
pub fn names() -> String {
    COMMANDS.map(|c| c.name).join(", ")
}

/// Whether there is a command of that name.
pub fn is_known(cmd: &str) -> bool {
    COMMANDS.iter().any(|c| c.name == cmd)
}

/// All that is wrong with the parameters of a command that [`is_known`].
pub fn faults(cmd: &str, params: &Map<String, Value>) -> Vec<Fault> {
    let Some(command) = COMMANDS.iter().find(|c| c.name == cmd) else {
        return vec![Fault::new("cmd", format!("must be one of {}", names()))];
    };
    let mut faults = Vec::new();
    let present = |value: Option<&'_ Value>| value.is_some_and(|v| !v.is_null());
    for (name, rule) in command.params {
        let field = format!("params.{name}");
        match params.get(*name).filter(|v| !v.is_null()) {
            Some(value) => check(rule, &field, value, &mut faults),
            None if command.needed == Needed::All => faults.push(Fault::new(field, "is required")),
            None => {}
        }
    }
    let known = |name: &str| command.params.iter().any(|(n, _)| *n == name);
    faults.extend(
        params
            .keys()
            .filter(|n| !known(n))
            .map(|n| Fault::new(format!("params.{n}"), format!("is not known to {cmd}"))),
    );
    if command.needed == Needed::AtLeastOne && !command.params.iter().any(|(n, _)| present(params.get(*n))) {
        let all: Vec<_> = command.params.iter().map(|(n, _)| *n).collect();
        faults.push(Fault::new("params", format!("must hold at least one of {}", all.join(", "))));
    }
    faults
}

fn check(rule: &Rule, field: &str, value: &Value, faults: &mut Vec<Fault>) {
    let text = value.as_str();
    let (good, expected) = match *rule {
        Rule::Whole(low, high) => {
            let good = value.as_u64().is_some_and(|n| (low..=high).contains(&n));
            (good, format!("a whole number from {low} to {high}"))
        }
        Rule::Text(most) => {
            (text.is_some_and(|t| (1..=most).contains(&t.len())), format!("a string of 1 to {most} bytes"))
        }
        Rule::Url(most) => {
            let good = text.is_some_and(|t| t.len() <= most && is_http_url(t));
            (good, "an http:// or https:// URL".to_owned())
        }
        Rule::Hex(digits) => {
            let good = text.is_some_and(|t| t.len() == digits && t.bytes().all(|b| b.is_ascii_hexdigit()));
            (good, format!("{digits} hexadecimal digits"))
        }
        Rule::Brokers(most) => {
            match value.as_array().filter(|all| (1..=most).contains(&all.len())) {
                None => faults.push(Fault::new(field, format!("must be an array of 1 to {most} {{host, port}}"))),
                Some(all) => all.iter().enumerate().for_each(|(n, broker)| {
                    check_broker(&format!("{field}[{n}]"), broker, faults);
                }),
            }
            return;
        }
    };
    if !good {
        faults.push(Fault::new(field, format!("must be {expected}")));
    }
}

fn check_broker(field: &str, broker: &Value, faults: &mut Vec<Fault>) {
    let Some(members) = broker.as_object() else {
        faults.push(Fault::new(field, "must be an object with host and port"));
        return;
    };
    let host = members.get("host").and_then(Value::as_str);
    if !host.is_some_and(|h| (1..=253).contains(&h.len()) && h.bytes().all(|b| b.is_ascii_graphic())) {
        faults.push(Fault::new(format!("{field}.host"), "must be a host name or address"));
    }
    if !members.get("port").and_then(Value::as_u64).is_some_and(|p| (1..=65_535).contains(&p)) {
        faults.push(Fault::new(format!("{field}.port"), "must be a whole number from 1 to 65535"));
    }
    let unknown = members.keys().filter(|n| !matches!(n.as_str(), "host" | "port"));
    faults.extend(unknown.map(|n| Fault::new(format!("{field}.{n}"), "is not known")));
}

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/') && r.bytes().all(|b| b.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(cmd: &str, params: Value, expected: &[&str]) {
        let found = faults(cmd, params.as_object().unwrap());
        let fields: Vec<_> = found.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, expected, "{cmd} {params}");
    }

    #[test]
    fn a_configuration_changes_at_least_one_value_within_its_range() {
        check("update_config", json!({"send_interval_s": 1}), &[]);
        check("update_config", json!({"send_interval_s": 3600, "hello_interval_s": 5}), &[]);
        check("update_config", json!({}), &["params"]);
        check("update_config", json!({"send_interval_s": null}), &["params"]);
        check("update_config", json!({"sampling_cadence_ms": 99}), &["params.sampling_cadence_ms"]);
        check("update_config", json!({"sampling_cadence_ms": 1000.5}), &["params.sampling_cadence_ms"]);
        check("update_config", json!({"send_interval_s": "9", "x": 1}), &["params.send_interval_s", "params.x"]);
    }

    #[test]
    fn brokers_are_1_to_5_hosts_with_ports() {
        let broker = json!({"host": "broker.example", "port": 1883});
        check("update_config", json!({"brokers": [broker]}), &[]);
        check("update_config", json!({"brokers": []}), &["params.brokers"]);
        check("update_config", json!({"brokers": vec![broker; 6]}), &["params.brokers"]);
        check("update_config", json!({"brokers": [1]}), &["params.brokers[0]"]);
        check(
            "update_config",
            json!({"brokers": [{"host": "a b", "port": 0, "tls": true}]}),
            &["params.brokers[0].host", "params.brokers[0].port", "params.brokers[0].tls"],
        );
    }

    #[test]
    fn an_update_needs_all_of_its_parameters() {
        let good = json!({"fw_version": "2.0.1", "fw_url": "http://x/fw.bin", "fw_sha256": "aB".repeat(32),
            "fw_size_bytes": 1});
        check("start_ota", good, &[]);
        check(
            "start_ota",
            json!({}),
            &["params.fw_version", "params.fw_url", "params.fw_sha256", "params.fw_size_bytes"],
        );
        check(
            "start_ota",
            json!({"fw_version": "", "fw_url": "ftp://x", "fw_sha256": "12", "fw_size_bytes": 0}),
            &["params.fw_version", "params.fw_url", "params.fw_sha256", "params.fw_size_bytes"],
        );
    }

    #[test]
    fn the_others_take_none_and_unknown_commands_are_refused() {
        check("reboot", json!({}), &[]);
        check("factory_reset", json!({"now": true}), &["params.now"]);
        check("explode", json!({}), &["cmd"]);
        assert!(is_known("request_status") && !is_known("Reboot"));
    }
}
