//! From a token's claims to a person: subject, role, devices, as configured. Pure.

use serde_json::Value;

use super::jwt::Claims;
use super::{Options, Person, Refusal};
use crate::store::Role;

/// Longest prefix of device ids.
const MAX_PREFIX: usize = 128;

/// The person. Without a role that was configured nobody is let in; where tokens are limited to devices, a token that names
/// none reaches none (`*` = all).
pub(super) fn person(claims: &Claims, options: &Options) -> Result<Person, Refusal> {
    let role =
        find(claims, &options.role_claim).into_iter().flat_map(words).filter_map(|word| role(&word, options)).max();
    let role = role.ok_or(Refusal::NoRole)?;
    let device_prefix = match options.devices_claim.is_empty() {
        true => None,
        false => match find(claims, &options.devices_claim).and_then(Value::as_str) {
            Some("*") => None,
            Some(prefix) if !prefix.is_empty() && prefix.len() <= MAX_PREFIX => Some(prefix.to_owned()),
            _ => return Err(Refusal::NoDevices),
        },
    };
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(Refusal::Subject)?;
    let subject = subject.chars().map(|c| if c.is_control() || c.is_whitespace() { '?' } else { c }).collect();
    Ok(Person { subject, role, device_prefix })
}

fn find<'a>(claims: &'a Claims, path: &[String]) -> Option<&'a Value> {
    let (last, outer) = path.split_last()?;
    let object = outer.iter().try_fold(claims, |object, name| object.get(name)?.as_object())?;
    object.get(last)
}

/// A text's words, or the texts of a list.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn role(word: &str, options: &Options) -> Option<Role> {
    options.roles.iter().filter(|(value, _)| value == word).map(|(_, role)| *role).max()
}
