//! What is asked, and what is right: TPC-H by DuckDB's answers, long results by what the tables add up to.
//!
//! The rule: what is right comes from others, never from an answer of Tarn.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tarn_client::{Connection, Error};

use crate::answers::{self, Answer};
use crate::rows::{self, Progress, Sum};

/// Queries of TPC-H.
const TPCH: usize = 22;
/// The share of questions, in percent, that are long results, and that nobody reads to the end.
const LONG_PERCENT: u32 = 15;
const ABANDONED_PERCENT: u32 = 7;

/// Long results: their name, their text, how often each row of `lineitem` is in them. The first column is its key.
const LONG: [(&str, &str, u64); 3] = [
    ("rows", "select l_orderkey, l_linenumber, l_shipdate, l_comment from lineitem", 1),
    ("product", "select l_orderkey, l_linenumber, l_comment, r_name from lineitem, region", 5),
    (
        "sorted",
        "select l_orderkey, l_linenumber, l_comment from lineitem order by l_comment, l_orderkey, l_linenumber",
        1,
    ),
];

/// Everything that is asked.
#[derive(Debug)]
pub struct Questions {
    all: Vec<Question>,
}

/// One question with what is right.
#[derive(Debug)]
pub struct Question {
    /// Its name.
    pub name: String,
    /// Its text.
    pub sql: String,
    right: Right,
}

#[derive(Debug)]
enum Right {
    Rows(Answer),
    Sum(Sum),
    /// Whatever comes first.
    Anything,
}

impl Questions {
    /// Reads the answers.
    pub fn read() -> Self {
        let mut all: Vec<_> = (1..=TPCH)
            .map(|number| Question {
                name: format!("q{number:02}"),
                sql: answers::query_text("tpch", number),
                right: Right::Rows(answers::tpch(number)),
            })
            .collect();
        let sums = answers::tpch_sums().rows;
        let keys = sums.iter().find(|row| row[2] == "l_orderkey").expect("the sums tell of this column");
        let (count, first): (u64, i128) =
            (keys[1].parse().expect("rows are a number"), keys[3].parse().expect("a sum is a number"));
        for (name, sql, times) in LONG {
            let sum = Sum { count: count * times, first: first * i128::from(times) };
            all.push(Question { name: name.to_string(), sql: sql.to_string(), right: Right::Sum(sum) });
        }
        let (_, sql, _) = LONG[1];
        all.push(Question { name: "abandoned".to_string(), sql: sql.to_string(), right: Right::Anything });
        Self { all }
    }

    /// All of them.
    pub fn all(&self) -> &[Question] {
        &self.all
    }

    /// One of them.
    pub fn draw(&self, random: &mut ChaCha8Rng) -> &Question {
        let at = match random.random_range(0..100) {
            dice if dice < ABANDONED_PERCENT => self.all.len() - 1,
            dice if dice < ABANDONED_PERCENT + LONG_PERCENT => TPCH + random.random_range(0..LONG.len()),
            _ => random.random_range(0..TPCH),
        };
        &self.all[at]
    }
}

impl Question {
    /// Asks: an error, or what is wrong with the answer, if anything.
    pub async fn ask(
        &self,
        connection: &mut Connection,
        progress: &Progress,
    ) -> Result<Result<(), String>, Error> {
        match &self.right {
            Right::Rows(answer) => {
                let rows = rows::collect(connection, &self.sql, progress).await?;
                Ok(answer.compare(&rows))
            }
            Right::Sum(right) => {
                let sum = rows::sum(connection, &self.sql, progress).await?;
                Ok(if sum == *right { Ok(()) } else { Err(format!("expected {right:?}, got {sum:?}")) })
            }
            Right::Anything => rows::abandon(connection, &self.sql, progress).await.map(Ok),
        }
    }
}
