//! CBOR (RFC 8949) → neutral form, in one pass.
//!
//! Definite and indefinite lengths, every float width and tagged items are taken; a tag says nothing here (a bignum is
//! bytes behind a tag, thus no number). What is skipped is skipped without recursion, so no nesting exhausts the stack.

use std::borrow::Cow;

use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};

use super::draft::{Draft, Entry, EntryField, Field, Flat, List, Malformed, Measurements, Scalar};

impl From<Error> for Malformed {
    fn from(_: Error) -> Self {
        Self
    }
}

/// Reads the members the protocol knows.
pub(super) fn draft(payload: &[u8]) -> Result<Draft<'_>, Malformed> {
    let mut draft = Draft::default();
    whole(payload, |d, name| match Field::from_name(&name) {
        None => Ok(d.skip()?),
        Some(Field::Measurements) => draft.put_measurements(measurements(d)?),
        Some(field) => draft.put(field, scalar(d)?),
    })?;
    Ok(draft)
}

/// Reads all members with a number.
pub(super) fn flat(payload: &[u8]) -> Result<Flat<'_>, Malformed> {
    let mut flat = Flat::default();
    whole(payload, |d, name| flat.put(name, scalar(d)?))?;
    Ok(flat)
}

/// One map, and nothing behind it.
fn whole<'a>(
    payload: &'a [u8],
    member: impl FnMut(&mut Decoder<'a>, Cow<'a, str>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut d = Decoder::new(payload);
    if !matches!(untagged(&mut d)?, Type::Map | Type::MapIndef) {
        return Err(Malformed);
    }
    map(&mut d, member)?;
    if d.position() == payload.len() { Ok(()) } else { Err(Malformed) }
}

/// Shows every member to `member`, which must read its value. A key that is no text names nothing known here.
fn map<'a>(
    d: &mut Decoder<'a>,
    mut member: impl FnMut(&mut Decoder<'a>, Cow<'a, str>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut left = d.map()?;
    while has_more(d, &mut left)? {
        match scalar(d)? {
            Scalar::Text(name) => member(d, name)?,
            _ => d.skip()?,
        }
    }
    Ok(())
}

/// Whether another item comes; counts it, or takes the break that ends an indefinite length.
fn has_more(d: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, Malformed> {
    match left {
        Some(0) => Ok(false),
        Some(n) => {
            *n -= 1;
            Ok(true)
        }
        None if d.datatype()? == Type::Break => {
            d.skip()?;
            Ok(false)
        }
        None => Ok(true),
    }
}

/// The type of the next item, its tags read away.
fn untagged(d: &mut Decoder<'_>) -> Result<Type, Malformed> {
    loop {
        match d.datatype()? {
            Type::Tag => drop(d.tag()?),
            datatype => return Ok(datatype),
        }
    }
}

fn scalar<'a>(d: &mut Decoder<'a>) -> Result<Scalar<'a>, Malformed> {
    Ok(match untagged(d)? {
        Type::String => Scalar::Text(Cow::Borrowed(d.str()?)),
        Type::StringIndef => Scalar::Text(Cow::Owned(d.str_iter()?.collect::<Result<String, Error>>()?)),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Scalar::Unsigned(d.u64()?),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => Scalar::Negative(d.i64()?),
        Type::Int => Scalar::Float(i128::from(d.int()?) as f64),
        Type::F16 => Scalar::Float(f64::from(d.f16()?)),
        Type::F32 => Scalar::Float(f64::from(d.f32()?)),
        Type::F64 => Scalar::Float(d.f64()?),
        Type::Break | Type::Unknown(_) => return Err(Malformed),
        datatype => {
            d.skip()?;
            if matches!(datatype, Type::Null | Type::Undefined) { Scalar::Null } else { Scalar::Other }
        }
    })
}

fn measurements<'a>(d: &mut Decoder<'a>) -> Result<Measurements<'a>, Malformed> {
    if !matches!(untagged(d)?, Type::Array | Type::ArrayIndef) {
        d.skip()?;
        return Ok(Measurements::NotAList);
    }
    let (mut left, mut list) = (d.array()?, List::default());
    while has_more(d, &mut left)? {
        list.push(entry(d)?);
    }
    Ok(Measurements::List(list))
}

/// One measurement; `None` when it is no map.
fn entry<'a>(d: &mut Decoder<'a>) -> Result<Option<Entry<'a>>, Malformed> {
    if !matches!(untagged(d)?, Type::Map | Type::MapIndef) {
        d.skip()?;
        return Ok(None);
    }
    let mut entry = Entry::default();
    map(d, |d, name| match EntryField::from_name(&name) {
        None => Ok(d.skip()?),
        Some(field) => entry.put(field, scalar(d)?),
    })?;
    Ok(Some(entry))
}
