//! The one part of Ballista's scheduler service that leaves this process.
//!
//! Executors register, send heartbeats and report tasks. Everything else of that service
//! (running any plan that somebody sends, sessions, cancelling) is closed: queries come in
//! by our front door only.

use std::pin::Pin;

use ballista_core::serde::protobuf::scheduler_grpc_server::{SchedulerGrpc, SchedulerGrpcServer};
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecutorRegistration,
    ExecutorStoppedParams, ExecutorStoppedResult, GetJobMetricsParams, GetJobMetricsResult,
    GetJobStatusParams, GetJobStatusResult, HeartBeatParams, HeartBeatResult, PollWorkParams, PollWorkResult,
    RegisterExecutorParams, RegisterExecutorResult, RemoveSessionParams, RemoveSessionResult,
    UpdateTaskStatusParams, UpdateTaskStatusResult,
};
use futures::Stream;
use tonic::{Request, Response, Status, async_trait};

use super::Server;
use super::settings::MESSAGE_BYTES_MAX;

/// The service for executors, to be mounted on the cluster's listener.
pub type Service = SchedulerGrpcServer<Door>;

/// Lets executors in and nobody else.
#[derive(Clone)]
pub struct Door {
    server: Server,
}

impl Door {
    pub(super) fn service(server: Server) -> Service {
        SchedulerGrpcServer::new(Self { server })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[async_trait]
impl SchedulerGrpc for Door {
    type ExecuteQueryPushStream = Pin<Box<dyn Stream<Item = Result<GetJobStatusResult, Status>> + Send>>;

    async fn register_executor(
        &self,
        request: Request<RegisterExecutorParams>,
    ) -> Result<Response<RegisterExecutorResult>, Status> {
        check(request.get_ref().metadata.as_ref())?;
        self.server.register_executor(request).await
    }

    async fn heart_beat_from_executor(
        &self,
        request: Request<HeartBeatParams>,
    ) -> Result<Response<HeartBeatResult>, Status> {
        check(request.get_ref().metadata.as_ref())?;
        self.server.heart_beat_from_executor(request).await
    }

    async fn update_task_status(
        &self,
        request: Request<UpdateTaskStatusParams>,
    ) -> Result<Response<UpdateTaskStatusResult>, Status> {
        SchedulerGrpc::update_task_status(&self.server, request).await
    }

    async fn executor_stopped(
        &self,
        request: Request<ExecutorStoppedParams>,
    ) -> Result<Response<ExecutorStoppedResult>, Status> {
        self.server.executor_stopped(request).await
    }

    async fn poll_work(&self, _: Request<PollWorkParams>) -> Result<Response<PollWorkResult>, Status> {
        Err(closed())
    }

    async fn create_update_session(
        &self,
        _: Request<CreateUpdateSessionParams>,
    ) -> Result<Response<CreateUpdateSessionResult>, Status> {
        Err(closed())
    }

    async fn remove_session(
        &self,
        _: Request<RemoveSessionParams>,
    ) -> Result<Response<RemoveSessionResult>, Status> {
        Err(closed())
    }

    async fn execute_query_push(
        &self,
        _: Request<ExecuteQueryParams>,
    ) -> Result<Response<Self::ExecuteQueryPushStream>, Status> {
        Err(closed())
    }

    async fn execute_query(
        &self,
        _: Request<ExecuteQueryParams>,
    ) -> Result<Response<ExecuteQueryResult>, Status> {
        Err(closed())
    }

    async fn get_job_status(
        &self,
        _: Request<GetJobStatusParams>,
    ) -> Result<Response<GetJobStatusResult>, Status> {
        Err(closed())
    }

    async fn get_job_metrics(
        &self,
        _: Request<GetJobMetricsParams>,
    ) -> Result<Response<GetJobMetricsResult>, Status> {
        Err(closed())
    }

    async fn cancel_job(&self, _: Request<CancelJobParams>) -> Result<Response<CancelJobResult>, Status> {
        Err(closed())
    }

    async fn clean_job_data(
        &self,
        _: Request<CleanJobDataParams>,
    ) -> Result<Response<CleanJobDataResult>, Status> {
        Err(closed())
    }
}

/// Ballista takes these fields for granted and would panic without them.
fn check(registration: Option<&ExecutorRegistration>) -> Result<(), Status> {
    let complete = registration.is_some_and(|executor| {
        executor.host.is_some() && executor.specification.is_some() && executor.os_info.is_some()
    });
    if complete { Ok(()) } else { Err(Status::invalid_argument("the registration is incomplete")) }
}

fn closed() -> Status {
    Status::permission_denied("this service is for executors; queries come in by flight sql")
}
