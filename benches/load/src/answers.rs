//! What is right: DuckDB's answers on the same files, as digests.
//!
//! They are kept beside the data, by the query's text, so that a run asks DuckDB only for texts it has not seen.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::ipc::reader::StreamReader;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::data::{self, Data};
use crate::digest::Digest;
use crate::mix::Query;

const FILE: &str = "answers.json";

/// The digest of each query's answer, in order.
pub async fn expected(data: &Data, queries: &[Query], python: &str) -> Result<Vec<Digest>, Error> {
    let path = data.folder.join(FILE);
    let mut known: BTreeMap<String, Digest> = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => BTreeMap::new(),
    };
    let missing: Vec<_> = queries.iter().filter(|query| !known.contains_key(&key(query))).collect();
    if !missing.is_empty() {
        let folder = tempfile::tempdir_in(&data.folder)?;
        let texts: BTreeMap<_, _> = missing.iter().map(|query| (&query.name, &query.sql)).collect();
        let request = serde_json::json!({ "folder": folder.path(), "tables": data.tables, "queries": texts });
        data::python_answer(python, include_str!("../python/answers.py"), &request).await?;
        for query in missing {
            known.insert(key(query), read(&folder.path().join(format!("{}.arrow", query.name)))?);
        }
        std::fs::write(&path, serde_json::to_string_pretty(&known)?)?;
    }
    Ok(queries.iter().map(|query| known[&key(query)]).collect())
}

fn read(path: &Path) -> Result<Digest, Error> {
    let mut digest = Digest::default();
    for batch in StreamReader::try_new(std::fs::File::open(path)?, None)? {
        digest.add(&batch?)?;
    }
    Ok(digest)
}

/// The query's name and the beginning of its text's hash.
fn key(query: &Query) -> String {
    let hash = Sha256::digest(query.sql.as_bytes());
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}", query.name)
}
