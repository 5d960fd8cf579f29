//! JSON → neutral form, in one pass, without a tree of values.
//!
//! The text is UTF-8 already. What is skipped is skipped without recursion (serde_json), so no nesting exhausts the
//! stack; what is entered is three levels deep.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::draft::{Draft, Entry, EntryField, Field, Flat, List, Malformed, Measurements, Scalar};

/// Reads the members the protocol knows.
pub(super) fn draft(text: &str) -> Result<Draft<'_>, Malformed> {
    let mut draft = Draft::default();
    whole(text, DraftVisitor(&mut draft))?;
    Ok(draft)
}

/// Reads all members with a number.
pub(super) fn flat(text: &str) -> Result<Flat<'_>, Malformed> {
    let mut flat = Flat::default();
    whole(text, FlatVisitor(&mut flat))?;
    Ok(flat)
}

/// Like [`flat`], of a text that is no JSON for its numbers that are not finite: `nulls` and `zeros` are this text with
/// `null` and with 0 in their place. What is a number in `zeros` alone is one of them.
pub(super) fn flat_of_repaired<'a>(nulls: &str, zeros: &'a str) -> Result<Flat<'a>, Malformed> {
    let (finite, mut all) = (flat(nulls)?, flat(zeros)?);
    for (name, value) in &mut all.numbers {
        if !finite.numbers.iter().any(|(other, _)| **other == **name) {
            *value = Scalar::Float(f64::NAN);
        }
    }
    Ok(all)
}

/// One map, and nothing behind it.
fn whole<'a>(text: &'a str, visitor: impl Visitor<'a>) -> Result<(), Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(visitor).map_err(|_| Malformed)?;
    deserializer.end().map_err(|_| Malformed)
}

fn twice<E: Error>(_: Malformed) -> E {
    E::custom("a member is named twice")
}

struct DraftVisitor<'d, 'a>(&'d mut Draft<'a>);

impl<'a> Visitor<'a> for DraftVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(Field::from_name))? {
            match field {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(Field::Measurements) => {
                    self.0.put_measurements(map.next_value_seed(Any(MeasurementsVisitor))?).map_err(twice)?;
                }
                Some(field) => self.0.put(field, map.next_value_seed(Any(ScalarVisitor))?).map_err(twice)?,
            }
        }
        Ok(())
    }
}

struct FlatVisitor<'d, 'a>(&'d mut Flat<'a>);

impl<'a> Visitor<'a> for FlatVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Any(ScalarVisitor))? {
            let value = map.next_value_seed(Any(ScalarVisitor))?;
            let Scalar::Text(name) = name else { continue };
            self.0.put(name, value).map_err(twice)?;
        }
        Ok(())
    }
}

/// A member's name, looked up without keeping it.
struct Name<T>(fn(&str) -> Option<T>);

impl<'a, T> DeserializeSeed<'a> for Name<T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<T> Visitor<'_> for Name<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0)(name))
    }
}

/// Whatever stands there, shown to the visitor.
struct Any<V>(V);

impl<'a, V: Visitor<'a>> DeserializeSeed<'a> for Any<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_any(self.0)
    }
}

fn skip_seq<'a, A: SeqAccess<'a>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_map<'a, A: MapAccess<'a>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

struct ScalarVisitor;

impl<'a> Visitor<'a> for ScalarVisitor {
    type Value = Scalar<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Unsigned(n))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Scalar<'a>, E> {
        Ok(u64::try_from(n).map_or(Scalar::Negative(n), Scalar::Unsigned))
    }

    fn visit_f64<E: Error>(self, f: f64) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Float(f))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar<'a>, E> {
        Ok(Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<Scalar<'a>, A::Error> {
        skip_seq(seq).map(|()| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<Scalar<'a>, A::Error> {
        skip_map(map).map(|()| Scalar::Other)
    }
}

/// Makes a visitor that takes every kind of value but its own for `$otherwise`.
macro_rules! anything_else {
    ($value:ty, $otherwise:expr, $expecting:literal) => {
        type Value = $value;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($expecting)
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<$value, E> {
            Ok($otherwise)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<$value, E> {
            Ok($otherwise)
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<$value, E> {
            Ok($otherwise)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<$value, E> {
            Ok($otherwise)
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<$value, E> {
            Ok($otherwise)
        }

        fn visit_unit<E: Error>(self) -> Result<$value, E> {
            Ok($otherwise)
        }
    };
}

struct MeasurementsVisitor;

impl<'a> Visitor<'a> for MeasurementsVisitor {
    anything_else!(Measurements<'a>, Measurements::NotAList, "a list");

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<Measurements<'a>, A::Error> {
        skip_map(map).map(|()| Measurements::NotAList)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Measurements<'a>, A::Error> {
        let mut list = List::default();
        while let Some(entry) = seq.next_element_seed(Any(EntryVisitor))? {
            list.push(entry);
        }
        Ok(Measurements::List(list))
    }
}

/// One measurement; `None` when it is no object.
struct EntryVisitor;

impl<'a> Visitor<'a> for EntryVisitor {
    anything_else!(Option<Entry<'a>>, None, "a measurement");

    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<Option<Entry<'a>>, A::Error> {
        skip_seq(seq).map(|()| None)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Option<Entry<'a>>, A::Error> {
        let mut entry = Entry::default();
        while let Some(field) = map.next_key_seed(Name(EntryField::from_name))? {
            match field {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(field) => entry.put(field, map.next_value_seed(Any(ScalarVisitor))?).map_err(twice)?,
            }
        }
        Ok(Some(entry))
    }
}
