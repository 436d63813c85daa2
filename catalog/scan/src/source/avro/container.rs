//! The container around Avro's rows: a header, then blocks.
//!
//! ```text
//!   "Obj" 1 | metadata: schema, codec | marker | rows, length, bytes, marker | rows, length, bytes, marker | ...
//! ```
//!
//! Blocks are handed on whole, a few at a time, so that what is held of a file
//! is bounded by a piece of it and one block. The length is the store's own,
//! since manifests in the field hold wrong ones.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use datafusion::common::Result;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};

use super::Place;
use crate::metrics::FILE_SIZE_MISMATCHES;

const MAGIC: &[u8] = b"Obj\x01";
pub(super) const MARKER_BYTES: usize = 16;
/// What is asked of the store at once.
const PIECE_BYTES: u64 = 4 << 20;
/// Blocks are handed on together up to about so many bytes.
const BLOCKS_BYTES: usize = 1 << 20;
/// A longer block is refused: it would be held whole.
const BLOCK_BYTES_MAX: u64 = 1 << 30;
/// A longer header is none.
const HEADER_BYTES_MAX: usize = 16 << 20;
/// Two numbers of at most ten bytes.
const BLOCK_HEADER_BYTES_MAX: usize = 20;

/// Some whole blocks.
pub(super) struct Blocks {
    /// Rows that they say they have.
    pub(super) rows: u64,
    /// As they stand in the file.
    pub(super) bytes: Bytes,
}

/// An Avro file from its first block on.
pub(in crate::source) struct Container {
    store: Arc<dyn ObjectStore>,
    path: Path,
    place: Place,
    size: u64,
    /// Where in the file what follows the buffer is.
    next: u64,
    buffer: BytesMut,
    header: Header,
}

/// What the header says.
pub(super) struct Header {
    schema: String,
    codec: String,
    pub(super) marker: [u8; MARKER_BYTES],
}

impl Container {
    /// Reads the header. `size_bytes` is what the manifest says.
    pub(in crate::source) async fn open(
        store: &Arc<dyn ObjectStore>,
        path: &Path,
        size_bytes: u64,
        place: Place,
    ) -> Result<Self> {
        let first = match first_piece(store, path, size_bytes).await {
            Ok(first) => first,
            // No store gives what is not there, or a range of nothing.
            Err(error) => match store.head(path).await {
                Ok(meta) if meta.size == 0 => return Err(place.damaged("it is empty")),
                Ok(meta) if meta.size != size_bytes => first_piece(store, path, meta.size).await?,
                _ => return Err(error.into()),
            },
        };
        let size = first.meta.size;
        if size != size_bytes {
            FILE_SIZE_MISMATCHES.inc();
            tracing::warn!(%path, claimed = size_bytes, actual = size, "data file has another length");
        }
        let bytes = first.bytes().await?;
        let header = Header { schema: String::new(), codec: String::new(), marker: [0; MARKER_BYTES] };
        let mut container = Self {
            store: Arc::clone(store),
            path: path.clone(),
            place,
            size,
            next: bytes.len() as u64,
            buffer: BytesMut::from(bytes.as_ref()),
            header,
        };
        container.read_header().await?;
        Ok(container)
    }

    /// The schema in its header.
    pub(in crate::source) fn schema(&self) -> &str {
        &self.header.schema
    }

    pub(super) fn codec(&self) -> &str {
        &self.header.codec
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    async fn read_header(&mut self) -> Result<()> {
        loop {
            let mut bytes = self.buffer.as_ref();
            match Header::read(&mut bytes) {
                Ok(header) => {
                    let length = self.buffer.len() - bytes.len();
                    self.buffer.advance(length);
                    self.header = header;
                    return Ok(());
                }
                Err(Broken::Cut) if self.buffer.len() < HEADER_BYTES_MAX => {
                    let before = self.buffer.len();
                    self.fill(before + 1).await?;
                    if self.buffer.len() == before {
                        return Err(self.place.damaged("its header is cut off"));
                    }
                }
                Err(Broken::Cut) => return Err(self.place.damaged("its header does not end")),
                Err(Broken::Reason(reason)) => return Err(self.place.damaged(reason)),
            }
        }
    }

    /// The next blocks; `None` at the end of the file.
    pub(super) async fn next_blocks(&mut self) -> Result<Option<Blocks>> {
        let (mut rows, mut length) = (0_u64, 0);
        while length < BLOCKS_BYTES {
            let Some(block) = self.block_at(length).await? else {
                break;
            };
            rows = rows.saturating_add(block.rows);
            length = block.range.end;
        }
        if length == 0 {
            return Ok(None);
        }
        Ok(Some(Blocks { rows, bytes: self.buffer.split_to(length).freeze() }))
    }

    /// The block that begins at this place of the buffer. After the first, only one that needs no reading.
    async fn block_at(&mut self, start: usize) -> Result<Option<Block>> {
        if start == 0 {
            self.fill(BLOCK_HEADER_BYTES_MAX).await?;
        }
        let mut bytes = &self.buffer[start..];
        let at_end = self.next == self.size;
        if bytes.is_empty() && (at_end || start > 0) {
            return Ok(None);
        }
        let before = bytes.len();
        let numbers = number(&mut bytes).and_then(|rows| Ok((rows, number(&mut bytes)?)));
        let (rows, size) = match numbers {
            Ok(numbers) => numbers,
            Err(Broken::Cut) if start > 0 && !at_end => return Ok(None),
            Err(Broken::Cut) => return Err(self.place.damaged("a block is cut off")),
            Err(Broken::Reason(reason)) => return Err(self.place.damaged(reason)),
        };
        let content = start + before - bytes.len();
        let (Ok(rows), Ok(size)) = (u64::try_from(rows), u64::try_from(size)) else {
            return Err(self.place.damaged(format!("a block of {rows} rows and {size} bytes")));
        };
        if size > self.size {
            return Err(self.place.damaged(format!("a block of {size} bytes")));
        }
        if size > BLOCK_BYTES_MAX {
            return Err(self.place.not_supported(format!("an Avro block of {size} bytes")));
        }
        let end = content + size as usize + MARKER_BYTES;
        if start > 0 && self.buffer.len() < end && !at_end {
            return Ok(None);
        }
        self.fill(end).await?;
        match self.buffer.get(end - MARKER_BYTES..end) {
            Some(marker) if marker == self.header.marker => Ok(Some(Block { rows, range: start..end })),
            Some(_) => Err(self.place.damaged("a block does not end in the file's marker")),
            None => Err(self.place.damaged("a block is cut off")),
        }
    }

    /// Reads until the buffer has so many bytes, or all that are left.
    async fn fill(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length && self.next < self.size {
            let missing = (length - self.buffer.len()) as u64;
            let range = self.next..self.next.saturating_add(missing.max(PIECE_BYTES)).min(self.size);
            let wanted = range.end - range.start;
            let bytes = self.store.get_range(&self.path, range).await?;
            if bytes.len() as u64 != wanted {
                let came = bytes.len();
                return Err(self.place.damaged(format!("{wanted} bytes were asked for, {came} came")));
            }
            self.buffer.extend_from_slice(&bytes);
            self.next += wanted;
        }
        Ok(())
    }
}

async fn first_piece(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    size_bytes: u64,
) -> object_store::Result<GetResult> {
    let range = Some(GetRange::Bounded(0..PIECE_BYTES.min(size_bytes)));
    store.get_opts(path, GetOptions { range, ..GetOptions::default() }).await
}

struct Block {
    rows: u64,
    range: Range<usize>,
}

/// Why something cannot be read.
#[derive(Debug)]
enum Broken {
    /// More bytes are needed.
    Cut,
    /// It is not what it should be.
    Reason(String),
}

impl Header {
    fn read(bytes: &mut &[u8]) -> Result<Self, Broken> {
        let magic = take(bytes, MAGIC.len())?;
        if magic != MAGIC {
            return Err(Broken::Reason("it does not begin as an Avro file".to_owned()));
        }
        let (mut schema, mut codec) = (None, None);
        loop {
            let mut entries = number(bytes)?;
            if entries == 0 {
                break;
            }
            if entries < 0 {
                // Then the bytes of these entries are said, too.
                number(bytes)?;
                entries = entries.saturating_neg();
            }
            for _ in 0..entries {
                let key = text(bytes)?.to_vec();
                let value = text(bytes)?;
                match key.as_slice() {
                    b"avro.schema" => schema = Some(utf8(value)?),
                    b"avro.codec" => codec = Some(utf8(value)?),
                    _ => {}
                }
            }
        }
        let mut marker = [0; MARKER_BYTES];
        marker.copy_from_slice(take(bytes, MARKER_BYTES)?);
        let schema = schema.ok_or_else(|| Broken::Reason("it has no schema".to_owned()))?;
        Ok(Self { schema, codec: codec.unwrap_or_else(|| "null".to_owned()), marker })
    }

    /// A header with another schema.
    pub(super) fn with_schema(&self, schema: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        write_number(&mut bytes, 2);
        for text in ["avro.schema", schema, "avro.codec", &self.codec] {
            write_number(&mut bytes, text.len() as i64);
            bytes.extend_from_slice(text.as_bytes());
        }
        write_number(&mut bytes, 0);
        bytes.extend_from_slice(&self.marker);
        bytes
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Broken> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Broken::Cut)?;
    *bytes = rest;
    Ok(taken)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
    let length = number(bytes)?;
    match usize::try_from(length) {
        Ok(length) if length <= HEADER_BYTES_MAX => take(bytes, length),
        _ => Err(Broken::Reason(format!("a text of {length} bytes in its header"))),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Broken> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Broken::Reason("its header is not UTF-8".to_owned()))
}

/// A number in Avro's encoding: seven bits a byte, the lowest first, and its sign in the lowest.
fn number(bytes: &mut &[u8]) -> Result<i64, Broken> {
    let mut raw = 0_u64;
    for place in 0..10 {
        let byte = take(bytes, 1)?[0];
        raw |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    Err(Broken::Reason("a number of more than ten bytes".to_owned()))
}

pub(super) fn write_number(bytes: &mut Vec<u8>, number: i64) {
    let mut raw = ((number << 1) ^ (number >> 63)) as u64;
    while raw >= 0x80 {
        bytes.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    bytes.push(raw as u8);
}
