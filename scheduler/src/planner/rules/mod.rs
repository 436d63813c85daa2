//! Rules that make the engine's answers those of the SQL standard, where its own are not.
//!
//! Each file is one defect of the engine and its cure; when the engine mends it, the file goes. They run after types
//! were made equal. Not here: numbers with a point, which have a room of their own beside this one. The rule: a cure
//! changes which rows come out, never their names or types.

mod multiplicity;
mod zeros;

use std::sync::Arc;

use datafusion::optimizer::AnalyzerRule;

/// The rules, in their order.
pub(super) fn all() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![Arc::new(multiplicity::Multiplicity), Arc::new(zeros::Zeros)]
}
