//! Changes to inputs: of bytes, and inside of what an input is made of.

use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use crate::shape::{self, Container, Content, Shape};

/// Numbers at which things go wrong.
const NUMBERS: [i64; 18] = [
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    1000,
    i16::MAX as i64,
    65_536,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 40,
    i64::MAX,
    i64::MIN,
    2_147_483_546,
    999,
];

/// Changes at once, at most.
const CHANGES_MAX: u32 = 5;
/// Levels of a protobuf message that a change goes down.
const DEPTH_MAX: u32 = 12;
/// Words that are remembered.
const WORDS_MAX: usize = 500;

/// Makes new inputs from old ones.
#[derive(Default)]
pub(crate) struct Mutator {
    /// Texts that inputs of this target hold.
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// Takes texts in quotes out of an input.
    pub(crate) fn learn(&mut self, seed: &[u8]) {
        for word in seed.split(|byte| *byte == b'"') {
            let plain = !word.is_empty() && word.len() <= 32 && word.iter().all(u8::is_ascii_graphic);
            if plain && self.words.len() < WORDS_MAX && !self.words.iter().any(|known| known == word) {
                self.words.push(word.to_vec());
            }
        }
    }

    pub(crate) fn mutate(&self, random: &mut SmallRng, shape: Shape, from: &[u8], other: &[u8]) -> Vec<u8> {
        // Now and then without regard to the shape: frames can be wrong as well.
        let shape = if random.random_ratio(1, 8) { Shape::Bytes } else { shape };
        let mut input = from.to_vec();
        for _ in 0..random.random_range(1..=CHANGES_MAX) {
            input = match shape {
                Shape::Bytes => self.bytes(random, input, other),
                Shape::Json => self.json(random, &input, other),
                Shape::Avro => self.avro(random, &input, other),
                Shape::Protobuf(skipped) => self.protobuf(random, &input, other, skipped),
            };
        }
        input
    }

    fn bytes(&self, random: &mut SmallRng, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
        let at = random.random_range(0..=input.len());
        let end = (at + random.random_range(1..=16)).min(input.len());
        match random.random_range(0..12) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => input.insert(at, random.random()),
            3 => {
                let copy = input[at..end].to_vec();
                let to = random.random_range(0..=input.len());
                input.splice(to..to, copy);
            }
            4 if !other.is_empty() => {
                let start = random.random_range(0..other.len());
                let end = (start + random.random_range(1..=64)).min(other.len());
                input.splice(at..at, other[start..end].iter().copied());
            }
            5 => {
                let number = NUMBERS[random.random_range(0..NUMBERS.len())];
                let mut encoded = Vec::new();
                match random.random_range(0..4) {
                    0 => shape::put_long(&mut encoded, number),
                    1 => shape::put_varint(&mut encoded, number as u64),
                    2 => encoded.extend_from_slice(&number.to_le_bytes()[..1 << random.random_range(0..4)]),
                    _ => encoded.extend_from_slice(&(number as i32).to_be_bytes()),
                }
                let end = (at + encoded.len()).min(input.len());
                input.splice(at..end, encoded);
            }
            6 if !self.words.is_empty() => {
                let word = &self.words[random.random_range(0..self.words.len())];
                let end = (at + word.len()).min(input.len());
                input.splice(at..end, word.iter().copied());
            }
            7 => {
                let copies = 1 << random.random_range(1..8);
                let part = input[at..end].repeat(copies);
                input.splice(at..at, part);
            }
            8 if at < input.len() => input[at] = input[at].wrapping_add(1),
            9 if at < input.len() => input[at] = input[at].wrapping_sub(1),
            10 if at < input.len() => input[at] = random.random(),
            _ if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            _ => {}
        }
        input
    }

    fn json(&self, random: &mut SmallRng, input: &[u8], other: &[u8]) -> Vec<u8> {
        let (Ok(mut value), Ok(mut other)) =
            (serde_json::from_slice::<Value>(input), serde_json::from_slice::<Value>(other))
        else {
            return self.bytes(random, input.to_vec(), other);
        };
        let from = random.random_range(0..shape::nodes(&other));
        let from = shape::node(&mut other, from).map(|node| node.take()).unwrap_or_default();
        let at = random.random_range(0..shape::nodes(&value));
        let Some(node) = shape::node(&mut value, at) else { return input.to_vec() };
        *node = match (random.random_range(0..10), node.take()) {
            (0, _) => json!(NUMBERS[random.random_range(0..NUMBERS.len())]),
            (1, _) => Value::Null,
            (2, _) if !self.words.is_empty() => {
                json!(String::from_utf8_lossy(&self.words[random.random_range(0..self.words.len())]))
            }
            (3, _) => from,
            (4, Value::Array(mut items)) if !items.is_empty() => {
                let copy = items[random.random_range(0..items.len())].clone();
                items.insert(random.random_range(0..=items.len()), copy);
                Value::Array(items)
            }
            (4 | 5, Value::Array(mut items)) if !items.is_empty() => {
                items.remove(random.random_range(0..items.len()));
                Value::Array(items)
            }
            (4..=6, Value::Object(mut items)) if !items.is_empty() => {
                let key = items.keys().nth(random.random_range(0..items.len())).cloned().unwrap_or_default();
                let removed = items.remove(&key);
                if random.random_bool(0.5) && !self.words.is_empty() {
                    let word = &self.words[random.random_range(0..self.words.len())];
                    items.insert(String::from_utf8_lossy(word).into_owned(), removed.unwrap_or_default());
                }
                Value::Object(items)
            }
            (7, Value::String(text)) => {
                let changed = self.bytes(random, text.into_bytes(), b"");
                json!(String::from_utf8_lossy(&changed))
            }
            (8, node) => {
                let levels = [1, 3, 40][random.random_range(0..3)];
                (0..levels).fold(node, |node, _| match random.random_bool(0.5) {
                    true => json!([node]),
                    false => json!({ "type": node }),
                })
            }
            (_, Value::Number(number)) => {
                let number = number.as_i64().unwrap_or(0);
                json!(number.wrapping_add([1, -1, 1 << 31, i64::MAX][random.random_range(0..4)]))
            }
            (_, node) => node,
        };
        serde_json::to_vec(&value).unwrap_or_default()
    }

    fn avro(&self, random: &mut SmallRng, input: &[u8], other: &[u8]) -> Vec<u8> {
        let Some(mut container) = Container::read(input) else {
            return self.bytes(random, input.to_vec(), other);
        };
        let other = Container::read(other);
        match random.random_range(0..10) {
            0 => container.count = NUMBERS[random.random_range(0..NUMBERS.len())],
            1 => container.count = container.count.wrapping_add(1),
            2 | 3 if !container.header.is_empty() => {
                let at = random.random_range(0..container.header.len());
                let key = container.header[at].0.clone();
                let same = other.as_ref().and_then(|other| other.header.iter().find(|(k, _)| *k == key));
                let same = same.map(|(_, value)| value.clone()).unwrap_or_default();
                let value = std::mem::take(&mut container.header[at].1);
                container.header[at].1 = self.json(random, &value, &same);
            }
            4 => {
                if let Some(other) = other {
                    // The records of one under the schema of another.
                    container.block = other.block;
                    container.count = other.count;
                }
            }
            _ => {
                let other = other.map(|other| other.block).unwrap_or_default();
                container.block = self.bytes(random, std::mem::take(&mut container.block), &other);
            }
        }
        container.write()
    }

    fn protobuf(&self, random: &mut SmallRng, input: &[u8], other: &[u8], skipped: usize) -> Vec<u8> {
        let Some((head, body)) = input.split_at_checked(skipped) else {
            return self.bytes(random, input.to_vec(), other);
        };
        let other = other.get(skipped..).unwrap_or_default();
        [head, &self.message(random, body, other, 0)].concat()
    }

    fn message(&self, random: &mut SmallRng, input: &[u8], other: &[u8], depth: u32) -> Vec<u8> {
        let Some(mut fields) = shape::message(input).filter(|fields| !fields.is_empty()) else {
            return self.bytes(random, input.to_vec(), other);
        };
        let at = random.random_range(0..fields.len());
        let kind = random.random_range(0..20);
        match (kind, &mut fields[at].content) {
            (0, _) => drop(fields.remove(at)),
            (1, _) => {
                let copy = fields[at].clone();
                fields.insert(random.random_range(0..=fields.len()), copy);
            }
            (2, _) => fields[at].number = random.random_range(1..30),
            (3, _) => {
                if let Some(mut theirs) = shape::message(other).filter(|fields| !fields.is_empty()) {
                    fields.push(theirs.swap_remove(random.random_range(0..theirs.len())));
                }
            }
            (_, Content::Number(number)) => {
                *number = NUMBERS[random.random_range(0..NUMBERS.len())] as u64;
            }
            (_, Content::Fixed(fixed)) => {
                let at = random.random_range(0..fixed.len());
                fixed[at] = random.random();
            }
            (4, Content::Counted(counted)) => {
                *counted = self.bytes(random, std::mem::take(counted), other);
            }
            (_, Content::Counted(counted)) => {
                let inner = std::mem::take(counted);
                *counted = match depth < DEPTH_MAX {
                    true => self.message(random, &inner, other, depth + 1),
                    false => self.bytes(random, inner, other),
                };
            }
        }
        shape::put_message(&fields)
    }
}
