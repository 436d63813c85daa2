//! The membership service: what executors call on the scheduler's cluster port.

use std::sync::Arc;

use async_trait::async_trait;
use tarn_runtime::control::messages::{HeartbeatReply, HeartbeatRequest, RegisterReply, RegisterRequest};
use tarn_runtime::control::{Failure, Membership, MembershipServer, code};
use url::Url;
use uuid::Uuid;

use super::{Load, Member, Members, State};

/// What every executor is told when it registers.
#[derive(Debug, Clone, Default)]
pub struct RegistrationSettings {
    /// Storage settings as JSON, without secrets.
    pub storage_json: String,
    /// `HOST:PORT` of the staged engine's scheduler; empty if there is none.
    pub staged_scheduler: String,
}

/// The staged engine's jobs, whose files executors keep.
pub trait Jobs: Send + Sync {
    /// Those of the jobs for whose files nobody will ask any more. Also those that were never heard of: their scheduler
    /// is gone.
    fn over(&self, jobs: Vec<String>) -> Vec<String>;
}

/// [`Members`] as a service.
pub struct Service {
    members: Members,
    settings: RegistrationSettings,
    jobs: Arc<dyn Jobs>,
    /// New with each start, so that executors notice a restart.
    scheduler_id: String,
}

impl Members {
    /// The service by which executors come, give signs of life and go. It must be reachable by executors
    /// and by nobody else.
    pub fn service(&self, settings: RegistrationSettings, jobs: Arc<dyn Jobs>) -> MembershipServer<Service> {
        MembershipServer::new(Arc::new(Service {
            members: self.clone(),
            settings,
            jobs,
            scheduler_id: Uuid::now_v7().simple().to_string(),
        }))
    }
}

#[async_trait]
impl Membership for Service {
    async fn register(&self, request: RegisterRequest) -> Result<RegisterReply, Failure> {
        self.members.join(member(request)?);
        Ok(RegisterReply {
            storage_json: self.settings.storage_json.clone(),
            staged_scheduler: self.settings.staged_scheduler.clone(),
            heartbeat_ms: self.members.config().heartbeat_ms,
            scheduler_id: self.scheduler_id.clone(),
        })
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatReply, Failure> {
        let load =
            Load { queries_active: request.queries_active, memory_used_bytes: request.memory_used_bytes };
        let known = self.members.heard(&request.id, request.draining, load);
        self.members.runs(&request.id, &request.runs);
        let jobs_over = if request.jobs.is_empty() { Vec::new() } else { self.jobs.over(request.jobs) };
        Ok(HeartbeatReply { known, jobs_over })
    }

    async fn leave(&self, id: String) -> Result<(), Failure> {
        self.members.leave(&id);
        Ok(())
    }
}

fn member(request: RegisterRequest) -> Result<Member, Failure> {
    let refuse = |what: &str| Failure::new(code::INVALID_ARGUMENT, format!("the executor's {what}"));
    if request.id.is_empty() || request.version != env!("CARGO_PKG_VERSION") {
        // Plans and messages of another version may mean something else.
        return Err(refuse(&format!(
            "version is \"{}\", this scheduler's \"{}\"",
            request.version,
            env!("CARGO_PKG_VERSION")
        )));
    }
    let port = |number: u32, what| u16::try_from(number).map_err(|_| refuse(what));
    let flight_port = port(request.flight_port, "port is not one")?;
    // Brackets around an IPv6 address, as URLs have it.
    let authority =
        if request.host.contains(':') { format!("[{}]", request.host) } else { request.host.clone() };
    let flight_url =
        Url::parse(&format!("http://{authority}:{flight_port}")).map_err(|_| refuse("host is not one"))?;
    let http_port = port(request.http_port, "HTTP port is not one")?;
    Ok(Member {
        task_addr: (request.host.clone(), port(request.task_port, "task port is not one")?),
        http: (http_port != 0).then(|| format!("{authority}:{http_port}")),
        id: request.id,
        host: request.host,
        flight_url,
        cores: request.cores.max(1) as usize,
        memory_bytes: request.memory_bytes,
        version: request.version,
        state: State::Alive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn executor_registers_lives_and_leaves() {
        let members = Members::new(Default::default());
        let settings = RegistrationSettings { storage_json: "{}".into(), staged_scheduler: "h:1".into() };
        let (jobs, scheduler_id) = (Arc::new(AllButOne), "s".into());
        let service = Service { members: members.clone(), settings, jobs, scheduler_id };
        let beat = |id: &str| HeartbeatRequest {
            id: id.into(),
            queries_active: 3,
            jobs: vec!["lives".into(), "ended".into()],
            ..Default::default()
        };
        let reply = service.heartbeat(beat("a")).await.unwrap();
        assert!(!reply.known);
        assert_eq!(reply.jobs_over, ["ended"]);
        let reply = service.register(request()).await.unwrap();
        assert_eq!((reply.storage_json.as_str(), reply.staged_scheduler.as_str()), ("{}", "h:1"));
        assert!(service.heartbeat(beat("a")).await.unwrap().known);
        assert_eq!(members.all()[0].1.queries_active, 3);
        assert_eq!(members.get("a").unwrap().flight_url.as_str(), "http://[::1]:7/");
        service.leave("a".into()).await.unwrap();
        assert!(members.all().is_empty());
    }

    #[tokio::test]
    async fn executor_of_another_version_is_refused() {
        assert!(member(RegisterRequest { version: "0.0.0".into(), ..request() }).is_err());
        assert!(member(RegisterRequest { flight_port: 70_000, ..request() }).is_err());
    }

    struct AllButOne;

    impl Jobs for AllButOne {
        fn over(&self, mut jobs: Vec<String>) -> Vec<String> {
            jobs.retain(|job| job != "lives");
            jobs
        }
    }

    fn request() -> RegisterRequest {
        RegisterRequest {
            id: "a".into(),
            host: "::1".into(),
            flight_port: 7,
            task_port: 8,
            cores: 2,
            version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        }
    }
}
