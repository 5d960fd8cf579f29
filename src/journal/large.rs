//! Buffers that may become large and leave nothing behind when they are dropped.
//!
//! Why: glibc serves a block of 128 KiB or more with a mapping of its own; but when one is freed it learns from it, and from
//! then on takes blocks up to that size, at most 32 MiB, from the arenas of the threads, of which it keeps free twice
//! that size **each**. One buffer of 28 MiB freed after a burst thus cost some 40 MB that never came back. From blocks
//! of more than 32 MiB it learns nothing. So a buffer is small, or reserves that much at once: it is address space, of
//! which only what is written takes memory, and all of it is given back at once.
//!
//! Invariant: no block between the two sizes is asked for. Knows nothing of what is in the buffers.

/// Bytes up to which a buffer is small; it may grow to twice this.
const SMALL: usize = 32 << 10;
/// Bytes reserved for a large one.
const LARGE: usize = 33 << 20;

/// Like [`Vec::reserve`], going from small to large in one step.
pub(crate) fn reserve<T>(buffer: &mut Vec<T>, additional: usize) {
    let needed = buffer.len().saturating_add(additional);
    if needed <= buffer.capacity() {
        return;
    }
    let size = size_of::<T>().max(1);
    if needed <= SMALL / size {
        buffer.reserve(additional);
        return;
    }
    let mut large = Vec::with_capacity((LARGE / size).max(needed.saturating_mul(2)));
    large.append(buffer);
    *buffer = large;
}

/// Gives an empty buffer back, unless it is small.
pub(crate) fn give_back<T>(buffer: &mut Vec<T>) {
    if buffer.is_empty() && is_large(buffer) {
        *buffer = Vec::new();
    }
}

/// Whether it is worth giving back.
pub(crate) const fn is_large<T>(buffer: &Vec<T>) -> bool {
    buffer.capacity().saturating_mul(size_of::<T>()) > 2 * SMALL
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_buffer_is_small_or_larger_than_what_the_allocator_learns_from(
            steps in prop::collection::vec(0..20_000_usize, 0..60),
        ) {
            let (mut bytes, mut rows) = (Vec::<u8>::new(), Vec::<[u64; 20]>::new());
            let mut plain = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                reserve(&mut bytes, step);
                let had = bytes.capacity();
                bytes.resize(bytes.len() + step, n as u8);
                plain.resize(plain.len() + step, n as u8);
                prop_assert_eq!(bytes.capacity(), had, "what was reserved is enough");
                reserve(&mut rows, step / 50);
                rows.resize(rows.len() + step / 50, [n as u64; 20]);
                for size in [bytes.capacity(), rows.capacity() * size_of::<[u64; 20]>()] {
                    prop_assert!(size <= 2 * SMALL || size > 32 << 20, "{}", size);
                }
            }
            prop_assert_eq!(&bytes, &plain);
            bytes.clear();
            give_back(&mut bytes);
            prop_assert!(!is_large(&bytes));
        }
    }

    #[test]
    fn a_buffer_with_something_in_it_is_kept() {
        let mut buffer = vec![7_u8; 1 << 20];
        give_back(&mut buffer);
        assert_eq!(buffer.len(), 1 << 20);
    }

    #[test]
    fn more_than_usual_is_reserved_when_it_is_needed() {
        let mut buffer = Vec::<u8>::new();
        reserve(&mut buffer, 40 << 20);
        assert!(buffer.capacity() >= 40 << 20);
    }
}
