//! How much memory this process may plan with.
//!
//! The control group's limit counts before the host's memory: in a container the host is not ours.

use std::path::Path;

/// Share of the memory that plans may use; the rest is for buffers, caches and the allocator.
const PLAN_SHARE_PERCENT: u64 = 60;
/// Planned with when neither the control group nor the host tells.
const MEMORY_BYTES_UNKNOWN: u64 = 4 << 30;

/// Bytes for the memory pool when the configuration leaves it open.
pub(crate) fn pool_bytes_default() -> u64 {
    let host = host_bytes();
    let group = group_bytes(Path::new("/sys/fs/cgroup"));
    let total = match (host, group) {
        (Some(host), Some(group)) => host.min(group),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => MEMORY_BYTES_UNKNOWN,
    };
    total / 100 * PLAN_SHARE_PERCENT
}

fn host_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The limit of the control group, version 2 or 1; none if it is unlimited.
fn group_bytes(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("memory.max"))
        .or_else(|_| std::fs::read_to_string(root.join("memory/memory.limit_in_bytes")))
        .ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_more_than_nothing_and_less_than_the_host() {
        let bytes = pool_bytes_default();
        assert!(bytes > 64 << 20);
        assert!(host_bytes().is_none_or(|host| bytes < host));
    }
}
