//! The machine of a result, as far as the system tells.

/// Processor, cores and memory in one line.
pub(crate) fn describe() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let processor =
        value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_string());
    let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processor}, {cores} cores, {} GiB", kib.div_ceil(1 << 20))
}
