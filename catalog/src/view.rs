//! Views: names to definitions, and how they are made, replaced and dropped.
//!
//! What a view's query means is the scheduler's to say; here are its text, its columns and its
//! metadata file. The rule: a name is a table or a view, never both.

use std::sync::Arc;

use arrow::datatypes::Schema;
use tracing::info;

use crate::Lakehouse;
use crate::backend::TableIdent;
use crate::error::{Error, Result, nearest};
use crate::iceberg::{ViewDefinition, ViewMetadata};
use crate::name::TableName;
use crate::write::{CreateMode, NewView};

/// How often a view is replaced that others replace meanwhile.
const REPLACE_ATTEMPTS_MAX: usize = 8;

/// One version of a view.
#[derive(Clone, Debug)]
pub struct View {
    name: TableName,
    metadata: ViewMetadata,
    schema: Arc<Schema>,
}

impl View {
    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The columns that it gives.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Its comment.
    pub fn comment(&self) -> Option<&str> {
        self.metadata.properties().get("comment").map(String::as_str)
    }

    /// Its query. Fails with [`Error::ViewDialect`] if it is written in none that we read.
    pub fn definition(&self) -> Result<ViewDefinition> {
        self.metadata.definition(&self.name)
    }

    /// Fails unless a query with these columns gives what the view says that it gives.
    pub fn check_columns(&self, columns: &Schema) -> Result<()> {
        match self.metadata.why_not_given_by(columns) {
            None => Ok(()),
            Some(reason) => {
                let name = self.name.to_string();
                Err(Error::Invalid(format!("view {name:?} is out of date: {reason}")))
            }
        }
    }
}

impl Lakehouse {
    /// The views of a schema, sorted.
    pub async fn views(&self, catalog: &str, schema: &str) -> Result<Vec<String>> {
        self.backend(catalog)?.list_views(schema).await
    }

    /// The current version of a view. Fails with [`Error::ViewNotFound`].
    pub async fn view(&self, name: &TableName) -> Result<View> {
        let ident = TableIdent::new(&name.schema, &name.table);
        let loaded = self.backend(&name.catalog)?.load_view(&ident).await?;
        let schema = loaded.metadata.schema(name)?;
        Ok(View { name: name.clone(), metadata: loaded.metadata, schema })
    }

    /// Makes a view, or puts another query in its place.
    ///
    /// Fails with [`Error::ViewExists`], [`Error::TableExists`], [`Error::SchemaNotFound`], and [`Error::Invalid`]
    /// for columns that a view cannot have.
    pub async fn create_view(&self, name: &TableName, new: &NewView, mode: CreateMode) -> Result<()> {
        let backend = self.backend(&name.catalog)?;
        let ident = TableIdent::new(&name.schema, &name.table);
        for _ in 0..REPLACE_ATTEMPTS_MAX {
            let base = match backend.load_view(&ident).await {
                Ok(_) if mode == CreateMode::IfNotExists => return Ok(()),
                Ok(_) if mode == CreateMode::Create => return Err(Error::ViewExists { name: name.clone() }),
                Ok(base) => base,
                Err(Error::ViewNotFound { .. }) => {
                    match self.make_view(name, &ident, new).await {
                        // Somebody else was faster.
                        Err(Error::ViewExists { .. }) if mode == CreateMode::IfNotExists => return Ok(()),
                        Err(Error::ViewExists { .. }) if mode == CreateMode::OrReplace => continue,
                        made => return made,
                    }
                }
                Err(error) => return Err(error),
            };
            let view = base.metadata.replaced(new)?;
            if backend.replace_view(&ident, &base, view).await? {
                info!(view = %name, "view replaced");
                return Ok(());
            }
        }
        Err(Error::CommitConflict { table: name.clone() })
    }

    /// Drops a view.
    pub async fn drop_view(&self, name: &TableName, if_exists: bool) -> Result<()> {
        let backend = self.backend(&name.catalog)?;
        match backend.drop_view(&TableIdent::new(&name.schema, &name.table)).await {
            Err(Error::ViewNotFound { .. }) if if_exists => Ok(()),
            Err(Error::ViewNotFound { name, .. }) => {
                let views = backend.list_views(&name.schema).await.unwrap_or_default();
                let near = nearest(&name.table, views.iter().map(String::as_str));
                Err(Error::ViewNotFound { name, near })
            }
            dropped => {
                dropped?;
                info!(view = %name, "view dropped");
                Ok(())
            }
        }
    }

    async fn make_view(&self, name: &TableName, ident: &TableIdent, new: &NewView) -> Result<()> {
        let backend = self.backend(&name.catalog)?;
        let bad = |c: char| c == '/' || c == '\\' || c.is_control();
        if name.table.is_empty() || name.table.contains(bad) || matches!(name.table.as_str(), "." | "..") {
            return Err(Error::Invalid(format!("{:?} is not a name for a view", name.table)));
        }
        if !backend.schema_exists(&name.schema).await? {
            let (catalog, schema) = (name.catalog.clone(), name.schema.clone());
            let near = nearest(&schema, backend.list_schemas().await?.iter().map(String::as_str));
            return Err(Error::SchemaNotFound { catalog, schema, near });
        }
        match backend.load_table(ident).await {
            Err(Error::TableNotFound { .. }) => {}
            _ => return Err(Error::TableExists { name: name.clone() }),
        }
        let view = ViewMetadata::new(new, &backend.new_view_location(ident).await?)?;
        backend.create_view(ident, view).await?;
        info!(view = %name, "view made");
        Ok(())
    }
}
