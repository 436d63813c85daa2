//! Names of catalogs, schemas and tables as a statement writes them: one to three parts.

use std::fmt;

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};

/// A name of one to three parts, folded to lower case where it was not quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName(Vec<String>);

impl ObjectName {
    /// From the parser's name; more than `parts_max` parts are refused.
    pub fn new(name: &ast::ObjectName, parts_max: usize) -> Result<Self> {
        let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        if parts.len() != name.0.len() || parts.is_empty() || parts.len() > parts_max {
            return Err(Error::invalid(format!("name \"{name}\" does not have 1 to {parts_max} parts")));
        }
        Ok(Self(parts))
    }

    /// The last part.
    pub fn last(&self) -> &str {
        self.0.last().expect("a name has at least one part")
    }

    /// The parts before the last, outermost first.
    pub fn qualifiers(&self) -> &[String] {
        &self.0[..self.0.len() - 1]
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// An identifier as the engine folds it: lower case unless quoted.
pub(crate) fn fold(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
