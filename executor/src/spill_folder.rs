//! The folder in which this executor spills: its own, locked while it lives, deleted with it.
//!
//! What a killed executor left beside it is deleted at the next start: its lock is then free.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "spill-";
const LOCK: &str = "lock";

/// Deleted when dropped.
#[derive(Debug)]
pub(crate) struct SpillFolder {
    path: PathBuf,
    /// Held while the folder is in use; the operating system frees it with the process.
    _lock: File,
}

impl SpillFolder {
    /// Makes the folder of executor `nonce` in `parent` and deletes the folders of dead executors.
    pub(crate) fn create(parent: &Path, nonce: &str) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        delete_dead(parent)?;
        let path = parent.join(format!("{PREFIX}{nonce}"));
        std::fs::create_dir_all(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// Where to spill.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "the spill folder could not be deleted");
        }
    }
}

fn delete_dead(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A folder without its lock is being made or deleted by another.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_folders_are_deleted() {
        let parent = std::env::temp_dir().join(format!("tarn-executor-{}", uuid::Uuid::new_v4()));
        let dead = parent.join("spill-dead");
        std::fs::create_dir_all(&dead).unwrap();
        File::create(dead.join(LOCK)).unwrap();
        let living = SpillFolder::create(&parent, "a").unwrap();
        assert!(!dead.exists());
        let other = SpillFolder::create(&parent, "b").unwrap();
        assert!(living.path().exists());
        let path = other.path().to_path_buf();
        drop(other);
        assert!(!path.exists());
        drop(living);
        std::fs::remove_dir_all(parent).unwrap();
    }
}
