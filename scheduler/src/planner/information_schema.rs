//! `information_schema`: the engine's, but for positions of columns, which begin with 1 as in other systems.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{Expr, col, lit};

const COLUMNS: &str = "columns";
const POSITION: &str = "ordinal_position";

#[derive(Debug)]
pub(super) struct InformationSchema(pub(super) InformationSchemaProvider);

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.0.table(name).await? {
            Some(columns) if name.eq_ignore_ascii_case(COLUMNS) => Ok(Some(from_one(columns)?)),
            other => Ok(other),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table_exist(name)
    }
}

/// The engine counts from 0.
fn from_one(columns: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let schema = columns.schema();
    let output = schema.fields().iter().map(|field| match field.name().as_str() {
        POSITION => (col(POSITION) + lit(1_u64)).alias(POSITION),
        name => col(name),
    });
    let output: Vec<Expr> = output.collect();
    let plan =
        LogicalPlanBuilder::scan(COLUMNS, provider_as_source(columns), None)?.project(output)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
