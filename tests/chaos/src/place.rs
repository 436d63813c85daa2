//! The place of a run: addresses, a network for each executor that can be cut, and a disk for each that can be full.
//!
//! ```text
//!   bridge 10.77.0.1 (store, scheduler, clients) ── v0 ── p0 10.77.0.11 in namespace e0
//!                                                ── v1 ── p1 10.77.0.12 in namespace e1 …
//! ```
//!
//! Without namespaces of our own everything is on loopback, and the disks are folders. The rule: only inside
//! an enclosure is anything of the machine's network or mounts touched.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::process::Command;

use crate::Error;
use crate::enclosure::Inside;

/// Bytes of each executor's disk, in MiB.
const DISK_MIB: u64 = 96;
/// How long a command of the system may take.
const COMMAND: Duration = Duration::from_secs(10);
/// Below the ports that the system gives to outgoing connections.
const PORT_FIRST: u16 = 20_000;

/// Where everything is.
#[derive(Debug)]
pub struct Place {
    private: bool,
    folder: PathBuf,
    next_port: AtomicU16,
}

impl Place {
    /// Lays networks and disks.
    pub async fn open(inside: &Inside, executors: usize) -> Result<Self, Error> {
        let shift = if inside.private { 0 } else { (std::process::id() % 80) as u16 * 100 };
        let place = Self {
            private: inside.private,
            folder: inside.folder.clone(),
            next_port: AtomicU16::new(PORT_FIRST + shift),
        };
        for executor in 0..executors {
            std::fs::create_dir_all(place.disk(executor))?;
        }
        if place.private {
            place.lay(executors).await?;
        }
        Ok(place)
    }

    async fn lay(&self, executors: usize) -> Result<(), Error> {
        // Names of namespaces are files there, and must not be seen outside.
        system("mount -t tmpfs tmpfs /run").await?;
        system("ip link set lo up").await?;
        system("ip link add bridge0 type bridge forward_delay 0").await?;
        system(&format!("ip addr add {}/24 dev bridge0", self.host())).await?;
        system("ip link set bridge0 up").await?;
        for executor in 0..executors {
            let (address, disk) = (self.executor_host(executor), self.disk(executor));
            for command in [
                format!("ip netns add e{executor}"),
                format!("ip link add v{executor} type veth peer name p{executor}"),
                format!("ip link set p{executor} netns e{executor}"),
                format!("ip link set v{executor} master bridge0 up"),
                format!("ip -n e{executor} addr add {address}/24 dev p{executor}"),
                format!("ip -n e{executor} link set lo up"),
                format!("ip -n e{executor} link set p{executor} up"),
                format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs {}", disk.display()),
            ] {
                system(&command).await?;
            }
        }
        Ok(())
    }

    /// Whether networks can be cut, and disks be filled.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// The folder of the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address of all but the executors.
    pub fn host(&self) -> IpAddr {
        IpAddr::V4(if self.private { Ipv4Addr::new(10, 77, 0, 1) } else { Ipv4Addr::LOCALHOST })
    }

    /// The address of an executor.
    pub fn executor_host(&self, executor: usize) -> IpAddr {
        match self.private {
            true => IpAddr::V4(Ipv4Addr::new(10, 77, 0, 11 + executor as u8)),
            false => self.host(),
        }
    }

    /// The folder of an executor.
    pub fn disk(&self, executor: usize) -> PathBuf {
        self.folder.join(format!("disk-{executor}"))
    }

    /// A port that was never given before, and is free everywhere.
    pub fn port(&self) -> u16 {
        loop {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            let elsewhere = self.private.then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            if TcpListener::bind(elsewhere.unwrap_or(SocketAddr::new(self.host(), port))).is_ok() {
                return port;
            }
        }
    }

    /// A command in the network of an executor.
    pub fn command(&self, program: &Path, executor: Option<usize>) -> Command {
        match executor {
            Some(executor) if self.private => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/e{executor}")).arg("--").arg(program);
                command
            }
            _ => Command::new(program),
        }
    }

    /// Cuts the network of an executor, or mends it.
    pub async fn set_network(&self, executor: usize, up: bool) -> Result<(), Error> {
        system(&format!("ip link set v{executor} {}", if up { "up" } else { "down" })).await
    }
}

/// Runs a command of the system, whose words hold no spaces.
async fn system(line: &str) -> Result<(), Error> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND, command.output()).await;
    let output =
        output.map_err(|_| format!("{line}: no end"))?.map_err(|error| format!("{line}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()).into()),
    }
}
