//! Parameters of a command, as JSON, against the ranges of the domain. Names every fault at once.

use serde_json::{Map, Value};

use crate::domain::command::{
    BROKERS, CommandKind, FW_SIZE_BYTES, FW_VERSION_LEN, HELLO_INTERVAL_S, PORT, SAMPLING_CADENCE_MS, SEND_INTERVAL_S,
    is_firmware_url, is_host, is_sha256_hex,
};

/// Something wrong with a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParamFault {
    /// `cmd`, `params` as a whole, or a parameter: `params.brokers[0].port`.
    pub field: String,
    /// What it must be, for people.
    pub message: String,
}

/// Judges a command before it is stored. All faults, in the order of PROTOCOL.md; an unknown `cmd` is answered with every
/// valid one. Parameters a command does not have are faults too, since a meter would not know what to do with them, and so
/// is a configuration that changes nothing. A parameter that is `null` is there and wrong.
pub fn validate_command(cmd: &str, params: &Map<String, Value>) -> Result<CommandKind, Vec<ParamFault>> {
    let Some(kind) = CommandKind::from_name(cmd) else {
        let names = CommandKind::ALL.map(CommandKind::name).join(", ");
        return Err(vec![ParamFault { field: "cmd".into(), message: format!("must be one of {names}") }]);
    };
    let mut check = Check { params, path: "params".into(), faults: Vec::new() };
    match kind {
        CommandKind::UpdateConfig => update_config(&mut check),
        CommandKind::StartOta => start_ota(&mut check),
        CommandKind::Reboot | CommandKind::FactoryReset | CommandKind::RequestStatus => check.no_others(&[]),
    }
    if check.faults.is_empty() { Ok(kind) } else { Err(check.faults) }
}

fn update_config(check: &mut Check<'_>) {
    const NAMES: [&str; 4] = ["sampling_cadence_ms", "send_interval_s", "hello_interval_s", "brokers"];
    for (name, range) in [
        ("sampling_cadence_ms", SAMPLING_CADENCE_MS),
        ("send_interval_s", SEND_INTERVAL_S),
        ("hello_interval_s", HELLO_INTERVAL_S),
    ] {
        let rule = format!("must be a whole number from {} to {}", range.start(), range.end());
        check.optional(name, &rule, |value| value.as_u64().is_some_and(|n| range.contains(&n)));
    }
    let rule = format!("must be a list of {} to {} brokers {{host, port}}", BROKERS.start(), BROKERS.end());
    check.optional("brokers", &rule, |value| value.as_array().is_some_and(|list| BROKERS.contains(&list.len())));
    check.no_others(&NAMES);
    if !NAMES.iter().any(|name| check.params.contains_key(*name)) {
        let message = format!("must hold at least one of {}", NAMES.join(", "));
        check.faults.push(ParamFault { field: "params".into(), message });
    }
    let brokers = check.params.get("brokers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, broker) in brokers.iter().take(*BROKERS.end()).enumerate() {
        let path = format!("params.brokers[{index}]");
        let Some(params) = broker.as_object() else {
            check.faults.push(ParamFault { field: path, message: "must be {host, port}".into() });
            continue;
        };
        let mut inner = Check { params, path, faults: Vec::new() };
        inner.required("host", "must be a host name or address", |value| value.as_str().is_some_and(is_host));
        inner.required("port", "must be a whole number from 1 to 65535", |value| {
            value.as_u64().is_some_and(|n| PORT.contains(&n))
        });
        inner.no_others(&["host", "port"]);
        check.faults.append(&mut inner.faults);
    }
}

fn start_ota(check: &mut Check<'_>) {
    check.required("fw_version", "must be a text of 1 to 64 bytes", |value| {
        value.as_str().is_some_and(|text| FW_VERSION_LEN.contains(&text.len()))
    });
    check.required("fw_url", "must be an http or https address", |value| value.as_str().is_some_and(is_firmware_url));
    check.required("fw_sha256", "must be 64 hexadecimal digits", |value| value.as_str().is_some_and(is_sha256_hex));
    check.required("fw_size_bytes", "must be a whole number from 1", |value| {
        value.as_u64().is_some_and(|n| FW_SIZE_BYTES.contains(&n))
    });
    check.no_others(&["fw_version", "fw_url", "fw_sha256", "fw_size_bytes"]);
}

/// The faults of one object.
struct Check<'a> {
    params: &'a Map<String, Value>,
    path: String,
    faults: Vec<ParamFault>,
}

impl Check<'_> {
    fn fault(&mut self, name: &str, message: &str) {
        self.faults.push(ParamFault { field: format!("{}.{name}", self.path), message: message.to_owned() });
    }

    fn optional(&mut self, name: &str, rule: &str, is_good: impl Fn(&Value) -> bool) {
        if self.params.get(name).is_some_and(|value| !is_good(value)) {
            self.fault(name, rule);
        }
    }

    fn required(&mut self, name: &str, rule: &str, is_good: impl Fn(&Value) -> bool) {
        if !self.params.get(name).is_some_and(is_good) {
            self.fault(name, rule);
        }
    }

    fn no_others(&mut self, known: &[&str]) {
        for name in self.params.keys().filter(|name| !known.contains(&name.as_str())) {
            // The name is the client's: cut, because it is repeated in the answer.
            let field = format!("{}.{}", self.path, super::fields::cut(name, 64));
            self.faults.push(ParamFault { field, message: "is not a parameter of this command".into() });
        }
        self.faults.truncate(32);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(cmd: &str, params: Value, expected: &[&str]) {
        let params = params.as_object().expect("an object").clone();
        let faults = validate_command(cmd, &params).err().unwrap_or_default();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, expected, "{cmd} {params:?}");
    }

    #[test]
    fn every_fault_of_a_command_is_named_at_once() {
        check("update_config", json!({"send_interval_s": 15, "sampling_cadence_ms": 100, "hello_interval_s": 5}), &[]);
        check(
            "update_config",
            json!({"send_interval_s": 0, "sampling_cadence_ms": "1000", "hello_interval_s": 4, "colour": 1}),
            &["params.sampling_cadence_ms", "params.send_interval_s", "params.hello_interval_s", "params.colour"],
        );
        check("update_config", json!({"send_interval_s": 1.5}), &["params.send_interval_s"]);
        check("reboot", json!({}), &[]);
        check("reboot", json!({"delay_s": 1}), &["params.delay_s"]);
    }

    #[test]
    fn a_configuration_that_changes_nothing_is_refused_with_all_it_could_change() {
        check("update_config", json!({"colour": 1}), &["params.colour", "params"]);
        let faults = validate_command("update_config", &Map::new()).expect_err("nothing to change");
        assert_eq!(faults.len(), 1);
        for name in ["at least one", "sampling_cadence_ms", "send_interval_s", "hello_interval_s", "brokers"] {
            assert!(faults[0].message.contains(name), "{faults:?}");
        }
    }

    #[test]
    fn brokers_are_one_to_five_hosts_with_ports() {
        let broker = || json!({"host": "b1.example.com", "port": 8883});
        check("update_config", json!({"brokers": [broker(), {"host": "::1", "port": 1883}]}), &[]);
        check("update_config", json!({"brokers": []}), &["params.brokers"]);
        check("update_config", json!({"brokers": vec![broker(); 6]}), &["params.brokers"]);
        check(
            "update_config",
            json!({"brokers": [{"host": "a b", "port": 65536}, 7, {"host": "a", "port": 1, "tls": true}]}),
            &["params.brokers[0].host", "params.brokers[0].port", "params.brokers[1]", "params.brokers[2].tls"],
        );
    }

    #[test]
    fn an_update_needs_all_of_its_parameters() {
        let sha = "ab".repeat(32);
        let good = json!({"fw_version": "2.2.0", "fw_url": "https://x/f.bin", "fw_sha256": sha, "fw_size_bytes": 1});
        check("start_ota", good, &[]);
        check(
            "start_ota",
            json!({}),
            &["params.fw_version", "params.fw_url", "params.fw_sha256", "params.fw_size_bytes"],
        );
        check(
            "start_ota",
            json!({"fw_version": "", "fw_url": "ftp://x", "fw_sha256": "zz", "fw_size_bytes": 0}),
            &["params.fw_version", "params.fw_url", "params.fw_sha256", "params.fw_size_bytes"],
        );
    }

    #[test]
    fn an_unknown_command_is_answered_with_every_valid_one() {
        let faults = validate_command("explode", &Map::new()).expect_err("unknown");
        for kind in CommandKind::ALL {
            assert!(faults[0].message.contains(kind.name()), "{faults:?}");
        }
    }
}
