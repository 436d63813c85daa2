//! The dashboard of schema `shop`: six questions as ready SQL.
//!
//! Each comes twice: over all time, and with a filter on `dim_dates`. The demo prints them;
//! tests and benchmarks run them.

use std::fmt::Write;

/// One question of the dashboard.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Short name, for reports of tests and benchmarks.
    pub name: &'static str,
    /// What it asks.
    pub title: &'static str,
    /// Over all time.
    pub sql: &'static str,
    /// Filtered by `dim_dates`.
    pub sql_by_date: &'static str,
}

macro_rules! query {
    ($name:literal, $title:literal) => {
        Query {
            name: $name,
            title: $title,
            sql: include_str!(concat!("queries/", $name, ".sql")),
            sql_by_date: include_str!(concat!("queries/", $name, "_by_date.sql")),
        }
    };
}

/// The dashboard.
pub const DASHBOARD: &[Query] = &[
    query!("total_sales", "Total sales and profit"),
    query!("best_weekday", "Best day of the week"),
    query!("top_sellers", "Top sellers"),
    query!("top_products", "Top five products by profit in each category"),
    query!("payment_methods", "Payment methods"),
    query!("customer_ranking", "Customer ranking"),
];

/// The dashboard as text to copy from.
pub fn listing() -> String {
    let mut text = String::from("The dashboard of schema shop; each query is ready to paste:\n");
    for query in DASHBOARD {
        let _ = write!(text, "\n-- {}\n{}", query.title, query.sql);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::catalog::{MemTable, MemorySchemaProvider, SchemaProvider};
    use datafusion::prelude::SessionContext;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;
    use crate::demo::shop;

    #[tokio::test]
    async fn every_question_has_an_answer() {
        let ctx = SessionContext::new();
        let schema = Arc::new(MemorySchemaProvider::new());
        for table in shop::tables(0.002, 42) {
            let batches = table.batches(0, 1).collect::<Result<_, _>>().unwrap();
            let rows = MemTable::try_new(Arc::clone(&table.schema), vec![batches]).unwrap();
            schema.register_table(table.name.to_string(), Arc::new(rows)).unwrap();
        }
        ctx.catalog("datafusion").unwrap().register_schema("shop", schema).unwrap();
        let rows = [(1, 4), (7, 7), (10, 10), (60, 60), (12, 12), (20, 20)];
        for (query, expected) in DASHBOARD.iter().zip(rows) {
            let count = async |sql: &str| ctx.sql(sql).await.unwrap().count().await.unwrap();
            assert_eq!((count(query.sql).await, count(query.sql_by_date).await), expected, "{}", query.name);
        }
    }

    #[test]
    fn queries_are_one_statement_each_and_filter_by_dates() {
        for query in DASHBOARD {
            for sql in [query.sql, query.sql_by_date] {
                assert!(sql.trim_end().ends_with(';'), "{}", query.name);
                assert_eq!(Parser::parse_sql(&GenericDialect {}, sql).unwrap().len(), 1, "{}", query.name);
            }
            let filter = query.sql_by_date.split_once("WHERE").unwrap().1;
            assert!(query.sql_by_date.contains("shop.dim_dates") && filter.contains("d."), "{}", query.name);
        }
    }
}
