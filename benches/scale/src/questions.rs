//! What is asked: one big scan with an aggregate, one join of two big tables, and the dashboard.
//!
//! Each is a list of queries and the clients that send it: each client takes the next of the list until there is
//! none, so the work is the same however many executors do it. The rule: answers are exact, or rounded by the query.

use serde::Serialize;
use tarn::demo::queries::DASHBOARD;

/// Queries that are timed together.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// Its name in reports.
    pub name: &'static str,
    /// How many send it at once.
    pub clients: usize,
    /// The queries, without semicolons.
    pub queries: Vec<String>,
}

/// Reads seven columns of every row; what is left of them is four rows.
const SCAN: &str = "
SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice),
       sum(l_extendedprice * (1 - l_discount)), sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)), count(*)
FROM scale.lineitem
WHERE l_shipdate <= DATE '1998-09-02'
GROUP BY l_returnflag, l_linestatus";

/// Every row of both tables takes part, and neither is small enough to be sent to all.
const JOIN: &str = "
SELECT o_orderpriority, l_shipmode, count(*), sum(l_extendedprice * (1 - l_discount)), max(o_totalprice)
FROM scale.lineitem JOIN scale.orders ON l_orderkey = o_orderkey
GROUP BY o_orderpriority, l_shipmode";

/// All questions.
pub fn all(clients: usize) -> Vec<Question> {
    let alone = |name, sql: &str| Question {
        name,
        clients: 1,
        queries: vec![sql.split_whitespace().collect::<Vec<_>>().join(" ")],
    };
    let dashboard = DASHBOARD.iter().flat_map(|query| [query.sql, query.sql_by_date]);
    let dashboard = dashboard.map(|sql| sql.trim().trim_end_matches(';').to_string()).collect();
    vec![
        alone("scan and aggregate", SCAN),
        alone("join of two big tables", JOIN),
        Question { name: "dashboard", clients: clients.max(1), queries: dashboard },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dashboard_is_whole_and_queries_are_one_statement_each() {
        let all = all(4);
        assert_eq!(all[2].queries.len(), 2 * DASHBOARD.len());
        assert!(all.iter().flat_map(|question| &question.queries).all(|sql| !sql.contains(';')));
    }
}
