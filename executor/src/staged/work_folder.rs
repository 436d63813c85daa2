//! The folder of one executor's shuffle files.
//!
//! Folders of several executors stand side by side, each locked by its process. A lock that
//! can be taken belongs to an executor that is dead, and its folder is removed. In the folder
//! each job has one of its own. The scheduler calls when a job is over; what that call did not
//! reach (the executor was cut off, or a task still wrote) goes with a later sign of life.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

const LOCK_FILE: &str = ".lock";
/// Most jobs that one sign of life asks about; the others are asked about later.
const JOBS_MAX: usize = 256;
/// How long the disk may take to name them.
const LISTING_MAX: Duration = Duration::from_millis(500);

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

    /// The jobs in it, which `scheduler` gave.
    pub(super) fn jobs(&self, scheduler: String) -> JobFiles {
        JobFiles { scheduler, folder: PathBuf::from(&self.path) }
    }
}

/// The files of a scheduler's jobs.
#[derive(Debug, Clone)]
pub(crate) struct JobFiles {
    scheduler: String,
    folder: PathBuf,
}

impl JobFiles {
    /// Who gave the jobs, as the executor reaches it.
    pub(crate) fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// The jobs that have files. None if the disk does not say in time.
    pub(crate) async fn jobs(&self) -> Vec<String> {
        tokio::time::timeout(LISTING_MAX, self.listed()).await.unwrap_or_default()
    }

    async fn listed(&self) -> Vec<String> {
        let mut jobs = Vec::new();
        let Ok(mut entries) = tokio::fs::read_dir(&self.folder).await else { return jobs };
        while let Ok(Some(entry)) = entries.next_entry().await
            && jobs.len() < JOBS_MAX
        {
            let is_folder = entry.file_type().await.is_ok_and(|kind| kind.is_dir());
            if let (true, Ok(job)) = (is_folder, entry.file_name().into_string()) {
                jobs.push(job);
            }
        }
        jobs
    }

    /// Removes the files of those of `jobs` that the scheduler says are `over`.
    pub(crate) async fn remove(&self, jobs: &[String], over: &[String]) {
        // Only what was asked about: a name from outside is no path.
        for job in jobs.iter().filter(|job| over.contains(job)) {
            match tokio::fs::remove_dir_all(self.folder.join(job)).await {
                Ok(()) => info!(job, "removed the files of a job that is over"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warn!(job, %error, "files of a job that is over cannot be removed"),
            }
        }
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

    #[tokio::test]
    async fn files_of_a_job_that_is_over_go_and_others_stay() {
        let parent = std::env::temp_dir().join(format!("tarn-work-{}", uuid::Uuid::new_v4()));
        let folder = WorkFolder::create(&parent, "host#1").unwrap();
        let files = folder.jobs("scheduler".to_string());
        for file in ["a/1/data", "b/1/data"] {
            let file = Path::new(folder.path()).join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "rows").unwrap();
        }
        std::fs::create_dir_all(parent.join("stranger")).unwrap();

        let mut jobs = files.jobs().await;
        jobs.sort();
        assert_eq!(jobs, ["a", "b"]);
        files.remove(&jobs, &["a".to_string(), "../stranger".to_string()]).await;

        assert_eq!(files.jobs().await, ["b"]);
        assert!(parent.join("stranger").exists());
        drop(folder);
        std::fs::remove_dir_all(parent).unwrap();
    }

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
