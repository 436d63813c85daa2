//! A file's Parquet schema under the table's names.
//!
//! Only names change: positions, types and levels stay, so that everything
//! which counts columns (projection masks, statistics, page indexes) is not
//! touched. A column that the table does not have keeps its name unless the
//! table gives that name to another column.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, Schema};
use parquet::basic::{ConvertedType, LogicalType};
use parquet::errors::Result;
use parquet::schema::types::{Type, TypePtr};

use crate::task::field_id;

/// Begins the name of a column that must not be found by name; no column of a table begins so.
const HIDDEN: char = '\u{1f}';

/// Whether any column has a field id. One suffices: then columns without one are not the table's.
pub(super) fn has_ids(root: &TypePtr) -> bool {
    root.get_fields()
        .iter()
        .any(|field| field.get_basic_info().has_id() || (field.is_group() && has_ids(field)))
}

/// The root columns that have no id.
pub(super) fn names_without_ids(root: &TypePtr) -> Vec<String> {
    let fields =
        root.get_fields().iter().filter(|field| !field.get_basic_info().has_id() && !field.is_group());
    fields.map(|field| field.name().to_owned()).collect()
}

/// The schema with ids for its root columns: 1, 2, 3 and so on, as tables once began.
pub(super) fn with_ids_by_place(root: &TypePtr) -> Result<TypePtr> {
    let fields = root.get_fields().iter().zip(1..).map(|(field, id)| {
        let children = field.is_group().then(|| field.get_fields().to_vec());
        with(field, field.name(), Some(id), children)
    });
    with(root, root.name(), None, Some(fields.collect::<Result<_>>()?))
}

/// A field id that two root columns claim.
pub(super) fn duplicate_root_id(root: &TypePtr) -> Option<i32> {
    let mut seen = HashSet::new();
    let ids = root.get_fields().iter().map(|field| field.get_basic_info()).filter(|info| info.has_id());
    ids.map(|info| info.id()).find(|id| !seen.insert(*id))
}

/// The schema with the table's names; the same pointer if they agree already.
pub(super) fn to_table_names(root: &TypePtr, table: &Schema) -> Result<TypePtr> {
    rename_children(root, &Names::of_table(table), None, |_| true)
}

/// Names that the table gives to root columns and to fields of structs.
#[derive(Default)]
pub(super) struct Names<'a> {
    by_id: HashMap<i32, &'a str>,
    taken: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn of_table(table: &'a Schema) -> Self {
        let mut names = Self::default();
        names.collect(table.fields());
        names
    }

    fn collect(&mut self, fields: &'a Fields) {
        for field in fields {
            if let Some(id) = field_id(field) {
                self.by_id.insert(id, field.name());
            }
            self.taken.insert(field.name());
            self.collect_below(field.data_type());
        }
    }

    fn collect_below(&mut self, data_type: &'a DataType) {
        match data_type {
            DataType::Struct(fields) => self.collect(fields),
            DataType::List(element) => self.collect_below(element.data_type()),
            DataType::Map(entries, _) => {
                // Key and value are found by position; only what is inside them has names.
                if let DataType::Struct(pair) = entries.data_type() {
                    pair.iter().for_each(|field| self.collect_below(field.data_type()));
                }
            }
            _ => {}
        }
    }

    /// The name of a column that has this id and this name in the file.
    pub(super) fn of(&self, id: Option<i32>, own: &str, position: usize) -> String {
        match id.and_then(|id| self.by_id.get(&id)) {
            Some(name) => (*name).to_owned(),
            None if self.taken.contains(own) => format!("{HIDDEN}{position}"),
            None => own.to_owned(),
        }
    }
}

/// Renames below a group. `name` is the group's new name; `named` says which of its children are
/// columns with names of their own (fields of a struct), as opposed to parts of a list or map.
fn rename_children(
    group: &TypePtr,
    names: &Names<'_>,
    name: Option<&str>,
    named: impl Fn(&TypePtr) -> bool,
) -> Result<TypePtr> {
    let mut changed = name.is_some_and(|name| name != group.name());
    let mut children = Vec::with_capacity(group.get_fields().len());
    for (position, child) in group.get_fields().iter().enumerate() {
        let info = child.get_basic_info();
        let new_name = if named(child) {
            names.of(info.has_id().then(|| info.id()), child.name(), position)
        } else {
            child.name().to_owned()
        };
        let new = rename(child, names, &new_name)?;
        changed |= !Arc::ptr_eq(&new, child);
        children.push(new);
    }
    if !changed {
        return Ok(Arc::clone(group));
    }
    with(group, name.unwrap_or(group.name()), None, Some(children))
}

fn rename(node: &TypePtr, names: &Names<'_>, name: &str) -> Result<TypePtr> {
    if node.is_primitive() {
        return if node.name() == name { Ok(Arc::clone(node)) } else { with(node, name, None, None) };
    }
    match Shape::of(node) {
        Shape::Struct => rename_children(node, names, Some(name), |_| true),
        Shape::Repeating => {
            // A list's or map's outer group: its repeated child has no name of its own, and what is
            // below that is an element, a key or a value, unless the repeated group is the element.
            let mut children = Vec::new();
            let mut changed = name != node.name();
            for child in node.get_fields() {
                let new = match Shape::of_repeated(node, child) {
                    Repeated::Leaf => Arc::clone(child),
                    Repeated::IsElement => rename_children(child, names, None, |_| true)?,
                    Repeated::HoldsElement => rename_children(child, names, None, |_| false)?,
                };
                changed |= !Arc::ptr_eq(&new, child);
                children.push(new);
            }
            if changed { with(node, name, None, Some(children)) } else { Ok(Arc::clone(node)) }
        }
    }
}

/// What a group stands for.
#[derive(PartialEq)]
pub(super) enum Shape {
    /// A struct: its children are named columns.
    Struct,
    /// The outer group of a list or map.
    Repeating,
}

/// What the repeated child of a list or map stands for.
pub(super) enum Repeated {
    /// A two-level list of a leaf.
    Leaf,
    /// A two-level list: the group is the element, a struct.
    IsElement,
    /// The usual three levels.
    HoldsElement,
}

impl Shape {
    pub(super) fn of(group: &Type) -> Self {
        let info = group.get_basic_info();
        let logical = matches!(info.logical_type_ref(), Some(LogicalType::List | LogicalType::Map));
        let converted = matches!(
            info.converted_type(),
            ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE
        );
        if logical || converted { Self::Repeating } else { Self::Struct }
    }

    /// The rules for two-level lists are those of Parquet's `LogicalTypes.md`.
    pub(super) fn of_repeated(outer: &Type, repeated: &Type) -> Repeated {
        if repeated.is_primitive() {
            return Repeated::Leaf;
        }
        let info = outer.get_basic_info();
        let is_list = matches!(info.logical_type_ref(), Some(LogicalType::List))
            || info.converted_type() == ConvertedType::LIST;
        let old = repeated.get_fields().len() > 1
            || repeated.name() == "array"
            || repeated.name() == format!("{}_tuple", outer.name());
        if is_list && old { Repeated::IsElement } else { Repeated::HoldsElement }
    }
}

/// A copy of a node under another name, with another id (if given) and other children.
pub(super) fn with(
    node: &Type,
    name: &str,
    id: Option<i32>,
    children: Option<Vec<TypePtr>>,
) -> Result<TypePtr> {
    let info = node.get_basic_info();
    let id = id.or_else(|| info.has_id().then(|| info.id()));
    let logical = info.logical_type_ref().cloned();
    let new = match node {
        Type::PrimitiveType { physical_type, type_length, scale, precision, .. } => {
            Type::primitive_type_builder(name, *physical_type)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(logical)
                .with_length(*type_length)
                .with_precision(*precision)
                .with_scale(*scale)
                .with_id(id)
                .build()?
        }
        Type::GroupType { fields, .. } => {
            let mut builder = Type::group_type_builder(name)
                .with_converted_type(info.converted_type())
                .with_logical_type(logical)
                .with_fields(children.unwrap_or_else(|| fields.clone()))
                .with_id(id);
            if info.has_repetition() {
                builder = builder.with_repetition(info.repetition());
            }
            builder.build()?
        }
    };
    Ok(Arc::new(new))
}
