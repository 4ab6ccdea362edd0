//! The log levels of `catga.system.v1.AdminService`.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    application::requests::{Field, Violations},
    proto::catga::system::v1 as pb,
    server::error::{ApiError, Reason},
    telemetry::logs::{InEffect, LogLevels},
};

/// The maximum size of a filter, in bytes.
const MAX_FILTER_BYTES: usize = 1_024;
/// The time for which a filter may be set.
const DURATION_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// The current filter of the log.
///
/// # Errors
/// `LOG_NOT_MANAGED`.
pub fn get(levels: Option<&LogLevels>) -> Result<pb::LogLevel, ApiError> {
    managed(levels).map(|levels| to_proto(levels.in_effect()))
}

/// Sets the filter of the log.
///
/// # Errors
/// `LOG_NOT_MANAGED`, `INVALID_ARGUMENT`.
pub fn set(levels: Option<&LogLevels>, request: &pb::SetLogLevelRequest) -> Result<pb::LogLevel, ApiError> {
    let levels = managed(levels)?;
    let before = levels.in_effect().filter;
    let duration = check(request)?;
    let outcome = match &*request.filter {
        "" => levels.restore(),
        filter => levels.set(filter, duration),
    };
    outcome.map_err(|why| ApiError::invalid(Field::Filter, why))?;
    let now = levels.in_effect();
    tracing::info!(
        filter = now.filter,
        before,
        for_seconds = duration.map(|duration| duration.as_secs()),
        "an operator has set the log filter"
    );
    Ok(to_proto(now))
}

fn managed(levels: Option<&LogLevels>) -> Result<&LogLevels, ApiError> {
    let message = "the program that embeds this node has set up its log itself, and changes its levels";
    levels.ok_or_else(|| ApiError::new(Reason::LogNotManaged, message))
}

/// The requested duration, if any. The syntax of the filter is checked when it is used.
fn check(request: &pb::SetLogLevelRequest) -> Result<Option<Duration>, ApiError> {
    let mut violations = Violations::default();
    if request.filter.len() > MAX_FILTER_BYTES {
        violations.add(Field::Filter, format_args!("must have at most {MAX_FILTER_BYTES} bytes"));
    }
    let duration = request.duration.map(Duration::try_from);
    match duration {
        Some(_) if request.filter.is_empty() => {
            violations.add(Field::Duration, "must not be set where the configured filter applies again");
        }
        Some(Ok(duration)) if DURATION_RANGE.contains(&duration) => {}
        Some(_) => violations.add(Field::Duration, "must be from 1 s to 24 h"),
        None => {}
    }
    violations.finish(Some(duration.and_then(Result::ok))).map_err(ApiError::from)
}

fn to_proto(InEffect { filter, configured, reverts_at }: InEffect) -> pb::LogLevel {
    pb::LogLevel { filter, configured_filter: configured, reverts_at: reverts_at.map(Into::into) }
}
