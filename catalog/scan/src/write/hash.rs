//! The hash of the `bucket` transform: Murmur3, 32 bits, x86 variant, seed 0.
//!
//! Iceberg specification, appendix B. The typed functions fix how a value is
//! laid out before hashing; readers depend on every bit of it.

/// Hash of an int, long, date, time or timestamp (microseconds): always as a long.
pub(super) fn hash_long(value: i64) -> i32 {
    murmur3(&value.to_le_bytes())
}

/// Hash of a decimal's unscaled value: the shortest big-endian two's complement.
pub(super) fn hash_decimal(unscaled: i128) -> i32 {
    murmur3(&shortest_be_bytes(unscaled))
}

/// Hash of a string's UTF-8, a binary, a fixed or a UUID's 16 bytes.
pub(super) fn hash_bytes(bytes: &[u8]) -> i32 {
    murmur3(bytes)
}

/// The shortest big-endian two's complement of `value`; one byte for zero.
pub(super) fn shortest_be_bytes(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let mut start = 0;
    while start < 15 && bytes[start] == sign && (bytes[start + 1] ^ sign) & 0x80 == 0 {
        start += 1;
    }
    bytes[start..].to_vec()
}

fn murmur3(bytes: &[u8]) -> i32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |word: u32| word.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);

    let (words, tail) = bytes.as_chunks::<4>();
    let mut hash = 0_u32;
    for word in words {
        hash ^= scramble(u32::from_le_bytes(*word));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let mut last = [0_u8; 4];
    last[..tail.len()].copy_from_slice(tail);
    hash ^= scramble(u32::from_le_bytes(last));

    hash ^= bytes.len() as u32;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of hash values in the specification's appendix B.
    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(hash_long(34), 2_017_239_379);
        assert_eq!(hash_decimal(1420), -500_754_589);
        assert_eq!(hash_long(17_486), -653_330_422);
        assert_eq!(hash_long(81_068_000_000), -662_762_989);
        assert_eq!(hash_long(1_510_871_468_000_000), -2_047_944_441);
        assert_eq!(hash_long(1_510_871_468_000_001), -1_207_196_810);
        assert_eq!(hash_bytes("iceberg".as_bytes()), 1_210_000_089);
        let uuid = uuid::Uuid::parse_str("f79c3e09-677c-4bbd-a479-3f349cb785e7").unwrap();
        assert_eq!(hash_bytes(uuid.as_bytes()), 1_488_055_340);
        assert_eq!(hash_bytes(&[0, 1, 2, 3]), -188_683_207);
    }

    #[test]
    fn decimals_are_encoded_in_as_few_bytes_as_hold_the_sign() {
        assert_eq!(shortest_be_bytes(0), [0]);
        assert_eq!(shortest_be_bytes(127), [0x7f]);
        assert_eq!(shortest_be_bytes(128), [0, 0x80]);
        assert_eq!(shortest_be_bytes(-1), [0xff]);
        assert_eq!(shortest_be_bytes(-128), [0x80]);
        assert_eq!(shortest_be_bytes(-129), [0xff, 0x7f]);
        assert_eq!(shortest_be_bytes(i128::MIN).len(), 16);
    }
}
