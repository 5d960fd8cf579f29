//! What a stream is to show. Pure.

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::Params;
use crate::domain::{DeviceId, DevicePattern};
use crate::live::{Event, Kind};

/// Most devices and patterns that can be named.
const MAX_NAMED: usize = 500;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Query {
    kinds: Vec<Kind>,
    /// Sorted.
    ids: Vec<DeviceId>,
    patterns: Vec<DevicePattern>,
    asker: Principal,
}

impl Query {
    /// Reads it; devices out of the key's reach are refused where they are named.
    pub fn read(mut params: Params, principal: &Principal) -> Result<Self, ApiError> {
        let (mut ids, mut patterns, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let names: Vec<String> = params.all("devices").into_iter().map(str::to_owned).collect();
        for name in &names {
            match (name.contains(['*', '?']), DevicePattern::parse(name), DeviceId::parse(name)) {
                (true, Some(pattern), _) => patterns.push(pattern),
                (false, _, Some(id)) => ids.push(id),
                _ => params.fault("devices", "must be device ids, or patterns with * and ?, by commas or repeated"),
            }
        }
        if names.len() > MAX_NAMED {
            params.fault("devices", format!("may name at most {MAX_NAMED}"));
        }
        let words: Vec<String> = params.all("kinds").into_iter().map(str::to_owned).collect();
        for word in words {
            match Kind::ALL.into_iter().find(|kind| kind.names().1 == word) {
                Some(kind) => kinds.push(kind),
                None => {
                    params.fault("kinds", "must be of readings, presence, alerts and commands, by commas or repeated")
                }
            }
        }
        params.finish()?;
        ids.iter().try_for_each(|id| principal.must_reach(id))?;
        ids.sort_unstable();
        if kinds.is_empty() {
            kinds = Kind::ALL.to_vec();
        }
        Ok(Self { kinds, ids, patterns, asker: principal.clone() })
    }

    /// Whether the event is to be shown. What a device nobody has registered does is nobody's presence.
    pub fn wants(&self, event: &Event) -> bool {
        let Some((kind, device)) = event.subject() else { return false };
        let id = device.as_str();
        let is_meant = || {
            let is_any = self.ids.is_empty() && self.patterns.is_empty();
            is_any || self.ids.binary_search(device).is_ok() || self.patterns.iter().any(|pattern| pattern.admits(id))
        };
        let is_registered = !matches!(event, Event::Presence(_, state) if state.registration.is_none());
        self.kinds.contains(&kind) && is_registered && self.asker.may_reach(device) && is_meant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::auth::Via;
    use crate::api::testing::alert;
    use crate::domain::{DeviceState, Registration};
    use crate::store::Role;

    fn principal(prefix: Option<&str>) -> Principal {
        let device_prefix = prefix.map(str::to_owned);
        Principal { name: "key:1".into(), role: Role::Viewer, device_prefix, via: Via::Key }
    }

    #[test]
    fn a_stream_shows_the_devices_and_kinds_that_are_asked_for_and_no_other_keys() {
        let check = |query: &str, prefix: Option<&str>, device: &str, expected: bool| {
            let query = Query::read(Params::parse(query), &principal(prefix)).unwrap();
            assert_eq!(query.wants(&alert(device)), expected, "{query:?} {device}");
        };
        check("", None, "m1", true);
        check("devices=m1", None, "m1", true);
        check("devices=m1", None, "m10", false);
        check("devices=a,m1*", None, "m10", true);
        check("kinds=readings,presence", None, "m1", false);
        check("kinds=alerts", None, "m1", true);
        check("", Some("dc-"), "ac-1", false);
        check("devices=*", Some("dc-"), "ac-1", false);
        check("devices=*", Some("dc-"), "dc-1", true);
        let read = |query: &str, prefix| Query::read(Params::parse(query), &principal(prefix));
        assert!(matches!(read("devices=ac-1", Some("dc-")), Err(ApiError::Forbidden(_))));
        assert_eq!(read("devices=/&kinds=news", None).unwrap_err().faults().len(), 2);
    }

    #[test]
    fn the_presence_of_a_device_nobody_registered_is_not_shown() {
        let query = Query::read(Params::parse(""), &principal(None)).unwrap();
        let presence = |registration| {
            let state = DeviceState { registration, ..DeviceState::default() };
            Event::Presence(DeviceId::parse("m1").unwrap(), Box::new(state))
        };
        assert!(!query.wants(&presence(None)));
        let registered = Registration { is_active: true, intervals: Default::default(), device_type: "dc750".into() };
        assert!(query.wants(&presence(Some(registered))));
    }
}
