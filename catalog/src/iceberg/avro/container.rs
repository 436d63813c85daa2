//! An Avro object container file. Avro 1.11 specification, "Object Container Files".

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use super::{Cursor, Kind, Result, schema};

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;

/// A block unpacks to at most so much: writers end them at some ten kilobytes, rarely at megabytes.
const BLOCK_BYTES_MAX: u64 = 1 << 30;

/// A file in memory, its header read.
pub(in crate::iceberg) struct Container<'a> {
    header: HashMap<String, &'a [u8]>,
    kind: Kind,
    codec: Codec,
    sync: &'a [u8],
    blocks: Cursor<'a>,
}

#[derive(Clone, Copy)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl<'a> Container<'a> {
    /// Reads the header.
    pub(in crate::iceberg) fn open(bytes: &'a [u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("not an Avro file")?;
        let mut cursor = Cursor::new(rest);
        let mut header = HashMap::new();
        while let Some(count) = cursor.block_count()? {
            for _ in 0..count {
                let key = cursor.text()?.to_owned();
                header.insert(key, cursor.bytes()?);
            }
        }
        let sync = cursor.take(SYNC_BYTES)?;
        let codec = match header.get("avro.codec").copied() {
            None | Some(b"null") => Codec::Null,
            Some(b"deflate") => Codec::Deflate,
            Some(b"snappy") => Codec::Snappy,
            Some(b"zstandard") => Codec::Zstandard,
            Some(other) => {
                return Err(format!("Avro codec {:?} is not known", String::from_utf8_lossy(other)));
            }
        };
        let kind = schema::parse(header.get("avro.schema").ok_or("an Avro file without a schema")?)?;
        Ok(Self { header, kind, codec, sync, blocks: cursor })
    }

    /// A value of the header.
    pub(in crate::iceberg) fn header(&self, key: &str) -> Option<&'a [u8]> {
        self.header.get(key).copied()
    }

    /// The writer's schema.
    pub(in crate::iceberg) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Calls `read` once a record, each time with the cursor at its first byte; it must read all of the record.
    pub(in crate::iceberg) fn for_each(
        &self,
        mut read: impl FnMut(&mut Cursor<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut blocks = self.blocks.clone();
        while !blocks.is_at_end() {
            let count = blocks.long()?;
            let packed = blocks.bytes()?;
            if blocks.take(SYNC_BYTES)? != self.sync {
                return Err("an Avro block does not end with its marker".to_owned());
            }
            let block = self.codec.unpack(packed)?;
            // A record has a byte at least: without this a count could keep us for years.
            if usize::try_from(count).is_ok_and(|count| count > block.len()) {
                return Err("an Avro block has more records than bytes".to_owned());
            }
            let mut cursor = Cursor::new(&block);
            for _ in 0..count {
                read(&mut cursor)?;
            }
            if !cursor.is_at_end() {
                return Err("an Avro block is longer than its records".to_owned());
            }
        }
        Ok(())
    }
}

impl Codec {
    fn unpack(self, packed: &[u8]) -> Result<Cow<'_, [u8]>> {
        let read = |reader: &mut dyn Read| {
            let mut block = Vec::with_capacity(packed.len().saturating_mul(4));
            let read = reader.take(BLOCK_BYTES_MAX + 1).read_to_end(&mut block);
            match read {
                Ok(bytes) if bytes as u64 > BLOCK_BYTES_MAX => Err("an Avro block is too long".to_owned()),
                Ok(_) => Ok(Cow::Owned(block)),
                Err(error) => Err(format!("an Avro block cannot be unpacked: {error}")),
            }
        };
        match self {
            Self::Null => Ok(Cow::Borrowed(packed)),
            Self::Deflate => read(&mut flate2::read::DeflateDecoder::new(packed)),
            Self::Zstandard => {
                let decoder = zstd::stream::read::Decoder::new(packed);
                read(&mut decoder.map_err(|error| format!("an Avro block cannot be unpacked: {error}"))?)
            }
            Self::Snappy => {
                // Four bytes of checksum follow.
                let packed = packed.len().checked_sub(4).and_then(|end| packed.get(..end));
                let packed = packed.ok_or("an Avro block is too short")?;
                let length = snap::raw::decompress_len(packed).map_err(|error| error.to_string())?;
                if length as u64 > BLOCK_BYTES_MAX {
                    return Err("an Avro block is too long".to_owned());
                }
                let block = snap::raw::Decoder::new().decompress_vec(packed);
                block.map(Cow::Owned).map_err(|error| format!("an Avro block cannot be unpacked: {error}"))
            }
        }
    }
}
