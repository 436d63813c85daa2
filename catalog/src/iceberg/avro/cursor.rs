//! Values of Avro's binary encoding, read or skipped where they lie.

use super::{Kind, Result};

/// Values nest at most so deep; a manifest's do so five times.
const DEPTH_MAX: usize = 32;

/// A place in some bytes.
#[derive(Clone)]
pub(in crate::iceberg) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(in crate::iceberg) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(in crate::iceberg) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next bytes as they are.
    pub(in crate::iceberg) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("an Avro file ends in a value")?;
        self.rest = rest;
        Ok(taken)
    }

    /// An `int` or a `long`.
    pub(in crate::iceberg) fn long(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number of an Avro file does not end".to_owned())
    }

    /// `bytes`, or the bytes of a `string`.
    pub(in crate::iceberg) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| "a length in an Avro file is negative".to_owned())?)
    }

    /// A `string`.
    pub(in crate::iceberg) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text of an Avro file is not UTF-8".to_owned())
    }

    /// How many items of an array or map follow until the next count; `None` at its end.
    pub(in crate::iceberg) fn block_count(&mut self) -> Result<Option<u64>> {
        let count = self.long()?;
        // A negative count is followed by the length in bytes, for those who skip.
        if count < 0 {
            self.long()?;
        }
        let count = count.unsigned_abs();
        // An item has a byte at least, unless it has no fields; those we do not read.
        if count > self.rest.len() as u64 {
            return Err("an array of an Avro file is longer than the file".to_owned());
        }
        Ok((count > 0).then_some(count))
    }

    /// The kind of the value that follows: for a union, the branch that was written.
    pub(in crate::iceberg) fn branch<'k>(&mut self, kind: &'k Kind) -> Result<&'k Kind> {
        let Kind::Union(branches) = kind else {
            return Ok(kind);
        };
        let index = self.long()?;
        let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
        branch.ok_or_else(|| "an Avro union has no such branch".to_owned())
    }

    /// A whole number, or NULL.
    pub(in crate::iceberg) fn optional_long(&mut self, kind: &Kind) -> Result<Option<i64>> {
        match self.branch(kind)? {
            Kind::Null => Ok(None),
            Kind::Int | Kind::Long => self.long().map(Some),
            other => Err(format!("an Avro value is {other}, not a number")),
        }
    }

    /// A whole number of 32 bits, or NULL.
    pub(in crate::iceberg) fn optional_int(&mut self, kind: &Kind) -> Result<Option<i32>> {
        let value = self.optional_long(kind)?;
        value.map(|value| i32::try_from(value).map_err(|_| format!("{value} is not of 32 bits"))).transpose()
    }

    /// Bytes, or NULL.
    pub(in crate::iceberg) fn optional_bytes(&mut self, kind: &Kind) -> Result<Option<&'a [u8]>> {
        match self.branch(kind)? {
            Kind::Null => Ok(None),
            Kind::Bytes | Kind::Text => self.bytes().map(Some),
            Kind::Fixed(length) => self.take(*length).map(Some),
            other => Err(format!("an Avro value is {other}, not bytes")),
        }
    }

    /// A text, or NULL.
    pub(in crate::iceberg) fn optional_text(&mut self, kind: &Kind) -> Result<Option<&'a str>> {
        match self.branch(kind)? {
            Kind::Null => Ok(None),
            Kind::Text => self.text().map(Some),
            other => Err(format!("an Avro value is {other}, not a text")),
        }
    }

    /// Whether; or NULL.
    pub(in crate::iceberg) fn optional_boolean(&mut self, kind: &Kind) -> Result<Option<bool>> {
        match self.branch(kind)? {
            Kind::Null => Ok(None),
            Kind::Boolean => Ok(Some(self.take(1)? != [0])),
            other => Err(format!("an Avro value is {other}, not a boolean")),
        }
    }

    /// Calls `read` for each item of an array; not at all for NULL.
    pub(in crate::iceberg) fn each_item(
        &mut self,
        kind: &Kind,
        mut read: impl FnMut(&mut Self, &Kind) -> Result<()>,
    ) -> Result<()> {
        match self.branch(kind)? {
            Kind::Null => Ok(()),
            Kind::Array(item) => {
                while let Some(count) = self.block_count()? {
                    for _ in 0..count {
                        let before = self.rest.len();
                        read(self, item)?;
                        self.check_moved(before)?;
                    }
                }
                Ok(())
            }
            other => Err(format!("an Avro value is {other}, not an array")),
        }
    }

    /// Items without bytes, nested, could keep us for years; no writer has a use for them.
    fn check_moved(&self, before: usize) -> Result<()> {
        if self.rest.len() == before {
            return Err("an item of an Avro array has no bytes".to_owned());
        }
        Ok(())
    }

    /// Goes past a value.
    pub(in crate::iceberg) fn skip(&mut self, kind: &Kind) -> Result<()> {
        self.skip_nested(kind, DEPTH_MAX)
    }

    fn skip_nested(&mut self, kind: &Kind, depth: usize) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or("an Avro value is nested too deep")?;
        match self.branch(kind)? {
            Kind::Null => {}
            Kind::Boolean => drop(self.take(1)?),
            Kind::Int | Kind::Long => drop(self.long()?),
            Kind::Float => drop(self.take(4)?),
            Kind::Double => drop(self.take(8)?),
            Kind::Bytes | Kind::Text => drop(self.bytes()?),
            Kind::Fixed(length) => drop(self.take(*length)?),
            Kind::Array(item) => {
                while let Some(count) = self.block_count()? {
                    for _ in 0..count {
                        let before = self.rest.len();
                        self.skip_nested(item, depth)?;
                        self.check_moved(before)?;
                    }
                }
            }
            Kind::Map(value) => {
                while let Some(count) = self.block_count()? {
                    for _ in 0..count {
                        self.bytes()?;
                        self.skip_nested(value, depth)?;
                    }
                }
            }
            Kind::Record(fields) => {
                for field in fields {
                    self.skip_nested(&field.kind, depth)?;
                }
            }
            Kind::Union(_) => return Err("an Avro union in a union".to_owned()),
        }
        Ok(())
    }
}
