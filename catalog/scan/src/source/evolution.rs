//! Random nested schemas that evolve: what is read against plain reasoning.
//!
//! A schema and rows are drawn, the rows are written, the schema is changed as
//! Iceberg allows it at every level (fields added, dropped, renamed, moved,
//! dropped and added again under their name, types grown), and the file is
//! read as the changed table. What must come out is computed by walking ids,
//! value by value, with nothing of this crate's.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, Int32Type, Int64Type};

use crate::default::INITIAL_DEFAULT_KEY;
use crate::testing::{Table, field};

const ROUNDS: u64 = 60;
const ROWS: usize = 40;
const DEPTH_MAX: u32 = 3;

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Int,
    Long,
    Float,
    Double,
    Text,
    Struct(Vec<Column>),
    List(Box<Column>),
    Map(Box<Column>, Box<Column>),
}

#[derive(Clone, Debug, PartialEq)]
struct Column {
    id: i32,
    name: String,
    kind: Kind,
    /// What older rows have, if it was added later.
    default: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Whole(i64),
    Number(f64),
    Text(String),
    /// In the order of the struct's fields.
    Struct(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Draws schemas, and changes them.
struct Author {
    dice: Dice,
    last_id: i32,
}

impl Author {
    fn id(&mut self) -> i32 {
        self.last_id += 1;
        self.last_id
    }

    fn column(&mut self, name: String, depth: u32) -> Column {
        let id = self.id();
        Column { id, name, kind: self.kind(depth), default: None }
    }

    fn kind(&mut self, depth: u32) -> Kind {
        match self.dice.below(if depth < DEPTH_MAX { 9 } else { 5 }) {
            0 => Kind::Int,
            1 => Kind::Long,
            2 => Kind::Float,
            3 => Kind::Double,
            4 => Kind::Text,
            5 | 6 => {
                let count = 1 + self.dice.below(3);
                Kind::Struct((0..count).map(|i| self.column(format!("f{i}"), depth + 1)).collect())
            }
            7 => Kind::List(Box::new(self.column("element".to_owned(), depth + 1))),
            _ => {
                let id = self.id();
                // A key may be a struct; here it is one at times, of a field that can only be renamed or widened.
                let kind = if self.dice.one_in(3) {
                    Kind::Struct(vec![Column {
                        id: self.id(),
                        name: "k".to_owned(),
                        kind: Kind::Int,
                        default: None,
                    }])
                } else {
                    Kind::Text
                };
                let key = Column { id, name: "key".to_owned(), kind, default: None };
                Kind::Map(Box::new(key), Box::new(self.column("value".to_owned(), depth + 1)))
            }
        }
    }

    /// The columns after some changes.
    fn evolve(&mut self, columns: &[Column]) -> Vec<Column> {
        let mut new: Vec<Column> = Vec::new();
        for column in columns {
            let kind = self.evolve_kind(&column.kind);
            match self.dice.below(7) {
                0 => {}
                1 => {
                    // Dropped, and another added under its name.
                    let (id, kind) = (self.id(), self.kind(DEPTH_MAX));
                    let default = self.default(&kind);
                    new.push(Column { id, name: column.name.clone(), kind, default });
                }
                2 => new.push(Column {
                    name: format!("{}_{}", column.name, self.last_id),
                    kind,
                    ..column.clone()
                }),
                _ => new.push(Column { kind, ..column.clone() }),
            }
        }
        if new.is_empty() || self.dice.one_in(2) {
            let (id, kind) = (self.id(), self.kind(DEPTH_MAX - 1));
            let default = self.default(&kind);
            let place = self.dice.below(new.len() + 1);
            new.insert(place, Column { id, name: format!("added_{id}"), kind, default });
        }
        if self.dice.one_in(2) {
            let places = new.len();
            new.swap(0, places - 1);
        }
        // Names that now meet are told apart.
        for index in 0..new.len() {
            let name = new[index].name.clone();
            if new[..index].iter().any(|other| other.name == name) {
                new[index].name = format!("{name}_{}", new[index].id);
            }
        }
        new
    }

    fn evolve_kind(&mut self, kind: &Kind) -> Kind {
        match kind {
            Kind::Int if self.dice.one_in(2) => Kind::Long,
            Kind::Float if self.dice.one_in(2) => Kind::Double,
            Kind::Struct(fields) => Kind::Struct(self.evolve(fields)),
            Kind::List(element) => {
                let kind = self.evolve_kind(&element.kind);
                Kind::List(Box::new(Column { kind, ..element.as_ref().clone() }))
            }
            Kind::Map(key, value) => {
                let key_kind = match &key.kind {
                    Kind::Struct(fields) => Kind::Struct(
                        fields
                            .iter()
                            .map(|field| Column {
                                name: "renamed".to_owned(),
                                kind: Kind::Long,
                                ..field.clone()
                            })
                            .collect(),
                    ),
                    other => other.clone(),
                };
                let kind = self.evolve_kind(&value.kind);
                Kind::Map(
                    Box::new(Column { kind: key_kind, ..key.as_ref().clone() }),
                    Box::new(Column { kind, ..value.as_ref().clone() }),
                )
            }
            other => other.clone(),
        }
    }

    fn default(&mut self, kind: &Kind) -> Option<i64> {
        let whole = matches!(kind, Kind::Int | Kind::Long);
        (whole && self.dice.one_in(2)).then(|| self.dice.below(1_000) as i64)
    }

    fn value(&mut self, kind: &Kind) -> Value {
        if self.dice.one_in(5) { Value::Null } else { self.value_that_is(kind) }
    }

    fn value_that_is(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Int | Kind::Long => Value::Whole(self.dice.below(1_000_000) as i64 - 500_000),
            Kind::Float | Kind::Double => Value::Number(self.dice.below(4_096) as f64 / 8.0),
            Kind::Text => Value::Text(format!("t{}", self.dice.below(100))),
            Kind::Struct(fields) => {
                Value::Struct(fields.iter().map(|field| self.value(&field.kind)).collect())
            }
            Kind::List(element) => {
                let length = self.dice.below(4);
                Value::List((0..length).map(|_| self.value(&element.kind)).collect())
            }
            Kind::Map(key, value) => {
                let length = self.dice.below(3);
                let pair = |_| (self.value_that_is(&key.kind), self.value(&value.kind));
                Value::Map((0..length).map(pair).collect())
            }
        }
    }
}

/// What a value of one kind is when it is read as another: by ids, and nothing else.
fn read_as(value: &Value, from: &Kind, to: &Kind) -> Value {
    match (value, from, to) {
        (Value::Null, ..) => Value::Null,
        (Value::Struct(values), Kind::Struct(from), Kind::Struct(to)) => {
            let child = |to: &Column| match from.iter().position(|field| field.id == to.id) {
                Some(index) => read_as(&values[index], &from[index].kind, &to.kind),
                None => to.default.map_or(Value::Null, Value::Whole),
            };
            Value::Struct(to.iter().map(child).collect())
        }
        (Value::List(values), Kind::List(from), Kind::List(to)) => {
            Value::List(values.iter().map(|value| read_as(value, &from.kind, &to.kind)).collect())
        }
        (Value::Map(pairs), Kind::Map(from_key, from_value), Kind::Map(to_key, to_value)) => {
            let pair = |(key, value): &(Value, Value)| {
                (read_as(key, &from_key.kind, &to_key.kind), read_as(value, &from_value.kind, &to_value.kind))
            };
            Value::Map(pairs.iter().map(pair).collect())
        }
        (value, ..) => value.clone(),
    }
}

fn data_type(kind: &Kind, views: bool) -> DataType {
    match kind {
        Kind::Int => DataType::Int32,
        Kind::Long => DataType::Int64,
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::Text if views => DataType::Utf8View,
        Kind::Text => DataType::Utf8,
        Kind::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| arrow_field(field, views)).collect())
        }
        Kind::List(element) => DataType::List(Arc::new(arrow_field(element, views))),
        Kind::Map(key, value) => {
            let key = arrow_field(key, views).with_nullable(false);
            let pair = Fields::from(vec![key, arrow_field(value, views)]);
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair), false)), false)
        }
    }
}

fn arrow_field(column: &Column, views: bool) -> Field {
    let field = field(column.id, &column.name, data_type(&column.kind, views));
    let Some(default) = column.default.filter(|_| views) else { return field };
    let mut metadata = field.metadata().clone();
    metadata.insert(INITIAL_DEFAULT_KEY.to_owned(), default.to_string());
    field.with_metadata(metadata)
}

/// The values as an Arrow array, as a writer would have it.
fn array(kind: &Kind, values: &[&Value]) -> ArrayRef {
    let whole = |value: &&Value| if let Value::Whole(v) = value { Some(*v) } else { None };
    let number = |value: &&Value| if let Value::Number(v) = value { Some(*v) } else { None };
    let nulls = || NullBuffer::from_iter(values.iter().map(|value| **value != Value::Null));
    match (kind, data_type(kind, false)) {
        (Kind::Int, _) => Arc::new(Int32Array::from_iter(values.iter().map(|v| whole(v).map(|v| v as i32)))),
        (Kind::Long, _) => Arc::new(Int64Array::from_iter(values.iter().map(whole))),
        (Kind::Float, _) => {
            Arc::new(Float32Array::from_iter(values.iter().map(|v| number(v).map(|v| v as f32))))
        }
        (Kind::Double, _) => Arc::new(Float64Array::from_iter(values.iter().map(number))),
        (Kind::Text, _) => Arc::new(StringArray::from_iter(
            values.iter().map(|value| if let Value::Text(text) = value { Some(text.as_str()) } else { None }),
        )),
        (Kind::Struct(fields), DataType::Struct(arrow)) => {
            let child = |(index, field): (usize, &Column)| {
                let values: Vec<&Value> =
                    values
                        .iter()
                        .map(|value| {
                            if let Value::Struct(children) = value { &children[index] } else { &Value::Null }
                        })
                        .collect();
                array(&field.kind, &values)
            };
            Arc::new(StructArray::new(arrow, fields.iter().enumerate().map(child).collect(), Some(nulls())))
        }
        (Kind::List(element), DataType::List(arrow)) => {
            let items = |value: &&Value| if let Value::List(items) = value { items.len() } else { 0 };
            let offsets = OffsetBuffer::from_lengths(values.iter().map(items));
            let inner: Vec<&Value> = values
                .iter()
                .flat_map(|value| if let Value::List(items) = value { items.as_slice() } else { &[] })
                .collect();
            Arc::new(ListArray::new(arrow, offsets, array(&element.kind, &inner), Some(nulls())))
        }
        (Kind::Map(key, value), DataType::Map(arrow, sorted)) => {
            let pairs = |value: &&'_ Value| if let Value::Map(pairs) = value { pairs.len() } else { 0 };
            let offsets = OffsetBuffer::from_lengths(values.iter().map(pairs));
            let all: Vec<&(Value, Value)> = values
                .iter()
                .flat_map(|value| if let Value::Map(pairs) = value { pairs.as_slice() } else { &[] })
                .collect();
            let keys: Vec<&Value> = all.iter().map(|(key, _)| key).collect();
            let inner: Vec<&Value> = all.iter().map(|(_, value)| value).collect();
            let DataType::Struct(fields) = arrow.data_type().clone() else { unreachable!() };
            let entries =
                StructArray::new(fields, vec![array(&key.kind, &keys), array(&value.kind, &inner)], None);
            Arc::new(MapArray::new(arrow, offsets, entries, Some(nulls()), sorted))
        }
        _ => unreachable!(),
    }
}

/// One value of an Arrow array, as it was read.
fn value_at(array: &ArrayRef, index: usize, kind: &Kind) -> Value {
    if array.is_null(index) {
        return Value::Null;
    }
    match kind {
        Kind::Int => Value::Whole(i64::from(array.as_primitive::<Int32Type>().value(index))),
        Kind::Long => Value::Whole(array.as_primitive::<Int64Type>().value(index)),
        Kind::Float => Value::Number(f64::from(array.as_primitive::<Float32Type>().value(index))),
        Kind::Double => Value::Number(array.as_primitive::<Float64Type>().value(index)),
        Kind::Text => Value::Text(array.as_string_view().value(index).to_owned()),
        Kind::Struct(fields) => {
            let children = array.as_struct().columns().iter().zip(fields);
            Value::Struct(children.map(|(child, field)| value_at(child, index, &field.kind)).collect())
        }
        Kind::List(element) => {
            let items = array.as_list::<i32>().value(index);
            Value::List((0..items.len()).map(|i| value_at(&items, i, &element.kind)).collect())
        }
        Kind::Map(key, value) => {
            let entries = array.as_map().value(index);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pair = |i| (value_at(keys, i, &key.kind), value_at(values, i, &value.kind));
            Value::Map((0..entries.len()).map(pair).collect())
        }
    }
}

#[tokio::test]
async fn any_evolution_of_any_nested_schema_reads_by_id() {
    for seed in 0..ROUNDS {
        let mut author = Author { dice: Dice(seed.wrapping_mul(7_919) + 1), last_id: 0 };
        let id = author.id();
        // One column stays what it is, so that rows can be told apart.
        let key = Column { id, name: "row".to_owned(), kind: Kind::Long, default: None };
        let count = 1 + author.dice.below(4);
        let written: Vec<Column> = (0..count).map(|i| author.column(format!("c{i}"), 0)).collect();
        let mut wanted = author.evolve(&written);
        if author.dice.one_in(2) {
            wanted = author.evolve(&wanted);
        }
        let rows: Vec<Vec<Value>> =
            (0..ROWS).map(|_| written.iter().map(|column| author.value(&column.kind)).collect()).collect();

        let file = written.iter().enumerate().map(|(index, column)| {
            let values: Vec<&Value> = rows.iter().map(|row| &row[index]).collect();
            (arrow_field(column, false), array(&column.kind, &values))
        });
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
        let file = file.chain([(arrow_field(&key, false), numbers)]).collect();
        let fields = wanted.iter().chain([&key]).map(|column| arrow_field(column, true)).collect();
        let ctx = Table::new(fields).file(file).context(&[]);
        let batches = ctx.sql("select * from t order by row").await.unwrap().collect().await;
        let batches =
            batches.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{written:#?}\n{wanted:#?}"));

        let mut read = 0;
        for batch in &batches {
            for index in 0..batch.num_rows() {
                for (place, column) in wanted.iter().enumerate() {
                    let found = value_at(batch.column(place), index, &column.kind);
                    let expected = match written.iter().position(|old| old.id == column.id) {
                        Some(old) => read_as(&rows[read][old], &written[old].kind, &column.kind),
                        None => column.default.map_or(Value::Null, Value::Whole),
                    };
                    assert_eq!(found, expected, "seed {seed}, row {read}, column {}", column.name);
                }
                read += 1;
            }
        }
        assert_eq!(read, ROWS, "seed {seed}");
    }
}
