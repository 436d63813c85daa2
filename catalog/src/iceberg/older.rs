//! What older writers put into table metadata that the crate's parser refuses, and what they left out.
//!
//! Version 1 allows a snapshot that names its manifests itself, without a list
//! of them, and a table without an id; a branch or tag may outlive its snapshot. The crate fails to parse
//! a whole table over either. Here they are taken out before the crate sees
//! them, and kept beside. The one rule: such metadata is read, and never
//! committed, since the commit would write it back without them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

/// What was taken out.
#[derive(Debug, Default)]
pub(super) struct TakenOut {
    /// The manifests of snapshots without a list of them.
    pub(super) manifests: HashMap<i64, Arc<[String]>>,
    /// Names of branches and tags whose snapshot is gone.
    pub(super) dangling: Vec<String>,
    /// Whether the table has no identity of its own.
    pub(super) anonymous: bool,
}

impl TakenOut {
    pub(super) fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.dangling.is_empty() && !self.anonymous
    }
}

/// Takes out of a table's metadata what the crate would refuse.
pub(super) fn take_out(json: &mut Value) -> TakenOut {
    let mut taken = TakenOut::default();
    if !json.is_object() {
        return taken;
    }
    let version = json["format-version"].as_u64();
    if version == Some(1) && json["table-uuid"].is_null() {
        // The same in every process, as long as the table stays where it is.
        json["table-uuid"] = json!(uuid_of(json["location"].as_str().unwrap_or_default()).to_string());
        taken.anonymous = true;
    }
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

fn uuid_of(location: &str) -> Uuid {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, location).hash(&mut hasher);
        hasher.finish()
    };
    Uuid::from_u64_pair(half(0), half(1))
}
