//! Blocks to batches, by arrow-avro.
//!
//! The decoder is given blocks that were read whole, under a header of our own
//! that says nothing but how the bytes lie. What it does with bytes that mean
//! nothing is not ours to know: a panic of it is a damaged file.

use std::ops::Range;
use std::panic::AssertUnwindSafe;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use arrow_avro::errors::AvroError;
use arrow_avro::reader::{AsyncAvroFileReader, AsyncFileReader, HeaderInfo, read_header_info};
use bytes::Bytes;
use datafusion::common::Result;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::Place;
use super::container::{Blocks, Container, MARKER_BYTES};

/// The codecs that arrow-avro was built with.
const CODECS: [&str; 4] = ["null", "deflate", "snappy", "zstandard"];

/// Makes decoders for the blocks of one file.
pub(super) struct Decoder {
    header: HeaderInfo,
    marker: [u8; MARKER_BYTES],
    /// The root columns that are decoded; `None` for all.
    projection: Option<Vec<usize>>,
    /// Whether any is.
    any: bool,
    batch_size: usize,
    place: Place,
}

impl Decoder {
    /// For these of the root columns, ascending, of which there are `columns`.
    pub(super) fn new(
        container: &Container,
        layout: &str,
        roots: &[usize],
        columns: usize,
        batch_size: usize,
    ) -> Result<Self> {
        let place = container.place().clone();
        if !CODECS.contains(&container.codec()) {
            return Err(place.not_supported(format!("compression {:?} of Avro files", container.codec())));
        }
        let header = container.header().with_schema(layout);
        let header = read_header_info(header.as_slice()).map_err(|error| place.damaged(error.to_string()))?;
        Ok(Self {
            header,
            marker: container.header().marker,
            projection: (roots.len() < columns).then(|| roots.to_vec()),
            any: !roots.is_empty(),
            batch_size: batch_size.max(1),
            place,
        })
    }

    pub(super) fn start(&self, blocks: Blocks) -> Result<Rows> {
        if !self.any {
            return Ok(Rows::Counted { left: blocks.rows, batch_size: self.batch_size });
        }
        let start = self.header.header_len() - MARKER_BYTES as u64;
        let bytes = [self.marker.as_slice(), &blocks.bytes].concat();
        let end = start + bytes.len() as u64;
        let memory = Memory { start, bytes: bytes.into() };
        // Texts are not asked for as views: of these arrow-avro 59 loses the NULLs.
        let mut builder = AsyncAvroFileReader::builder(memory, end, self.batch_size).with_range(start..end);
        if let Some(projection) = &self.projection {
            builder = builder.with_projection(projection.clone());
        }
        let reader = builder.build_with_header(self.header.clone());
        let reader = reader.map_err(|error| self.place.damaged(error.to_string()))?;
        Ok(Rows::Decoded { reader: Box::new(reader), left: blocks.rows })
    }
}

/// The rows of some blocks.
pub(super) enum Rows {
    /// Decoded.
    Decoded {
        reader: Box<AsyncAvroFileReader<Memory>>,
        /// Rows that are still to come.
        left: u64,
    },
    /// Of which no column is wanted.
    Counted {
        /// Rows that are still to come.
        left: u64,
        batch_size: usize,
    },
}

impl Rows {
    /// The next of them, as the decoder has them.
    pub(super) async fn next(&mut self, place: &Place) -> Result<Option<RecordBatch>> {
        match self {
            Self::Counted { left: 0, .. } => Ok(None),
            Self::Counted { left, batch_size } => {
                let rows = (*left).min(*batch_size as u64);
                *left -= rows;
                let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
                Ok(Some(RecordBatch::try_new_with_options(Schema::empty().into(), Vec::new(), &options)?))
            }
            Self::Decoded { reader, left } => {
                let next = AssertUnwindSafe(reader.next()).catch_unwind().await;
                let next = next.map_err(|_| place.damaged("its rows cannot be decoded"))?;
                let batch = next.transpose().map_err(|error| place.damaged(error.to_string()))?;
                let rows = batch.as_ref().map_or(0, RecordBatch::num_rows) as u64;
                if rows > *left || (batch.is_none() && *left > 0) {
                    return Err(place.damaged(format!("{left} rows were to come, {rows} came")));
                }
                *left -= rows;
                Ok(batch)
            }
        }
    }
}

/// Blocks as the decoder reads them: at this place of the file.
pub(super) struct Memory {
    start: u64,
    bytes: Bytes,
}

impl AsyncFileReader for Memory {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, std::result::Result<Bytes, AvroError>> {
        let place = |at: u64| at.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let bytes = match (place(range.start), place(range.end)) {
            (Some(start), Some(end)) if start <= end && end <= self.bytes.len() => {
                Ok(self.bytes.slice(start..end))
            }
            _ => Err(AvroError::EOF("beyond the blocks".to_owned())),
        };
        std::future::ready(bytes).boxed()
    }
}
