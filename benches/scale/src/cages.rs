//! Cgroups (version 1): a quarter of a core for each executor, one core for all of them, the others for the rest.
//!
//! ```text
//!   cpu/…/tarn-scale-PID-executor-I    10 ms of every 40 ms
//!   cpuset/…/tarn-scale-PID-executors  the first core that this process may use
//!   cpuset/…/tarn-scale-PID-others     the other cores: this process, and so the store, clients and scheduler
//! ```
//!
//! The period is shorter than the usual 100 ms, so that a wait for the next one is not what is measured. The rule:
//! dropping gives this process its cores back and removes the cgroups; what a killed run left is removed by the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;

const MOUNT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "tarn-scale-";
/// Microseconds of processor time that an executor has in each period.
pub const QUOTA_US: u64 = 10_000;
/// Microseconds of a period.
pub const PERIOD_US: u64 = 40_000;
/// How long processes that were killed may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);

/// The cgroups; they end when dropped, so after the processes in them.
pub struct Cages {
    executors: Vec<PathBuf>,
    executors_cores: PathBuf,
    /// Where this process was.
    home: PathBuf,
    made: Vec<PathBuf>,
}

impl Cages {
    /// Makes cgroups for so many executors, and moves this process to the cores that are not theirs.
    pub fn new(executors: usize) -> Result<Self, Error> {
        let (cpu, cpuset) = (own("cpu")?, own("cpuset")?);
        [&cpu, &cpuset].into_iter().for_each(|parent| remove_leftovers(parent));
        let cores = cores()?;
        let (first, others) = cores.split_first().ok_or("no core is known")?;
        if others.is_empty() {
            return Err("executors and the rest need two cores".into());
        }
        let others: Vec<_> = others.iter().map(usize::to_string).collect();
        let name = |what: &str| format!("{PREFIX}{}-{what}", std::process::id());
        // From here on what was made is removed also upon an error.
        let mut cages = Self {
            executors: Vec::new(),
            executors_cores: cpuset.join(name("executors")),
            home: cpuset.clone(),
            made: Vec::new(),
        };
        for executor in 0..executors {
            let group = cpu.join(name(&format!("executor-{executor}")));
            cages.make(&group)?;
            write(&group.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
            write(&group.join("cpu.cfs_quota_us"), &QUOTA_US.to_string())?;
            cages.executors.push(group);
        }
        let rest = cpuset.join(name("others"));
        let nodes = read(&cpuset.join("cpuset.mems"))?;
        for (group, cores) in
            [(cages.executors_cores.clone(), first.to_string()), (rest.clone(), others.join(","))]
        {
            cages.make(&group)?;
            write(&group.join("cpuset.mems"), &nodes)?;
            write(&group.join("cpuset.cpus"), &cores)?;
        }
        enter(&rest)?;
        Ok(cages)
    }

    /// The cgroups that an executor belongs to.
    pub fn of(&self, executor: usize) -> [&Path; 2] {
        [&self.executors[executor], &self.executors_cores]
    }

    fn make(&mut self, group: &Path) -> Result<(), Error> {
        fs::create_dir(group)
            .map_err(|error| format!("cgroup {} cannot be made: {error}", group.display()))?;
        self.made.push(group.to_path_buf());
        Ok(())
    }
}

impl Drop for Cages {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.home) {
            eprintln!("this process keeps fewer cores: {error}");
        }
        let began = Instant::now();
        for group in &self.made {
            // Executors that were killed a moment ago may still be ending.
            while let Err(error) = fs::remove_dir(group) {
                if began.elapsed() > GONE_MAX {
                    eprintln!("cgroup {} is left behind: {error}", group.display());
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// This process's cgroup of a controller.
fn own(controller: &str) -> Result<PathBuf, Error> {
    let mount = Path::new(MOUNT).join(controller);
    if !mount.join("cgroup.procs").exists() {
        return Err(format!("there is no cgroup (version 1) at {}", mount.display()).into());
    }
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let path = groups.lines().find_map(|line| path_in(line, controller)).unwrap_or_default();
    let group = mount.join(path);
    // In a container the path may be one of the host.
    Ok(if group.exists() { group } else { mount })
}

/// The path of a line such as `4:cpu,cpuacct:/a/b`, if it is of the controller.
fn path_in<'a>(line: &'a str, controller: &str) -> Option<&'a str> {
    let mut parts = line.splitn(3, ':').skip(1);
    let mut controllers = parts.next()?.split(',');
    let path = parts.next()?;
    controllers.any(|name| name == controller).then(|| path.trim_start_matches('/'))
}

/// The cores that this process may use.
fn cores() -> Result<Vec<usize>, Error> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_cores(list.ok_or("no Cpus_allowed_list")?.trim())
}

/// The numbers of a list such as `0-2,5`.
fn parse_cores(list: &str) -> Result<Vec<usize>, Error> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(first.parse::<usize>()?..=last.parse::<usize>()?),
            None => cores.push(part.parse()?),
        }
    }
    Ok(cores)
}

/// Moves this process, all its threads, into a cgroup.
fn enter(group: &Path) -> Result<(), Error> {
    write(&group.join("cgroup.procs"), &std::process::id().to_string())
}

fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if id.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // One with processes in it cannot be removed, and stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_string())
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value)
        .map_err(|error| format!("{value} cannot be written to {}: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_cores("0-2,5").unwrap(), [0, 1, 2, 5]);
        assert_eq!(parse_cores("3").unwrap(), [3]);
        assert!(parse_cores("").is_err());
    }

    #[test]
    fn a_controller_is_found_among_others_of_its_mount() {
        assert_eq!(path_in("4:cpu,cpuacct:/a/b", "cpu"), Some("a/b"));
        assert_eq!(path_in("3:cpuset:/", "cpu"), None);
        assert_eq!(path_in("0::/x", "cpu"), None);
    }
}
