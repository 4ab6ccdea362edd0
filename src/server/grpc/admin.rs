//! `catga.system.v1.AdminService`.

use std::time::Duration;

use futures_util::stream;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{log_level, reply, streams::Replies};
use crate::{
    application::{
        AppError,
        dead_letters::{After, Which},
        event_streams::EventStreamPermit,
        requests::{self, Field, FieldPath, Violations},
    },
    ports::message_bus::DeadLetter,
    processors::projections::{Phase, RebuildState},
    proto::catga::system::v1::{self as pb, admin_service_server::AdminService},
    server::{ApiState, MAX_DEAD_LETTERS_PER_CALL, error::ApiError},
    settings::{EffectiveSetting, Source},
};

/// The interval between progress messages of a rebuild.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// The AdminService.
#[derive(Debug)]
pub struct Admin {
    api: ApiState,
}

impl Admin {
    /// The service for the node of `api`.
    #[must_use]
    pub const fn new(api: ApiState) -> Self {
        Self { api }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        let pb::ListDeadLettersRequest { handler, page_size, page_token } = request.into_inner();
        let mut violations = Violations::default();
        let max = requests::page_size(&mut violations, page_size.into());
        let after = page_after(&mut violations, &page_token);
        let after = violations.finish(after).map_err(ApiError::from)?;
        let page = self.api.dead_letters.list(&handler, after, max).await.map_err(ApiError::from)?;
        let shown = after.map_or(0, |after| after.shown) + page.letters.len();
        let last = page.letters.last().filter(|_| page.has_more);
        Ok(reply(pb::ListDeadLettersResponse {
            next_page_token: last.map(|last| After::letter(shown, last).page_token()).unwrap_or_default(),
            dead_letters: page.letters.into_iter().map(to_proto).collect(),
        }))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<pb::ReplayDeadLettersRequest>,
    ) -> Result<Response<pb::ReplayDeadLettersResponse>, Status> {
        let pb::ReplayDeadLettersRequest { handler, event_ids, all } = request.into_inner();
        let which = which(&event_ids, all).map_err(ApiError::from)?;
        let replayed = self.api.dead_letters.replay(&handler, which).await.map_err(ApiError::from)?;
        tracing::info!(handler, replayed, "replayed dead letters");
        Ok(reply(pb::ReplayDeadLettersResponse { replayed: count(replayed) }))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<pb::DiscardDeadLettersRequest>,
    ) -> Result<Response<pb::DiscardDeadLettersResponse>, Status> {
        let pb::DiscardDeadLettersRequest { handler, event_ids, all } = request.into_inner();
        let which = which(&event_ids, all).map_err(ApiError::from)?;
        let discarded = self.api.dead_letters.discard(&handler, which).await.map_err(ApiError::from)?;
        tracing::info!(handler, discarded, "discarded dead letters");
        Ok(reply(pb::DiscardDeadLettersResponse { discarded: count(discarded) }))
    }

    async fn get_configuration(
        &self,
        _request: Request<pb::GetConfigurationRequest>,
    ) -> Result<Response<pb::GetConfigurationResponse>, Status> {
        let settings = self.api.info.configuration.iter().map(setting_to_proto).collect();
        Ok(reply(pb::GetConfigurationResponse { settings }))
    }

    type RebuildProjectionsStream = Replies<pb::RebuildProjectionsResponse>;

    async fn rebuild_projections(
        &self,
        request: Request<pb::RebuildProjectionsRequest>,
    ) -> Result<Response<Self::RebuildProjectionsStream>, Status> {
        // During shutdown no worker remains to run the rebuild.
        if self.api.draining.is_cancelled() {
            return Err(ApiError::from(AppError::ShuttingDown).to_status());
        }
        let permit = self.api.streams_of(request.extensions()).acquire().map_err(ApiError::from)?;
        if let Some(wait) = self.api.rebuilds.wait() {
            return Err(ApiError::rebuild_too_soon(wait).to_status());
        }
        let (state, has_begun) = self.api.rebuilds.start();
        let told =
            RebuildProgressStream { state, joined: !has_begun, draining: self.api.draining.clone(), _permit: permit };
        Ok(Response::new(told.replies()))
    }

    async fn get_log_level(
        &self,
        _request: Request<pb::GetLogLevelRequest>,
    ) -> Result<Response<pb::GetLogLevelResponse>, Status> {
        let level = log_level::get(self.api.logs.as_ref())?;
        Ok(reply(pb::GetLogLevelResponse { log_level: Some(level) }))
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<pb::SetLogLevelResponse>, Status> {
        let level = log_level::set(self.api.logs.as_ref(), request.get_ref())?;
        Ok(reply(pb::SetLogLevelResponse { log_level: Some(level) }))
    }
}

/// A client that follows the progress of a rebuild.
struct RebuildProgressStream {
    state: watch::Receiver<RebuildState>,
    joined: bool,
    draining: CancellationToken,
    _permit: EventStreamPermit,
}

impl RebuildProgressStream {
    fn replies(mut self) -> Replies<pb::RebuildProjectionsResponse> {
        let number = self.state.borrow_and_update().number;
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Box::pin(stream::unfold(Some((self, ticks)), move |told| async move {
            let (mut told, mut ticks) = told?;
            tokio::select! {
                _ = ticks.tick() => {}
                // Ready immediately at the end of the rebuild.
                _ = told.state.wait_for(|state| state.number != number || !state.is_going_on()) => {}
                () = told.draining.cancelled() => {
                    return Some((Err(ApiError::from(AppError::ShuttingDown).to_status()), None));
                }
            }
            let state = told.state.borrow().clone();
            let phase = match &state.phase {
                // The next rebuild has begun, so this one has ended; its outcome is in the log of the node.
                _ if state.number != number => pb::RebuildPhase::Unspecified,
                Phase::None => pb::RebuildPhase::Unspecified,
                Phase::Reading => pb::RebuildPhase::Reading,
                Phase::Indexing => pb::RebuildPhase::Indexing,
                Phase::Done => pb::RebuildPhase::Done,
                Phase::Failed(why) => {
                    let failed =
                        AppError::unavailable(format!("the rebuild failed; the old read model stays in use: {why}"));
                    return Some((Err(ApiError::from(failed).to_status()), None));
                }
            };
            let response = rebuild_to_proto(&state, phase, told.joined);
            Some((Ok(response), state.is_going_on().then_some((told, ticks))))
        }))
    }
}

fn rebuild_to_proto(state: &RebuildState, phase: pb::RebuildPhase, joined: bool) -> pb::RebuildProjectionsResponse {
    let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
    pb::RebuildProjectionsResponse {
        phase: phase.into(),
        events: number(state.progress.events),
        total_events: number(state.progress.total),
        events_per_second: state.progress.events_per_second(),
        remaining: state.progress.remaining().and_then(|remaining| remaining.try_into().ok()),
        joined,
    }
}

fn setting_to_proto(setting: &EffectiveSetting) -> pb::Setting {
    let EffectiveSetting { key, group, value, source } = setting;
    pb::Setting {
        name: (*key).to_owned(),
        section: (*group).to_owned(),
        value: value.clone().unwrap_or_default(),
        source: source.to_string(),
        is_default: *source == Source::Default,
    }
}

fn count(letters: usize) -> i32 {
    i32::try_from(letters).unwrap_or(i32::MAX)
}

fn which(event_ids: &[String], all: bool) -> Result<Which, Violations> {
    let mut violations = Violations::default();
    match (event_ids.len(), all) {
        (0, true) => return Ok(Which::All),
        (0, false) => violations.add(Field::EventIds, "must name at least one event, or all must be true"),
        (_, true) => violations.add(Field::All, "must not be true when events are named"),
        (1..=MAX_DEAD_LETTERS_PER_CALL, false) => {}
        _ => violations.add(Field::EventIds, format_args!("must name at most {MAX_DEAD_LETTERS_PER_CALL} events")),
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let mut events = Vec::with_capacity(event_ids.len());
    for (index, text) in event_ids.iter().enumerate() {
        match text.parse() {
            Ok(event) => events.push(event),
            Err(rule) => violations.add(FieldPath::Element(Field::EventIds, index), rule),
        }
    }
    violations.finish(Some(Which::Events(events)))
}

/// The last letter of the previous page; `Some(None)`: the list starts here.
#[allow(clippy::option_option, reason = "wrong, left out and given are three things")]
fn page_after(violations: &mut Violations, token: &str) -> Option<Option<After>> {
    if token.is_empty() {
        return Some(None);
    }
    let after = After::of_page_token(token);
    if after.is_none() {
        violations.add(Field::PageToken, "was not issued by this service");
    }
    after.map(Some)
}

fn to_proto(letter: DeadLetter) -> pb::DeadLetter {
    let DeadLetter { message, reason, attempts, at } = letter;
    pb::DeadLetter {
        event_id: message.event_id().to_string(),
        order_id: message.key.to_string(),
        revision: i64::try_from(message.sequence).unwrap_or(i64::MAX),
        r#type: message.kind.into_owned(),
        attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
        dead_lettered_at: Some(at.into()),
        reason,
    }
}
