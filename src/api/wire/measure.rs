//! Where a request's body ends, so that no byte behind it is handed on with it.
//!
//! The library reads the body itself and judges it; this only keeps step. Invariant: where the two should ever see different
//! ends, nothing is lost and nothing is hidden: too early an end here, and the library waits for the rest until the body's time
//! is over; too late a one, and it has a part of the next request early. Pure.

/// How a body says its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measure {
    /// So many bytes are still to come; 0 = it has come to its end.
    Sized(u64),
    /// In chunks (RFC 9112, 7.1).
    Chunked(Chunks),
    /// With the connection.
    Endless,
}

/// Where in the chunks it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chunks {
    /// In the line of a chunk's size; past its digits or not.
    Size { size: u64, is_read: bool },
    /// In a chunk and the end of its line, so many bytes before the next.
    Data(u64),
    /// Behind the last chunk, so many bytes into a line.
    Trailer(usize),
    /// Behind it all.
    Over,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size { size: 0, is_read: false }
    }
}

impl Measure {
    pub(super) const NONE: Self = Self::Sized(0);

    /// Takes the next bytes as far as they belong to the body; how many do.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Endless => bytes.len(),
            Self::Sized(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                taken
            }
            Self::Chunked(chunks) => chunks.take(bytes),
        }
    }

    /// Whether there is nothing more of it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Sized(0) | Self::Chunked(Chunks::Over))
    }

    /// No more than that many bytes are still to come.
    pub(super) fn most(&self) -> u64 {
        match self {
            Self::Sized(left) => *left,
            Self::Chunked(Chunks::Over) => 0,
            Self::Chunked(_) | Self::Endless => u64::MAX,
        }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match self {
                Self::Over => return at,
                Self::Data(left) => {
                    let step = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= step as u64;
                    at += step;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                _ => {
                    self.step(bytes[at]);
                    at += 1;
                }
            }
        }
        at
    }

    fn step(&mut self, byte: u8) {
        *self = match (*self, byte) {
            (Self::Size { size: 0, .. }, b'\n') => Self::Trailer(0),
            // The line's end behind the chunk included.
            (Self::Size { size, .. }, b'\n') => Self::Data(size.saturating_add(2)),
            (Self::Size { size, is_read }, byte) => match char::from(byte).to_digit(16).filter(|_| !is_read) {
                // What is too large is refused by the library.
                Some(digit) => Self::Size { size: size.saturating_mul(16).saturating_add(digit.into()), is_read },
                None => Self::Size { size, is_read: true },
            },
            (Self::Trailer(0), b'\n') => Self::Over,
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(length), b'\r') => Self::Trailer(length),
            (Self::Trailer(length), _) => Self::Trailer(length + 1),
            (other, _) => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_where_they_end_however_they_come() {
        let check = |body: &str| {
            let all = format!("{body}GET / HTTP/1.1\r\n\r\n");
            for piece in [1, 2, 3, 7, all.len()] {
                let mut measure = Measure::Chunked(Chunks::default());
                let taken: usize = all.as_bytes().chunks(piece).map(|bytes| measure.take(bytes)).sum();
                assert_eq!((taken, measure.is_over()), (body.len(), true), "{body:?} by {piece}");
            }
        };
        check("0\r\n\r\n");
        check("5\r\nhello\r\n0\r\n\r\n");
        check("A;x=\"12\"\r\n0\r\n\r\n0\r\n\r\n\r\n1 \r\n\n\r\n000\r\n\r\n");
        check("3\r\nabc\r\n0\r\nTrailer: x\r\nb: c\r\n\r\n");
    }

    #[test]
    fn a_body_is_as_long_as_it_says() {
        let mut sized = Measure::Sized(5);
        assert_eq!((sized.take(b"abc"), sized.is_over(), sized.take(b"defg"), sized.is_over()), (3, false, 2, true));
        let mut endless = Measure::Endless;
        assert_eq!((endless.take(b"abc"), endless.is_over()), (3, false));
        assert!(Measure::NONE.is_over());
        let mut huge = Measure::Chunked(Chunks::default());
        assert_eq!((huge.take(b"FFFFFFFFFFFFFFFFFFFF\r\n0\r\n\r\n"), huge.is_over()), (27, false));
    }
}
