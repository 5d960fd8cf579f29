//! Commands on the wire: what the server sends and a meter reads, with the signature over the canonical form.
//!
//! The signature is HMAC-SHA256, keyed with the device's command key, over the RFC 8785 canonical JSON of the object
//! without `sig`; in lower-case hexadecimal.

use hmac::{Hmac, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::domain::{CommandId, Timestamp};

/// A command as a meter hears it. The parameters are as sent: a meter judges them itself.
#[derive(Clone, PartialEq, Debug)]
pub struct ReceivedCommand {
    /// Which: a meter does it once.
    pub cmd_id: CommandId,
    /// When it was made.
    pub ts: Timestamp,
    /// The command's name, known or not (an unknown one is answered with `unsupported`).
    pub cmd: String,
    /// Its parameters; empty when absent.
    pub params: Map<String, Value>,
}

/// Why a meter takes no notice of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandRefusal {
    /// Not a JSON object with `v` 2, `cmd_id`, `ts` and `cmd`.
    #[error("the command is malformed")]
    Malformed,
    /// The device has a command key, and the signature is missing or not made with it.
    #[error("the command's signature is missing or wrong")]
    BadSignature,
}

/// The payload of a command, in canonical order; signed where the device has a command key.
pub fn encode_command(
    cmd_id: CommandId,
    ts: Timestamp,
    cmd: &str,
    params: &Map<String, Value>,
    key: Option<&[u8; 32]>,
) -> Vec<u8> {
    let mut command = json!({
        "v": 2, "cmd_id": cmd_id.to_string(), "ts": ts.to_string(), "cmd": cmd, "params": params,
    });
    if let Some(key) = key {
        let signature = signer(key, &command).finalize().into_bytes();
        command["sig"] = Value::String(hex::encode(signature));
    }
    canonical_json(&command)
}

/// Reads a command as a meter does; with a key the signature must be there and right.
pub fn decode_command(payload: &[u8], key: Option<&[u8; 32]>) -> Result<ReceivedCommand, CommandRefusal> {
    let mut command: Map<String, Value> = serde_json::from_slice(payload).map_err(|_| CommandRefusal::Malformed)?;
    let signature = command.remove("sig");
    let command = Value::Object(command);
    if let Some(key) = key {
        let signature = signature.as_ref().and_then(Value::as_str).and_then(|text| hex::decode(text).ok());
        let signature = signature.ok_or(CommandRefusal::BadSignature)?;
        signer(key, &command).verify_slice(&signature).map_err(|_| CommandRefusal::BadSignature)?;
    }
    read(&command).ok_or(CommandRefusal::Malformed)
}

fn read(command: &Value) -> Option<ReceivedCommand> {
    if command["v"].as_u64() != Some(2) {
        return None;
    }
    Some(ReceivedCommand {
        cmd_id: CommandId::parse(command["cmd_id"].as_str()?)?,
        ts: Timestamp::parse_rfc3339(command["ts"].as_str()?)?,
        cmd: command["cmd"].as_str()?.to_owned(),
        params: match &command["params"] {
            Value::Null => Map::new(),
            params => params.as_object()?.clone(),
        },
    })
}

fn signer(key: &[u8; 32], command: &Value) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(&canonical_json(command));
    mac
}

/// A value in RFC 8785 canonical form.
pub fn canonical_json(value: &Value) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("a JSON value has only finite numbers and text keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> Vec<Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors/command_signatures.json");
        let text = std::fs::read_to_string(path).expect("the vectors are there");
        serde_json::from_str(&text).expect("the vectors are JSON")
    }

    #[test]
    fn every_vector_gives_its_canonical_form_and_signature() {
        let cases = vectors();
        assert!(cases.len() >= 2, "the vectors have shrunk");
        for case in &cases {
            let key: [u8; 32] = hex::decode(case["key_hex"].as_str().unwrap()).unwrap().try_into().unwrap();
            let command = &case["command"];
            assert_eq!(String::from_utf8(canonical_json(command)).unwrap(), case["canonical"].as_str().unwrap());
            let sent = encode_command(
                CommandId::parse(command["cmd_id"].as_str().unwrap()).unwrap(),
                Timestamp::parse_rfc3339(command["ts"].as_str().unwrap()).unwrap(),
                command["cmd"].as_str().unwrap(),
                command["params"].as_object().unwrap(),
                Some(&key),
            );
            let mut expected = command.clone();
            expected["sig"] = case["sig"].clone();
            assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), expected);
            let received = decode_command(&sent, Some(&key)).expect("signed with this key");
            assert_eq!(received.params, *command["params"].as_object().unwrap());
            assert_eq!(decode_command(&sent, Some(&[7; 32])), Err(CommandRefusal::BadSignature));
        }
    }

    #[test]
    fn a_meter_with_a_key_takes_no_unsigned_or_altered_command() {
        let (id, ts, key) = (CommandId::random(), Timestamp(1_770_000_000_000_000), [1; 32]);
        let unsigned = encode_command(id, ts, "reboot", &Map::new(), None);
        assert_eq!(decode_command(&unsigned, Some(&key)), Err(CommandRefusal::BadSignature));
        assert_eq!(decode_command(&unsigned, None).map(|command| command.cmd_id), Ok(id));
        let signed = encode_command(id, ts, "reboot", &Map::new(), Some(&key));
        let altered = String::from_utf8(signed).unwrap().replace("reboot", "factory_reset");
        assert_eq!(decode_command(altered.as_bytes(), Some(&key)), Err(CommandRefusal::BadSignature));
        assert_eq!(decode_command(b"[]", None), Err(CommandRefusal::Malformed));
        assert_eq!(decode_command(b"{\"v\":2}", None), Err(CommandRefusal::Malformed));
    }
}
