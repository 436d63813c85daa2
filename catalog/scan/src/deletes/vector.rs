//! Deletion vectors: the blob `deletion-vector-v1` of a Puffin file.
//!
//! ```text
//!   length (4 bytes, big-endian) | magic | 64-bit Roaring bitmap, portable | CRC-32 (4 bytes, big-endian)
//!                                 └──────────── length ────────────────┘
//! ```
//!
//! The checksum is over what the length counts. Some writers leave out length
//! and checksum, so a blob that begins with the magic is taken as it is.

use roaring::RoaringTreemap;

const MAGIC: [u8; 4] = [0xd1, 0xd3, 0x39, 0x64];
const LENGTH_BYTES: usize = 4;
const CRC_BYTES: usize = 4;

/// The positions in a blob, which must be `cardinality` many; else what is wrong with it.
pub(super) fn decode(blob: &[u8], cardinality: u64) -> Result<RoaringTreemap, String> {
    let bitmap = match blob.strip_prefix(&MAGIC) {
        Some(bitmap) => bitmap,
        None => unframed(blob)?,
    };
    let mut rest = bitmap;
    let positions =
        RoaringTreemap::deserialize_from(&mut rest).map_err(|error| format!("its bitmap: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes after its bitmap", rest.len()));
    }
    if positions.len() != cardinality {
        return Err(format!("it deletes {} rows where its manifest says {cardinality}", positions.len()));
    }
    Ok(positions)
}

/// What is between length and checksum, without the magic.
fn unframed(blob: &[u8]) -> Result<&[u8], String> {
    let cut = || format!("it is cut off after {} bytes", blob.len());
    let (length, rest) = blob.split_at_checked(LENGTH_BYTES).ok_or_else(cut)?;
    let length = u32::from_be_bytes(length.try_into().map_err(|_| cut())?) as usize;
    let (content, crc) = rest.split_at_checked(length).ok_or_else(cut)?;
    if crc.len() != CRC_BYTES {
        return Err(format!("{} bytes where its checksum should be", crc.len()));
    }
    let stated = u32::from_be_bytes(crc.try_into().map_err(|_| cut())?);
    let actual = crc32fast::hash(content);
    if stated != actual {
        return Err(format!("its checksum is {actual:08x}, not {stated:08x}"));
    }
    content.strip_prefix(&MAGIC).ok_or_else(|| "it does not begin as a deletion vector".to_owned())
}

/// A blob as writers make it.
#[cfg(test)]
pub(super) fn encode(positions: &RoaringTreemap) -> Vec<u8> {
    let mut content = MAGIC.to_vec();
    positions.serialize_into(&mut content).unwrap();
    let mut blob = u32::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    blob.extend_from_slice(&content);
    blob.extend_from_slice(&crc32fast::hash(&content).to_be_bytes());
    blob
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions() -> RoaringTreemap {
        // Containers of all three kinds, and positions beyond 32 bits.
        let mut positions: RoaringTreemap = (0..70_000).filter(|n| n % 3 == 0).collect();
        positions.insert_range(1_000_000..1_100_000);
        positions.extend([5_000_000_000, u64::from(u32::MAX), 1 << 40]);
        positions.optimize();
        positions
    }

    #[test]
    fn framed_and_bare_blobs_are_read() {
        let blob = encode(&positions());
        assert_eq!(decode(&blob, positions().len()).unwrap(), positions());
        let bare = &blob[LENGTH_BYTES..blob.len() - CRC_BYTES];
        assert_eq!(decode(bare, positions().len()).unwrap(), positions());
    }

    // By hand, from the Roaring specification: one bitmap of key 0, with one array container of the values 1 and 3.
    #[test]
    fn a_blob_written_by_hand_is_read() {
        let bitmap = [
            &1_u64.to_le_bytes()[..],
            &0_u32.to_le_bytes(),
            &12346_u32.to_le_bytes(),
            &1_u32.to_le_bytes(),
            &[0, 0, 1, 0],
            &16_u32.to_le_bytes(),
            &[1, 0, 3, 0],
        ]
        .concat();
        let content = [&MAGIC[..], &bitmap].concat();
        assert_eq!(decode(&content, 2).unwrap(), [1, 3].into_iter().collect());
    }

    #[test]
    fn damage_anywhere_is_an_error() {
        let good = encode(&[1, 2, 1000].into_iter().collect());
        assert!(decode(&good, 3).is_ok());
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x10;
            assert!(decode(&bad, 3).is_err(), "byte {index}");
            assert!(decode(&good[..index], 3).is_err(), "cut at {index}");
        }
        let error = decode(&good, 4).unwrap_err();
        assert_eq!(error, "it deletes 3 rows where its manifest says 4");
        let mut crc = good.clone();
        *crc.last_mut().unwrap() ^= 1;
        assert!(decode(&crc, 3).unwrap_err().contains("checksum"));
        assert!(decode(&[], 0).is_err());
        assert!(decode(&[good, vec![0]].concat(), 3).is_err());
    }
}
