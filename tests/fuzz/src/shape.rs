//! What inputs look like, taken apart and put together again, so that a change inside leaves the frame whole.

use serde_json::Value;

/// What the inputs of a target look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing is known.
    Bytes,
    /// A JSON text.
    Json,
    /// An Avro container; its schema is JSON.
    Avro,
    /// A protobuf message behind so many bytes.
    Protobuf(usize),
}

/// An Avro container without compression, in one block.
pub(crate) struct Container {
    /// Keys and values of its header.
    pub(crate) header: Vec<(Vec<u8>, Vec<u8>)>,
    /// Records that the block says it has.
    pub(crate) count: i64,
    /// Its block.
    pub(crate) block: Vec<u8>,
}

const SYNC: [u8; 16] = [0x5a; 16];

impl Container {
    /// The container in these bytes: its first block, if it is not compressed.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"Obj\x01")?;
        let mut header = Vec::new();
        loop {
            let count = long(&mut rest)?;
            if count <= 0 || header.len() > 100 {
                break;
            }
            for _ in 0..count.min(100) {
                let key = counted(&mut rest)?.to_vec();
                header.push((key, counted(&mut rest)?.to_vec()));
            }
        }
        let mut blocks = rest.get(SYNC.len()..)?;
        let count = long(&mut blocks)?;
        let block = counted(&mut blocks)?.to_vec();
        Some(Self { header, count, block })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = b"Obj\x01".to_vec();
        put_long(&mut bytes, self.header.len() as i64);
        for part in self.header.iter().flat_map(|(key, value)| [key, value]) {
            put_long(&mut bytes, part.len() as i64);
            bytes.extend_from_slice(part);
        }
        bytes.push(0);
        bytes.extend_from_slice(&SYNC);
        put_long(&mut bytes, self.count);
        put_long(&mut bytes, self.block.len() as i64);
        bytes.extend_from_slice(&self.block);
        bytes.extend_from_slice(&SYNC);
        bytes
    }
}

fn long(rest: &mut &[u8]) -> Option<i64> {
    let value = varint(rest)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

pub(crate) fn put_long(bytes: &mut Vec<u8>, value: i64) {
    put_varint(bytes, ((value << 1) ^ (value >> 63)) as u64);
}

fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(long(rest)?).ok()?;
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).wrapping_shl(7 * index as u32);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Some(value);
        }
    }
    None
}

pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A field of a protobuf message.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) content: Content,
}

/// What is in a field.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Number(u64),
    /// 4 or 8 bytes.
    Fixed(Vec<u8>),
    /// A text, bytes, a message, or numbers in a row.
    Counted(Vec<u8>),
}

/// The fields of a message, if it is one.
pub(crate) fn message(bytes: &[u8]) -> Option<Vec<Field>> {
    let (mut rest, mut fields) = (bytes, Vec::new());
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length)?;
            rest = left;
            Some(taken.to_vec())
        };
        let content = match key & 7 {
            0 => Content::Number(varint(&mut rest)?),
            1 => Content::Fixed(take(8)?),
            5 => Content::Fixed(take(4)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (taken, left) = rest.split_at_checked(length)?;
                rest = left;
                Content::Counted(taken.to_vec())
            }
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        fields.push(Field { number: key >> 3, content });
    }
    Some(fields)
}

pub(crate) fn put_message(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { number, content } in fields {
        let kind = match content {
            Content::Number(_) => 0,
            Content::Fixed(fixed) if fixed.len() == 8 => 1,
            Content::Fixed(_) => 5,
            Content::Counted(_) => 2,
        };
        put_varint(&mut bytes, number << 3 | kind);
        match content {
            Content::Number(number) => put_varint(&mut bytes, *number),
            Content::Fixed(fixed) => bytes.extend_from_slice(fixed),
            Content::Counted(counted) => {
                put_varint(&mut bytes, counted.len() as u64);
                bytes.extend_from_slice(counted);
            }
        }
    }
    bytes
}

/// The values of a JSON text, by number: how many there are.
pub(crate) fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(items) => items.values().map(nodes).sum(),
        _ => 0,
    }
}

/// The value of a number, in the order in which [`nodes`] counts.
pub(crate) fn node(value: &mut Value, number: usize) -> Option<&mut Value> {
    if number == 0 {
        return Some(value);
    }
    let mut left = number - 1;
    let children: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Array(items) => Box::new(items.iter_mut()),
        Value::Object(items) => Box::new(items.values_mut()),
        _ => return None,
    };
    for child in children {
        let count = nodes(child);
        if left < count {
            return node(child, left);
        }
        left -= count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_come_together_as_they_were() {
        let container = Container {
            header: vec![(b"avro.schema".to_vec(), b"{}".to_vec())],
            count: 3,
            block: vec![1, 2, 3],
        };
        let again = Container::read(&container.write()).unwrap();
        assert_eq!((again.header, again.count, again.block), (container.header, 3, vec![1, 2, 3]));
        let fields = vec![
            Field { number: 1, content: Content::Number(u64::MAX) },
            Field { number: 300, content: Content::Counted(vec![8, 1]) },
            Field { number: 2, content: Content::Fixed(vec![0; 4]) },
        ];
        let bytes = put_message(&fields);
        assert_eq!(put_message(&message(&bytes).unwrap()), bytes);
        let mut json = serde_json::json!({"a": [1, {"b": 2}], "c": 3});
        assert_eq!(nodes(&json), 6);
        assert_eq!(node(&mut json, 4).unwrap(), &2);
        assert!(node(&mut json, 6).is_none());
    }
}
