//! Keys to storage on their way to executors.
//!
//! Catalogs vend keys with their tables; executors read the files. Before a query runs elsewhere, and
//! whenever a key was renewed, each executor gets all of them in one message of the control service; one
//! that joins gets no work before it has them. The rule: a key goes nowhere else, in no plan and in no log.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tarn_runtime::control::messages::CredentialsRequest;
use tarn_runtime::control::{ControlClient, Failure};
use tarn_scan::storage::Credentials;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Member, Members};

/// What executors have, and what they are to get. A cheap handle.
#[derive(Clone)]
pub struct Deliveries {
    inner: Arc<Inner>,
}

struct Inner {
    credentials: Credentials,
    members: Members,
    /// Another one with each start, as versions begin anew.
    scheduler: String,
    /// The version that each member has, and the way to it. Held for short reads and writes.
    delivered: Mutex<HashMap<String, (u64, ControlClient)>>,
}

impl Deliveries {
    /// Nothing was delivered yet.
    pub fn new(credentials: Credentials, members: Members) -> Self {
        let scheduler = Uuid::now_v7().simple().to_string();
        let versions = credentials.subscribe();
        members.hold_newcomers(move || *versions.borrow() > 0);
        let inner = Inner { credentials, members, scheduler, delivered: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Returns when every executor that takes work has every key. One that cannot be reached gets no new work
    /// until it has them.
    pub async fn complete(&self) {
        let Inner { credentials, members, scheduler, delivered } = self.inner.as_ref();
        let version = *credentials.subscribe().borrow();
        if version == 0 {
            return;
        }
        // Who joins from here on is held, so nobody is missed.
        let known = [members.alive(), members.held()].concat();
        let (has, due): (Vec<Member>, Vec<Member>) = {
            let mut delivered = delivered.lock();
            delivered.retain(|id, _| members.get(id).is_some());
            let has = |member: &Member| delivered.get(&member.id).is_some_and(|(has, _)| *has >= version);
            known.into_iter().partition(has)
        };
        has.iter().for_each(|member| members.release(&member.id));
        if due.is_empty() {
            return;
        }
        let (version, exported) = credentials.export();
        let request = CredentialsRequest { scheduler: scheduler.clone(), version, exported };
        let deliver = due.iter().map(|member| async {
            match self.deliver(member, request.clone()).await {
                Ok(()) => members.release(&member.id),
                Err(failure) => {
                    tracing::warn!(executor = member.id, %failure, "keys to storage were not delivered");
                    // A sign of life alone does not bring it back: the keys are still missing.
                    members.hold(&member.id);
                    members.suspect(&member.id);
                }
            }
        });
        futures::future::join_all(deliver).await;
    }

    /// Delivers what changes, to whoever comes, until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        let mut versions = self.inner.credentials.subscribe();
        let mut held = self.inner.members.subscribe_held();
        loop {
            // Seen before it is acted on: what changes meanwhile is another change.
            versions.borrow_and_update();
            held.borrow_and_update();
            self.complete().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = versions.changed() => if changed.is_err() { return },
                changed = held.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn deliver(&self, member: &Member, request: CredentialsRequest) -> Result<(), Failure> {
        let known = self.inner.delivered.lock().get(&member.id).map(|(_, client)| client.clone());
        let client = match known {
            Some(client) => client,
            None => ControlClient::connect(member.flight_url.as_str().trim_end_matches('/'))
                .await
                .map_err(|error| Failure::executor_lost(error.to_string()))?,
        };
        let version = request.version;
        client.deliver_credentials(request).await?;
        let mut delivered = self.inner.delivered.lock();
        let entry = delivered.entry(member.id.clone()).or_insert((0, client));
        entry.0 = entry.0.max(version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_trait::async_trait;
    use datafusion::execution::SendableRecordBatchStream;
    use tarn_runtime::control::messages::PingReply;
    use tarn_runtime::control::{ControlServer, Run, Runner};
    use tarn_scan::storage::{Credential, Secret};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::task::JoinSet;
    use tokio_stream::wrappers::TcpListenerStream;
    use url::Url;

    use super::*;
    use crate::cluster::State;

    #[tokio::test]
    async fn executors_get_every_key_before_they_work_and_each_that_is_renewed() {
        let (executor, url, _server) = serve().await;
        let (credentials, members) = (Credentials::default(), Members::new(Default::default()));
        members.join(member(url));
        let deliveries = Deliveries::new(credentials.clone(), members.clone());
        deliveries.complete().await;
        assert_eq!(executor.calls(), 0, "there is nothing to deliver");
        credentials.put("lake/s/t", vec![key("one")]);
        deliveries.complete().await;
        deliveries.complete().await;
        assert_eq!((executor.calls(), executor.key()), (1, "one".to_string()));
        let stop = CancellationToken::new();
        let mut seen = executor.seen.subscribe();
        let mut watching = JoinSet::new();
        watching.spawn(deliveries.clone().watch(stop.clone()));
        credentials.put("lake/s/t", vec![key("two")]);
        seen.wait_for(|calls| *calls == 2).await.unwrap();
        assert_eq!(executor.key(), "two");
        stop.cancel();
        watching.join_all().await;
    }

    #[tokio::test]
    async fn executor_that_cannot_get_keys_gets_no_work() {
        let (credentials, members) = (Credentials::default(), Members::new(Default::default()));
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        members.join(member(Url::parse(&format!("http://{gone}")).unwrap()));
        credentials.put("lake/s/t", vec![key("one")]);
        let deliveries = Deliveries::new(credentials, members.clone());
        deliveries.complete().await;
        assert!(members.alive().is_empty());
        // Nor when it shows that it lives, for it still lacks them.
        members.heard("a", false, Default::default());
        assert!(members.alive().is_empty());
    }

    #[tokio::test]
    async fn executor_that_joins_has_the_keys_before_it_gets_work() {
        let (executor, url, _server) = serve().await;
        let (credentials, members) = (Credentials::default(), Members::new(Default::default()));
        let deliveries = Deliveries::new(credentials.clone(), members.clone());
        credentials.put("lake/s/t", vec![key("one")]);
        deliveries.complete().await;
        // Between the delivery and the choice of workers.
        members.join(member(url));
        assert!(members.alive().is_empty(), "it would be refused by the store");
        let (stop, mut alive) = (CancellationToken::new(), members.subscribe());
        let mut watching = JoinSet::new();
        watching.spawn(deliveries.watch(stop.clone()));
        alive.wait_for(|alive| alive.len() == 1).await.unwrap();
        assert_eq!(executor.key(), "one");
        stop.cancel();
        watching.join_all().await;
    }

    /// An executor's control service, its address, and what keeps it running.
    async fn serve() -> (Arc<Executor>, Url, JoinSet<()>) {
        let (executor, address) =
            (Arc::new(Executor::default()), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = Url::parse(&format!("http://{}", address.local_addr().unwrap())).unwrap();
        let control =
            ControlServer::new(Arc::<Executor>::clone(&executor), tokio::runtime::Handle::current());
        let server = tonic::transport::Server::builder().add_service(control);
        let mut tasks = JoinSet::new();
        tasks
            .spawn(async move { server.serve_with_incoming(TcpListenerStream::new(address)).await.unwrap() });
        (executor, url, tasks)
    }

    #[derive(Default)]
    struct Executor {
        credentials: Credentials,
        seen: watch::Sender<usize>,
    }

    impl Executor {
        fn calls(&self) -> usize {
            *self.seen.borrow()
        }

        /// What it would sign with.
        fn key(&self) -> String {
            let found = self.credentials.for_uri("s3://b/t/f").unwrap();
            found.property("s3.access-key-id").unwrap().to_string()
        }
    }

    #[async_trait]
    impl Runner for Executor {
        async fn run(&self, _: Run) -> Result<SendableRecordBatchStream, Failure> {
            unreachable!("nothing is run")
        }

        async fn take_credentials(&self, request: CredentialsRequest) -> Result<(), Failure> {
            assert!(!format!("{request:?}").contains("one"), "a message shows no key");
            self.credentials.replace(&request.scheduler, request.version, &request.exported).unwrap();
            self.seen.send_modify(|calls| *calls += 1);
            Ok(())
        }

        async fn cancel(&self, _: &str) -> bool {
            false
        }

        async fn drain(&self) {}

        async fn ping(&self) -> PingReply {
            PingReply::default()
        }
    }

    fn key(key: &str) -> Credential {
        let properties = BTreeMap::from([("s3.access-key-id".to_string(), Secret::new(key))]);
        Credential { prefix: "s3://b/t".to_string(), properties }
    }

    fn member(flight_url: Url) -> Member {
        Member {
            id: "a".to_string(),
            host: "127.0.0.1".to_string(),
            flight_url,
            task_addr: ("127.0.0.1".to_string(), 1),
            http: None,
            cores: 1,
            memory_bytes: 1,
            version: String::new(),
            state: State::Alive,
        }
    }
}
