//! What older writers put into table metadata that the crate's parser refuses, and what they left out.
//!
//! Version 1 allows a snapshot that names its manifests itself, without a list
//! of them; a branch or tag may outlive its snapshot. The crate fails to parse
//! a whole table over either. Here they are taken out before the crate sees
//! them, and kept beside. The one rule: such metadata is read, and never
//! committed, since the commit would write it back without them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

/// What was taken out.
#[derive(Debug, Default)]
pub(super) struct TakenOut {
    /// The manifests of snapshots without a list of them.
    pub(super) manifests: HashMap<i64, Arc<[String]>>,
    /// Names of branches and tags whose snapshot is gone.
    pub(super) dangling: Vec<String>,
}

impl TakenOut {
    pub(super) fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.dangling.is_empty()
    }
}

/// Takes out of a table's metadata what the crate would refuse.
pub(super) fn take_out(json: &mut Value) -> TakenOut {
    let mut taken = TakenOut::default();
    let version = json["format-version"].as_u64();
    let mut ids = Vec::new();
    for snapshot in json.get_mut("snapshots").and_then(Value::as_array_mut).into_iter().flatten() {
        let id = snapshot["snapshot-id"].as_i64();
        ids.extend(id);
        let (Some(id), Some(1), Some(fields)) = (id, version, snapshot.as_object_mut()) else {
            continue;
        };
        let manifests = fields.remove("manifests");
        if fields.get("manifest-list").is_some_and(Value::is_string) {
            continue;
        }
        let manifests = manifests.as_ref().and_then(Value::as_array).into_iter().flatten();
        taken.manifests.insert(id, manifests.filter_map(Value::as_str).map(str::to_owned).collect());
        fields.insert("manifest-list".to_owned(), json!(""));
    }
    if let Some(refs) = json.get_mut("refs").and_then(Value::as_object_mut) {
        refs.retain(|name, value| {
            let there = value["snapshot-id"].as_i64().is_none_or(|id| ids.contains(&id));
            if !there {
                taken.dangling.push(name.clone());
            }
            there
        });
    }
    taken
}
