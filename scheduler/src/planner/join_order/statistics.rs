//! What the tables of a plan say of themselves, asked once for each scan.
//!
//! A scan is told by its table and the filters that were pushed down to it, as they will be told to the table when the
//! scan is planned: what is found out here is not found out again. Nothing here reads a data file.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

/// The statistics of each scan of a plan.
#[derive(Default)]
pub(super) struct Known {
    scans: Vec<Scan>,
}

struct Scan {
    table: Arc<dyn TableProvider>,
    filters: Vec<Expr>,
    /// Of what the filters leave as far as files go, over the table's whole schema.
    statistics: Option<Statistics>,
}

impl Known {
    /// Asks the tables of all scans of the plan, at once.
    pub(super) async fn of(plan: &LogicalPlan) -> Self {
        let mut scans = Vec::new();
        // The closure never fails, so neither does the walk.
        let _ = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(table) = source_as_provider(&scan.source)
            {
                scans.push((table, scan.filters.clone()));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        let scans = scans.into_iter().map(|(table, filters)| async move {
            let plain = unnormalize_cols(filters.iter().cloned());
            let statistics = tarn_catalog::scan_statistics(table.as_ref(), &plain).await;
            Scan { table, filters, statistics }
        });
        Self { scans: futures::future::join_all(scans).await }
    }

    /// What is known of a scan.
    pub(super) fn scan(&self, scan: &TableScan) -> Option<&Statistics> {
        let table = source_as_provider(&scan.source).ok()?;
        let same = |known: &&Scan| Arc::ptr_eq(&known.table, &table) && known.filters == scan.filters;
        self.scans.iter().find(same)?.statistics.as_ref()
    }

    /// Rows of the whole table, if it says so without its filters.
    pub(super) fn table_rows(scan: &TableScan) -> Option<usize> {
        let table = source_as_provider(&scan.source).ok()?;
        table.statistics()?.num_rows.get_value().copied()
    }
}
