//! Asks the server for lost messages of a log: see `record.lua`.

use std::collections::HashMap;

use redis::Value;

use super::{Shared, malformed, mark::Found, unavailable};
use crate::{
    backends::redis::{script::Script, values},
    ports::message_bus::BusError,
};

static LOOK: Script =
    Script::new(concat!(include_str!("../need.lua"), include_str!("record.lua"), include_str!("look.lua")));

impl Shared {
    /// What the server has of `log`, all of which `consumers` must get. If lost messages are about to be published again, the server records that.
    pub(super) async fn look(&self, consumers: &[String], log: u32) -> Result<Found, BusError> {
        let call = LOOK.prepare().key(&self.stream).key(&self.record).key(&self.consumers);
        let call = call.key(&self.published_key(log)).number(log);
        let call = match self.mark.resumed() {
            Some((losses, after)) => {
                let call = call.number(losses).number(after);
                consumers.iter().fold(call, |call, name| call.arg(name.as_bytes()))
            }
            None => call.arg("").arg(""),
        };
        let answer = call.run(&self.redis).await.map_err(unavailable)?;
        read(answer, consumers, log).ok_or_else(|| malformed("a look for lost messages"))
    }
}

fn read(answer: Value, consumers: &[String], log: u32) -> Option<Found> {
    let mut parts = values::list(answer)?.into_iter();
    let (last, losses) = (values::number(&parts.next()?), values::number(&parts.next()?));
    let (Some(record), Some(names)) = (parts.next(), parts.next()) else {
        return Some(Found { last, losses, is_incomplete: false, needed_from: 1 });
    };
    let (record, names) = (pairs(record)?, pairs(names)?);
    // Unknown: all of it may be needed.
    let processed = |name: &String| record.get(&format!("{name} {log}")).and_then(|at| at.parse().ok()).unwrap_or(0);
    let needed_from = names.keys().chain(consumers).map(|name| u64::saturating_add(processed(name), 1)).min();
    Some(Found { last, losses, is_incomplete: true, needed_from: needed_from.unwrap_or(u64::MAX) })
}

/// The fields of a hash.
fn pairs(hash: Value) -> Option<HashMap<String, String>> {
    let text = |value: &Value| values::text(value).unwrap_or_default().to_owned();
    Some(values::list(hash)?.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
}
