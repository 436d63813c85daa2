//! Names as SQL has them, and the errors of a catalog that does not have what is named.

use super::TableIdent;
use crate::error::Error;
use crate::name::TableName;

/// A catalog that knows its name in SQL.
pub(super) trait Named {
    /// Its name.
    fn catalog(&self) -> &str;

    fn table_name(&self, ident: &TableIdent) -> TableName {
        TableName::new(self.catalog(), &ident.schema, &ident.table)
    }

    fn table_not_found(&self, ident: &TableIdent) -> Error {
        Error::TableNotFound { name: self.table_name(ident), near: None }
    }

    fn view_not_found(&self, ident: &TableIdent) -> Error {
        Error::ViewNotFound { name: self.table_name(ident), near: None }
    }

    fn schema_not_found(&self, schema: &str) -> Error {
        Error::SchemaNotFound { catalog: self.catalog().to_owned(), schema: schema.to_owned(), near: None }
    }
}
