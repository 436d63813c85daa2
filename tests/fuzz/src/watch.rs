//! Keeps the input at hand where it is found if the process dies of it, and ends one that hangs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at whether an input hangs.
const LOOK: Duration = Duration::from_millis(500);

/// Where the last panic was.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// From now on panics are noted and not printed: decoders catch some themselves.
pub(crate) fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = place.unwrap_or_default();
    }));
}

/// Where the last panic was that was noted.
pub(crate) fn last_panic() -> String {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The input at hand, seen by a thread beside.
pub(crate) struct Watch {
    folder: PathBuf,
    /// Its length, then its bytes: what a process that was killed leaves.
    current: Option<File>,
    running: Arc<Mutex<Running>>,
    began_with_bytes: u64,
}

#[derive(Default)]
struct Running {
    since: Option<Instant>,
    input: Vec<u8>,
    over: bool,
}

impl Watch {
    /// For a target; an input that takes longer than `limit` ends the process.
    pub(crate) fn start(target: &str, limit: Duration) -> Self {
        let folder = std::env::temp_dir().join("tarn-fuzz").join(target);
        let made = std::fs::create_dir_all(&folder).is_ok();
        // A file of its own for each process: tests run beside each other.
        let current = folder.join(format!("current-{}", std::process::id()));
        let current = if made { File::create(current).ok() } else { None };
        let running = Arc::new(Mutex::new(Running::default()));
        let (seen, place) = (Arc::clone(&running), folder.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                let running = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if running.over {
                    return;
                }
                if running.since.is_some_and(|since| since.elapsed() > limit) {
                    let path = place.join("hangs");
                    let _ = std::fs::write(&path, &running.input);
                    eprintln!("an input hangs: {}", path.display());
                    std::process::abort();
                }
            }
        });
        Self { folder, current, running, began_with_bytes: resident_bytes() }
    }

    pub(crate) fn begin(&self, input: &[u8]) {
        if let Some(file) = &self.current {
            let _ = file.write_all_at(&(input.len() as u64).to_le_bytes(), 0);
            let _ = file.write_all_at(input, 8);
        }
        let mut running = self.lock();
        running.input.clear();
        running.input.extend_from_slice(input);
        running.since = Some(Instant::now());
    }

    pub(crate) fn end(&self) {
        self.lock().since = None;
    }

    /// By how much the process is larger than at the beginning.
    pub(crate) fn grown_bytes(&self) -> u64 {
        resident_bytes().saturating_sub(self.began_with_bytes)
    }

    /// Writes an input beside the others that were found; where.
    pub(crate) fn save(&self, input: &[u8]) -> PathBuf {
        let path = self.folder.join(crate::name_of(input));
        let _ = std::fs::write(&path, input);
        path
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.lock().over = true;
        let _ = std::fs::remove_file(self.folder.join(format!("current-{}", std::process::id())));
    }
}

/// How long this thread has had a core; nothing where there is no /proc.
pub(crate) fn core_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The most memory that this process has had; 0 where there is no /proc.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
