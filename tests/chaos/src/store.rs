//! The object store of a run: the harness's S3 server in a process of its own, which takes orders line by line.
//!
//! An order is `<trouble> <percent>`, or `well`. The rule: the orders and how they are read stand side by side.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tarn_harness::S3Server;
use tarn_harness::trouble::Trouble;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

use crate::Error;
use crate::schedule::Kind;

/// How much later a slow answer comes.
const SLOW: Duration = Duration::from_millis(700);
/// How long the server may take to listen.
const START: Duration = Duration::from_secs(30);

/// The running store; it ends when dropped.
#[derive(Debug)]
pub struct Store {
    address: SocketAddr,
    child: Child,
    orders: Mutex<ChildStdin>,
}

impl Store {
    /// Starts it, and waits until it listens.
    pub async fn start(address: SocketAddr, logs: &Path) -> Result<Self, Error> {
        let log = std::fs::File::create(logs.join("store.log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["store", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().ok_or("a pipe was asked for")?;
        let began = std::time::Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if began.elapsed() > START || child.try_wait()?.is_some() {
                return Err("the store does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { address, child, orders: Mutex::new(orders) })
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Lets a trouble strike so many percent of the requests.
    pub async fn trouble(&self, kind: Kind, percent: u64) -> Result<(), Error> {
        self.order(&format!("{kind} {percent}\n")).await
    }

    /// Ends all trouble.
    pub async fn heal(&self) -> Result<(), Error> {
        self.order("well\n").await
    }

    async fn order(&self, line: &str) -> Result<(), Error> {
        let mut orders = self.orders.lock().await;
        orders.write_all(line.as_bytes()).await?;
        Ok(orders.flush().await?)
    }
}

/// Serves at an address until standard input ends.
pub async fn serve(address: SocketAddr) -> Result<ExitCode, Error> {
    let server = S3Server::start_at(address).await;
    let troubles = server.troubles().clone();
    let read = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            troubles.set(read_order(&line));
            println!("{line}, {} struck so far", troubles.struck());
        }
    });
    read.await?;
    Ok(ExitCode::SUCCESS)
}

fn read_order(line: &str) -> Option<(Trouble, u64)> {
    let (kind, percent) = line.trim().split_once(' ')?;
    let trouble = match kind.parse().ok()? {
        Kind::StoreRefuses => Trouble::Refuse,
        Kind::StoreSlow => Trouble::Slow(SLOW),
        Kind::StoreSilent => Trouble::Silence,
        Kind::StoreCuts => Trouble::Cut,
        Kind::StoreResets => Trouble::Reset,
        _ => return None,
    };
    Some((trouble, percent.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_trouble_of_the_store_is_an_order() {
        for kind in Kind::value_variants().iter().filter(|kind| kind.is_of_store()) {
            assert!(read_order(&format!("{kind} 50\n")).is_some(), "{kind}");
        }
        assert_eq!(read_order("well\n"), None);
    }
}
