//! Identities. A value of these types has passed its rule; nothing behind the edge checks it again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A meter's id: 1 to 128 of `A-Z a-z 0-9 . _ -`, not starting with `.` or `-`. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(Arc<str>);

/// The longest device id in bytes.
pub const MAX_DEVICE_ID_LEN: usize = 128;

impl DeviceId {
    /// `None` when `text` breaks the rule above.
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_valid(text).then(|| Self(text.into()))
    }

    /// The rule above, without making an id.
    pub fn is_valid(text: &str) -> bool {
        let bytes = text.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= MAX_DEVICE_ID_LEN
            && !matches!(bytes[0], b'.' | b'-')
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DeviceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A command's id, made by the server (UUID version 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub uuid::Uuid);

impl CommandId {
    /// A new random id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// Reads the textual form of a UUID.
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_is_1_to_128_of_its_letters_and_does_not_start_with_dot_or_dash() {
        let check = |text: &str, expected: bool| assert_eq!(DeviceId::parse(text).is_some(), expected, "{text:?}");
        check("dc-meter-007", true);
        check("_x.Y-9", true);
        check(&"a".repeat(128), true);
        check(&"a".repeat(129), false);
        check("", false);
        check(".hidden", false);
        check("-flag", false);
        check("a/b", false);
        check("a+b", false);
        check("é", false);
        check("a\0", false);
    }
}
