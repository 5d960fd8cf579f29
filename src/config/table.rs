//! What a line of the table of keys is, and what is made of all of them.
//!
//! The list itself is in `keys`; nothing else may call the macro.

use super::texts::Rule;
use super::value::Kind;

/// A setting's line in the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `section.key`, or `key` at the top.
    pub path: &'static str,
    /// The default as it would be written.
    pub default: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// What it does.
    pub doc: &'static str,
    /// The flag of `serve` that sets it.
    pub flag: Option<&'static str>,
}

impl Key {
    /// Its environment variable.
    pub fn env(&self) -> String {
        format!("IOT_METER__{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    /// Whether its value may not show, and may be read from a file named by `…_FILE`.
    pub fn is_secret(&self) -> bool {
        matches!(
            self.kind,
            Kind::SecretUrl { .. }
                | Kind::Text(Rule::Secret | Rule::SealingKey | Rule::SealingKeys | Rule::SecretHeaders)
        )
    }
}

macro_rules! flag {
    () => {
        None
    };
    ($flag:literal) => {
        Some($flag)
    };
}

/// Structures, table and reading of all sections, from one list.
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $($(#[doc = $doc:literal])* $key:ident: $ty:ty = $default:literal, $kind:expr $(, $flag:literal)?;)*
        }
    )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $($(#[doc = $doc])* pub $key: $ty,)*
            }
        )*

        /// Every setting, complete and checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            /// Directory of everything that is kept; absolute.
            pub data_dir: PathBuf,
            $($(#[doc = $section_doc])* pub $section: $Section,)*
            /// External brokers.
            pub sources: Vec<ExternalBroker>,
        }

        /// The table.
        pub const KEYS: &[Key] = &[
            Key {
                path: "data_dir",
                default: "./data",
                kind: Kind::Path,
                doc: " Directory of everything that is kept. Made when missing, for this user alone.",
                flag: Some("--data-dir"),
            },
            $($(Key {
                path: concat!(stringify!($section), ".", stringify!($key)),
                default: $default,
                kind: $kind,
                doc: concat!($($doc, "\n"),*),
                flag: $crate::config::table::flag!($($flag)?),
            },)*)*
        ];

        /// What each section is about.
        pub(super) const SECTIONS: &[(&str, &str)] = &[
            $((stringify!($section), concat!($($section_doc, "\n"),*)),)*
        ];

        impl Settings {
            /// Settings of a complete set of values.
            pub(super) fn from_values<'a>(value: impl Fn(&str) -> &'a Value, sources: Vec<ExternalBroker>) -> Self {
                Self {
                    sources,
                    data_dir: PathBuf::from_value(value("data_dir")),
                    $($section: $Section {
                        $($key: <$ty>::from_value(value(concat!(stringify!($section), ".", stringify!($key)))),)*
                    },)*
                }
            }
        }
    };
}

pub(super) use {flag, settings};
