//! `multipart/form-data` (RFC 7578, RFC 2046 section 5.1.1) as it comes: pieces of the body in, parts and their bytes out.
//!
//! Invariant: of a part's content nothing is kept but what might be the beginning of a delimiter; heads and the number of
//! parts are bounded. Sans-IO. Knows no field.

use bytes::{Bytes, BytesMut};

/// Longest head of a part.
const MAX_HEAD_BYTES: usize = 4096;
/// Most parts of a body.
const MAX_PARTS: usize = 16;

/// What comes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A part begins; its name.
    Part(String),
    /// More of its content.
    Data(Bytes),
    /// It is complete.
    End,
}

/// What a body may do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter: another part, or the end.
    Delimited,
    Head,
    Content,
    /// Behind the last delimiter: whatever comes is not ours.
    Epilogue,
}

/// Reads one body.
#[derive(Debug)]
pub struct Reader {
    /// CRLF, two dashes, boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
    parts: usize,
}

/// The boundary of a content type, if it is of this kind: 1 to 70 characters.
pub fn boundary(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';');
    if !parts.next()?.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parts.find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        let value = value.trim().trim_matches('"');
        let is_good = name.eq_ignore_ascii_case("boundary") && (1..=70).contains(&value.len());
        is_good.then(|| value.to_owned())
    })
}

impl Reader {
    /// For a body with that boundary.
    pub fn new(boundary: &str) -> Self {
        // The first delimiter may be without the line end before it: one is put there.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        Self { delimiter: format!("\r\n--{boundary}").into_bytes(), buffer, state: State::Preamble, parts: 0 }
    }

    /// Takes more of the body.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Malformed> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while self.advance(&mut events)? {}
        Ok(events)
    }

    /// Whether all of it has come.
    pub fn is_complete(&self) -> bool {
        self.state == State::Epilogue
    }

    /// One step; `false` = more is needed.
    fn advance(&mut self, events: &mut Vec<Event>) -> Result<bool, Malformed> {
        match self.state {
            State::Preamble => Ok(self.take_to_delimiter().1),
            State::Content => {
                let (data, is_end) = self.take_to_delimiter();
                if !data.is_empty() {
                    events.push(Event::Data(data));
                }
                if is_end {
                    events.push(Event::End);
                }
                Ok(is_end)
            }
            State::Delimited => self.after_delimiter(),
            State::Head => self.head(events),
            State::Epilogue => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    /// What comes before the next delimiter, as far as it is known not to be part of it; and whether that is there.
    fn take_to_delimiter(&mut self) -> (Bytes, bool) {
        match find(&self.buffer, &self.delimiter) {
            Some(at) => {
                let data = self.buffer.split_to(at).freeze();
                let _ = self.buffer.split_to(self.delimiter.len());
                self.state = State::Delimited;
                (data, true)
            }
            None => {
                let safe = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
                (self.buffer.split_to(safe).freeze(), false)
            }
        }
    }

    fn after_delimiter(&mut self) -> Result<bool, Malformed> {
        if self.buffer.starts_with(b"--") {
            self.state = State::Epilogue;
            return Ok(true);
        }
        let Some(end) = find(&self.buffer, b"\r\n") else {
            return if self.buffer.len() > 256 { Err(Malformed("a delimiter's line does not end")) } else { Ok(false) };
        };
        if !self.buffer[..end].iter().all(|b| matches!(b, b' ' | b'\t')) {
            return Err(Malformed("something follows a delimiter on its line"));
        }
        if self.parts == MAX_PARTS {
            return Err(Malformed("the body has too many parts"));
        }
        self.parts += 1;
        // The line's end stays: a head may be empty.
        let _ = self.buffer.split_to(end);
        self.state = State::Head;
        Ok(true)
    }

    fn head(&mut self, events: &mut Vec<Event>) -> Result<bool, Malformed> {
        let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
            let is_long = self.buffer.len() > MAX_HEAD_BYTES;
            return if is_long { Err(Malformed("a part's head is too long")) } else { Ok(false) };
        };
        if end > MAX_HEAD_BYTES {
            return Err(Malformed("a part's head is too long"));
        }
        let head = self.buffer.split_to(end + 4);
        let name = std::str::from_utf8(&head).ok().and_then(name_of);
        events.push(Event::Part(name.ok_or(Malformed("a part has no name in its Content-Disposition"))?));
        self.state = State::Content;
        Ok(true)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == wanted[0]) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The name in a head's `Content-Disposition: form-data; name="…"`.
fn name_of(head: &str) -> Option<String> {
    let line = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value.trim())
    })?;
    let (kind, mut rest) = line.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    loop {
        let (name, value) = rest.split_once('=')?;
        let (value, behind) = parameter(value)?;
        if name.trim().eq_ignore_ascii_case("name") {
            return Some(value);
        }
        rest = behind.trim_start().strip_prefix(';')?;
    }
}

/// A parameter's value, quoted or not, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, letter) in quoted.char_indices() {
        match letter {
            _ if is_escaped => {
                value.push(letter);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests;
