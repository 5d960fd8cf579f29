//! A request's head as it comes in: where it ends, whether it is too large, and whether its lines end as they should.
//!
//! RFC 9112 lets a recipient take a bare LF for the end of a line, and the library does; a proxy before us may take it for
//! part of a value, and then both see different requests. Pure.

/// Largest head: whoever sends it is not known yet.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What is wrong with a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// A line ends with a bare LF.
    Unreadable,
    /// It is larger than a head may be.
    TooLarge,
}

/// What has come of a head.
#[derive(Debug, Default)]
pub(super) struct Head {
    len: usize,
    last: u8,
    line_len: usize,
    has_begun: bool,
    is_over: bool,
}

impl Head {
    /// Takes the next bytes as far as they belong to the head; how many do.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.is_over {
                return Ok(at);
            }
            self.len += 1;
            if self.len > MAX_HEAD_BYTES {
                return Err(Fault::TooLarge);
            }
            match byte {
                b'\n' if self.last != b'\r' => return Err(Fault::Unreadable),
                // Empty lines before a request are passed over (RFC 9112, 2.2).
                b'\n' if self.line_len == 0 => self.is_over = self.has_begun,
                b'\n' => self.line_len = 0,
                b'\r' => {}
                _ => (self.line_len, self.has_begun) = (self.line_len + 1, true),
            }
            self.last = byte;
        }
        Ok(bytes.len())
    }

    /// Whether its last line has come.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_head_ends_with_both_letters() {
        let check = |pieces: &[&str], expected: bool| {
            let mut head = Head::default();
            let found = pieces.iter().any(|piece| head.take(piece.as_bytes()) == Err(Fault::Unreadable));
            assert_eq!(found, expected, "{pieces:?}");
        };
        check(&["GET / HTTP/1.1\r\nHost: x\r\n\r\nbody\nof lines\n"], false);
        check(&["\r\n\r\nGET / HTTP/1.1\r", "\nA: b\r\n\r", "\n", "\n"], false);
        check(&["GET / HTTP/1.1\nHost: x\r\n\r\n"], true);
        check(&["GET / HTTP/1.1\r\nA: b", "\nContent-Length: 5\r\n\r\n"], true);
        check(&["GET / HTTP/1.1\r\n\n"], true);
        check(&["\n"], true);
    }

    #[test]
    fn a_head_ends_where_it_ends_and_what_follows_is_not_its() {
        let check = |pieces: &[&str], expected: &[usize]| {
            let mut head = Head::default();
            let taken: Vec<_> = pieces.iter().map(|piece| head.take(piece.as_bytes()).expect("is good")).collect();
            assert_eq!(taken, expected, "{pieces:?}");
        };
        check(&["GET / HTTP/1.1\r\n\r\nbody"], &[18]);
        check(&["GET / HTTP/1.1\r\n", "\r\nGET / HTTP/1.1\r\n\r\n", "x"], &[16, 2, 0]);
        check(&["\r\n\r\nGET / HTTP/1.1\r\n\r\n"], &[22]);
    }

    #[test]
    fn a_head_is_16_kib_at_most_and_a_body_as_large_as_it_likes() {
        let large = |n: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(n - 23));
        assert_eq!(Head::default().take(large(MAX_HEAD_BYTES).as_bytes()), Ok(MAX_HEAD_BYTES));
        assert_eq!(Head::default().take(large(MAX_HEAD_BYTES + 1).as_bytes()), Err(Fault::TooLarge));
        let body = format!("{}{}", large(100), "x".repeat(2 * MAX_HEAD_BYTES));
        assert_eq!(Head::default().take(body.as_bytes()), Ok(100));
    }
}
