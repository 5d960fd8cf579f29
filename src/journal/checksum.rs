//! CRC-32C (Castagnoli) of records, segments and archived rows, by the widest instructions the processor has. Pure.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// The checksum of what has the checksum `before`, with `bytes` behind it.
pub(crate) fn crc32c_append(before: u32, bytes: &[u8]) -> u32 {
    // The register holds the complement of the checksum.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, as RFC 3720 has it.
    fn by_the_book(before: u32, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!before, |register, byte| {
            (0..8).fold(register ^ u32::from(*byte), |r, _| if r & 1 == 0 { r >> 1 } else { r >> 1 ^ 0x82F6_3B78 })
        })
    }

    #[test]
    fn the_vectors_of_rfc_3720_have_their_sums() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    }

    proptest! {
        #[test]
        fn parts_one_after_the_other_have_the_sum_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..3000), split in 0usize..3000, before in any::<u32>(),
        ) {
            let split = split.min(bytes.len());
            let whole = crc32c_append(before, &bytes);
            prop_assert_eq!(whole, by_the_book(before, &bytes));
            prop_assert_eq!(crc32c_append(crc32c_append(before, &bytes[..split]), &bytes[split..]), whole);
        }
    }
}
