//! The folder of one executor's shuffle files.
//!
//! Folders of several executors stand side by side, each locked by its process. A lock that
//! can be taken belongs to an executor that is dead, and its folder is removed.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

const LOCK_FILE: &str = ".lock";

/// A folder that is ours while this lives, and gone after.
#[derive(Debug)]
pub(super) struct WorkFolder {
    path: String,
    /// Holds the lock.
    _lock: File,
}

impl WorkFolder {
    /// Makes the folder of the executor `id` below `parent`, and removes those of dead ones.
    pub(super) fn create(parent: &Path, id: &str) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        remove_dead(parent)?;
        let folder = parent.join(folder_name(id));
        std::fs::create_dir_all(&folder)?;
        let lock = open_lock(&folder)?;
        lock.try_lock().map_err(|error| {
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("work folder of executor {id} is in use: {error}"),
            )
        })?;
        let path = folder.canonicalize()?.into_os_string().into_string().map_err(|path| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("work folder {path:?} is not unicode"))
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            warn!(%error, "work folder cannot be removed");
        }
    }
}

fn remove_dead(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let folder = entry?.path();
        // Only folders with a lock file are ours to remove.
        let Ok(lock) = OpenOptions::new().write(true).open(folder.join(LOCK_FILE)) else { continue };
        if lock.try_lock().is_ok() {
            info!(?folder, "removing the work folder of a dead executor");
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                warn!(%error, ?folder, "work folder cannot be removed");
            }
        }
    }
    Ok(())
}

fn open_lock(folder: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(false).open(folder.join(LOCK_FILE))
}

/// The id without what a file name cannot bear.
fn folder_name(id: &str) -> PathBuf {
    id.chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_of_a_dead_executor_is_removed_and_that_of_a_live_one_kept() {
        let parent = std::env::temp_dir().join(format!("tarn-work-{}", uuid::Uuid::new_v4()));
        let live = WorkFolder::create(&parent, "host#1").unwrap();
        let dead = parent.join("host_0");
        std::fs::create_dir_all(&dead).unwrap();
        drop(open_lock(&dead).unwrap());
        std::fs::create_dir_all(parent.join("stranger")).unwrap();

        let other = WorkFolder::create(&parent, "host#2").unwrap();

        assert!(Path::new(live.path()).exists());
        assert!(Path::new(other.path()).exists());
        assert!(!dead.exists());
        assert!(parent.join("stranger").exists());
        drop((live, other));
        std::fs::remove_dir_all(parent).unwrap();
    }
}
