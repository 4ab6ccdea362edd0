//! `catga.ids.v1.IdService`.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status};

use super::{reply, streams::OneByOne};
use crate::{
    application::{
        AppError,
        ids::issued_at,
        requests::{self, Field, Violations},
    },
    codec::timestamp_to_proto,
    proto::catga::ids::v1::{self as pb, id_service_server::IdService},
    server::{ApiState, error::ApiError},
};

const DEFAULT_BATCH_SIZE: usize = 1_000;
const MAX_BATCH_SIZE: usize = 10_000;
const MAX_STREAMED_IDS: u64 = 1_000_000_000;

/// The IdService.
#[derive(Debug)]
pub struct Ids {
    api: ApiState,
}

impl Ids {
    /// Ids from the generator of `api`.
    #[must_use]
    pub const fn new(api: ApiState) -> Self {
        Self { api }
    }

    async fn generate(&self, count: usize) -> Result<Vec<i64>, ApiError> {
        Ok(self.api.mediator.generate_ids(count).await?)
    }

    fn refuse_when_draining(&self) -> Result<(), ApiError> {
        if self.api.draining.is_cancelled() { Err(AppError::ShuttingDown.into()) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl IdService for Ids {
    async fn generate_id(
        &self,
        _request: Request<pb::GenerateIdRequest>,
    ) -> Result<Response<pb::GenerateIdResponse>, Status> {
        let ids = self.generate(1).await?;
        let value = ids[0];
        Ok(reply(pb::GenerateIdResponse { id: value.to_string(), value }))
    }

    async fn generate_ids(
        &self,
        request: Request<pb::GenerateIdsRequest>,
    ) -> Result<Response<pb::GenerateIdsResponse>, Status> {
        let count =
            requests::id_count(Violations::default(), request.get_ref().count.into()).map_err(ApiError::from)?;
        Ok(reply(pb::GenerateIdsResponse { ids: self.generate(count).await? }))
    }

    type StreamIdsStream = Pin<Box<dyn Stream<Item = Result<pb::StreamIdsResponse, Status>> + Send>>;

    async fn stream_ids(
        &self,
        request: Request<pb::StreamIdsRequest>,
    ) -> Result<Response<Self::StreamIdsStream>, Status> {
        self.refuse_when_draining()?;
        let request = request.into_inner();
        let mut violations = Violations::default();
        let count = u64::try_from(request.count).ok().filter(|count| *count <= MAX_STREAMED_IDS);
        if count.is_none() {
            violations.add(Field::Count, format_args!("must be 0 to {MAX_STREAMED_IDS}"));
        }
        let batch_size = usize::try_from(request.batch_size).ok().filter(|size| *size <= MAX_BATCH_SIZE);
        if batch_size.is_none() {
            violations.add(Field::BatchSize, format_args!("must be 0 to {MAX_BATCH_SIZE}"));
        }
        let (count, batch_size) = violations.finish(count.zip(batch_size)).map_err(ApiError::from)?;
        let batch_size = if batch_size == 0 { DEFAULT_BATCH_SIZE } else { batch_size };
        let remaining = if count == 0 { u64::MAX } else { count };
        Ok(Response::new(stream_of(self.api.clone(), remaining, batch_size)))
    }

    async fn parse_id(&self, request: Request<pb::ParseIdRequest>) -> Result<Response<pb::ParseIdResponse>, Status> {
        let parts = requests::id_parts(Violations::default(), &request.get_ref().id).map_err(ApiError::from)?;
        Ok(reply(pb::ParseIdResponse {
            id: request.into_inner().id,
            issued_at: Some(timestamp_to_proto(issued_at(&parts))),
            datacenter_id: parts.datacenter_id.into(),
            worker_id: parts.worker_id.into(),
            sequence: parts.sequence.into(),
        }))
    }
}

fn stream_of(
    api: ApiState,
    remaining: u64,
    batch_size: usize,
) -> Pin<Box<dyn Stream<Item = Result<pb::StreamIdsResponse, Status>> + Send>> {
    Box::pin(OneByOne::new(stream::try_unfold((api, remaining), move |(api, remaining)| async move {
        if remaining == 0 {
            return Ok(None);
        }
        let count = batch_size.min(usize::try_from(remaining).unwrap_or(usize::MAX));
        let ids = api.mediator.generate_ids(count).await.map_err(ApiError::from)?;
        Ok(Some((pb::StreamIdsResponse { ids }, (api, remaining - count as u64))))
    })))
}
