//! How an executor finds its schedulers and stays known to them.
//!
//! One loop a scheduler: register, give signs of life, and begin again when the scheduler has gone, or does
//! not know us any more because it restarted. The first scheduler that answers tells the storage settings, and gives
//! staged work; of its jobs' files it says which nobody needs any more.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tarn_runtime::Runtime;
use tarn_runtime::control::messages::{HeartbeatRequest, RegisterReply, RegisterRequest};
use tarn_runtime::control::{Failure, MembershipClient};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::staged::JobFiles;

/// Waits between attempts to reach a scheduler: doubled from one to the other.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Signs of life that may stay without answer before the connection is given up.
const BEATS_UNANSWERED: u32 = 3;

/// What a scheduler said when it took the executor in.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    /// The scheduler, as the executor reaches it.
    pub(crate) scheduler: String,
    /// What it said.
    pub(crate) reply: RegisterReply,
}

/// What every scheduler is told about this executor.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    /// How it introduces itself.
    pub(crate) request: RegisterRequest,
    /// Whether it drains; a change is told at once.
    pub(crate) draining: watch::Receiver<bool>,
    /// The runtime, once there is one, for its load.
    pub(crate) runtime: watch::Receiver<Option<Runtime>>,
    /// The first admission is left here.
    pub(crate) admission: Arc<watch::Sender<Option<Admission>>>,
    /// The files of one scheduler's jobs, once there is a folder for them.
    pub(crate) files: watch::Receiver<Option<JobFiles>>,
}

impl Membership {
    /// Stays a member of one scheduler's cluster until `shutdown`, and then leaves it.
    pub(crate) async fn keep(self, scheduler: String, shutdown: CancellationToken) {
        let mut pause = PAUSE_MIN;
        loop {
            let lost = tokio::select! {
                () = shutdown.cancelled() => return,
                joined = self.join(&scheduler) => match joined {
                    Ok((client, reply)) => {
                        pause = PAUSE_MIN;
                        match self.live(&scheduler, &client, &reply, &shutdown).await {
                            Some(reason) => reason,
                            None => return self.leave(&client).await,
                        }
                    }
                    Err(reason) => reason,
                },
            };
            // One that ends, or starts again, is gone for a moment: said from the second try on.
            if pause > PAUSE_MIN {
                tracing::warn!(
                    executor = self.request.id,
                    reason = lost,
                    "cannot reach scheduler {scheduler}, trying again in {:.1} s",
                    pause.as_secs_f64()
                );
            }
            // Spread, so that executors do not come back all at once.
            let spread = pause.mul_f64(rand::rng().random_range(0.8..1.2));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(spread) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    async fn join(&self, scheduler: &str) -> Result<(MembershipClient, RegisterReply), String> {
        let client = MembershipClient::connect(scheduler).await.map_err(|error| error.to_string())?;
        let reply = client.register(self.request.clone()).await.map_err(|failure| failure.to_string())?;
        tracing::info!(executor = self.request.id, scheduler, "joined the cluster");
        let admission = Admission { scheduler: scheduler.to_string(), reply: reply.clone() };
        self.admission.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(admission);
            }
            first
        });
        Ok((client, reply))
    }

    /// Signs of life, until the executor stops (`None`) or the scheduler is lost.
    async fn live(
        &self,
        scheduler: &str,
        client: &MembershipClient,
        reply: &RegisterReply,
        shutdown: &CancellationToken,
    ) -> Option<String> {
        let interval = Duration::from_millis(reply.heartbeat_ms.max(10));
        let mut draining = self.draining.clone();
        // Files are removed beside the signs of life: a disk may take its time.
        let mut removals = JoinSet::new();
        loop {
            let files = self.files.borrow().clone().filter(|files| files.scheduler() == scheduler);
            let jobs = match &files {
                Some(files) if removals.is_empty() => files.jobs().await,
                _ => Vec::new(),
            };
            let beat = client.heartbeat(self.beat(jobs.clone()));
            let answer = tokio::time::timeout(interval * BEATS_UNANSWERED, beat).await;
            match answer {
                Ok(Ok(reply)) if reply.known => {
                    if let Some(files) = files.filter(|_| !reply.jobs_over.is_empty()) {
                        removals.spawn(async move { files.remove(&jobs, &reply.jobs_over).await });
                    }
                }
                Ok(Ok(_)) => match client.register(self.request.clone()).await {
                    Ok(_) => tracing::info!(executor = self.request.id, "joined the cluster again"),
                    Err(failure) => return Some(failure.to_string()),
                },
                Ok(Err(failure)) => return Some(failure.to_string()),
                Err(_) => return Some(Failure::executor_lost("no answer in time").to_string()),
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(interval) => while removals.try_join_next().is_some() {},
                changed = draining.changed() => if changed.is_err() { return None },
            }
        }
    }

    fn beat(&self, jobs: Vec<String>) -> HeartbeatRequest {
        let runtime = self.runtime.borrow().clone();
        HeartbeatRequest {
            id: self.request.id.clone(),
            draining: *self.draining.borrow(),
            queries_active: runtime.as_ref().map_or(0, |runtime| runtime.queries().active().len() as u32),
            memory_used_bytes: runtime.as_ref().map_or(0, |runtime| runtime.memory().used() as u64),
            runs: runtime.map_or_else(Vec::new, |runtime| runtime.queries().stats()),
            jobs,
        }
    }

    async fn leave(&self, client: &MembershipClient) {
        // The scheduler may have gone before us; it notices our silence otherwise.
        if let Err(failure) = client.leave(&self.request.id).await {
            tracing::debug!(%failure, "the scheduler was not told of the end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tarn_runtime::control::messages::HeartbeatReply;
    use tarn_runtime::control::{Membership as Service, MembershipServer};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::TcpListenerStream;

    #[tokio::test]
    async fn executor_waits_for_its_scheduler_and_comes_back_to_one_that_forgot_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (stop, admission) = (CancellationToken::new(), Arc::new(watch::Sender::new(None)));
        let mut admitted = admission.subscribe();
        let (_drain, draining) = watch::channel(false);
        let membership = Membership {
            request: RegisterRequest { id: "a".into(), ..Default::default() },
            draining,
            runtime: watch::channel(None).1,
            admission,
            files: watch::channel(None).1,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(membership.keep(address.to_string(), stop.clone()));
        tokio::task::yield_now().await;
        // The scheduler comes after the executor.
        let (calls, mut seen) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk { calls, forget: Mutex::new(true) });
        let server = tonic::transport::Server::builder().add_service(MembershipServer::new(desk));
        let listener = TcpListener::bind(address).await.unwrap();
        let mut servers = JoinSet::new();
        servers.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        admitted.wait_for(Option::is_some).await.unwrap();
        for expected in ["register", "heartbeat", "register", "heartbeat"] {
            assert_eq!(seen.recv().await, Some(expected));
        }
        stop.cancel();
        while let Some(call) = seen.recv().await {
            if call == "leave" {
                break;
            }
        }
        tasks.join_all().await;
    }

    struct Desk {
        calls: mpsc::UnboundedSender<&'static str>,
        forget: Mutex<bool>,
    }

    #[async_trait]
    impl Service for Desk {
        async fn register(&self, _: RegisterRequest) -> Result<RegisterReply, Failure> {
            let _ = self.calls.send("register");
            Ok(RegisterReply { heartbeat_ms: 20, ..Default::default() })
        }

        async fn heartbeat(&self, _: HeartbeatRequest) -> Result<HeartbeatReply, Failure> {
            let _ = self.calls.send("heartbeat");
            Ok(HeartbeatReply { known: !std::mem::take(&mut *self.forget.lock()), ..Default::default() })
        }

        async fn leave(&self, _: String) -> Result<(), Failure> {
            let _ = self.calls.send("leave");
            Ok(())
        }
    }
}
