//! The replies to a publish.

use redis::Value;

use crate::backends::redis::values;

/// The result of a publish.
pub(super) struct Published {
    pub accepted: usize,
    pub room: i64,
    /// The consumer that keeps the stream full, if any does.
    pub slowest: String,
    /// Why the accepted messages did not reach external listeners; empty if they did.
    pub unheard: String,
}

impl Published {
    pub(super) fn read(answer: Value) -> Option<Self> {
        match &values::list(answer)?[..] {
            [Value::Int(accepted), Value::Int(room), slowest, unheard] => Some(Self {
                accepted: usize::try_from(*accepted).ok()?,
                room: *room,
                slowest: values::text(slowest)?.to_owned(),
                unheard: values::text(unheard)?.to_owned(),
            }),
            _ => None,
        }
    }
}

/// Why a publish was refused.
pub(super) enum Loss {
    /// The server has messages only up to this position.
    After(u64),
    /// The stream lacks messages of the log.
    OfStream,
}

impl Loss {
    pub(super) fn read(answer: &Value) -> Option<Self> {
        let Value::Array(parts) = answer else { return None };
        let [what, last] = &parts[..] else { return None };
        match values::text(what)? {
            "lost" => Some(Self::After(values::number(last).unwrap_or(0))),
            "missing" => Some(Self::OfStream),
            _ => None,
        }
    }
}
