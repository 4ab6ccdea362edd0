//! Checks the indexes against the log: a scan of the log alone cannot find entries that are missing from it.

use futures_util::{StreamExt as _, TryStreamExt as _};
use redis::{Cmd, Value};

use super::{RedisEventStore, commits::read_scan, request::RequestRecord, store_error};
use crate::{
    backends::redis::{script::Script, values},
    ports::event_store::{StoreError, StreamId},
};

static INDEX: Script = Script::new(include_str!("index.lua"));

/// The keys that Redis checks for one reply during a scan of all keys.
const SCAN_KEYS: usize = 1_000;
/// How many keys are compared with the log at once.
const AT_ONCE: usize = 64;
/// How many events of an order are compared by one call: nothing else runs in Redis in the meantime.
const EVENTS_AT_ONCE: u64 = 512;
/// The search ends after this many findings.
const MAX_FINDINGS: usize = 1_000;

/// The kinds of keys that refer to the log.
#[derive(Clone, Copy)]
enum Kind {
    /// The index of an order.
    Order,
    /// A request id that is unique in the log.
    Request,
    /// The request ids of an order.
    Requests,
}

impl RedisEventStore {
    pub(super) async fn compare_indexes(&self) -> Result<Vec<String>, StoreError> {
        let mut findings = Vec::new();
        for (kind, prefix) in [(Kind::Order, "order:"), (Kind::Request, "request:"), (Kind::Requests, "requests:")] {
            self.compare_keys(kind, &self.redis.key(prefix), &mut findings).await?;
        }
        Ok(findings)
    }

    /// Scans all keys that begin with `prefix`.
    async fn compare_keys(&self, kind: Kind, prefix: &str, findings: &mut Vec<String>) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_KEYS);
            let (next, keys) = read_scan(self.redis.call(&scan).await.map_err(store_error)?)?;
            let looked: Vec<Option<String>> = futures_util::stream::iter(keys)
                .map(|key| self.compare_key(kind, prefix.len(), key))
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            for finding in looked.into_iter().flatten() {
                if findings.len() >= MAX_FINDINGS {
                    return Ok(());
                }
                // Redis may return a key twice.
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn compare_key(&self, kind: Kind, prefix: usize, key: String) -> Result<Option<String>, StoreError> {
        let name = key.get(prefix..).unwrap_or_default();
        match kind {
            Kind::Order => self.compare_order(name).await,
            Kind::Request => {
                let remembered = self.redis.call(&Cmd::get(&key)).await.map_err(store_error)?;
                // The key was deleted meanwhile and needs no check.
                if matches!(remembered, Value::Nil) { Ok(None) } else { self.compare_request(name, &remembered).await }
            }
            Kind::Requests => {
                let pairs = self.redis.call(&Cmd::hgetall(&key)).await.map_err(store_error)?;
                let mut pairs = values::list(pairs).unwrap_or_default().into_iter();
                while let (Some(id), Some(remembered)) = (pairs.next(), pairs.next()) {
                    let finding = self.compare_request(values::text(&id).unwrap_or_default(), &remembered).await?;
                    if finding.is_some() {
                        return Ok(finding);
                    }
                }
                Ok(None)
            }
        }
    }

    async fn compare_order(&self, order: &str) -> Result<Option<String>, StoreError> {
        let Ok(stream) = order.parse().map(StreamId) else {
            return Ok(Some(format!("there is an index of order {order}, which is not a number")));
        };
        let (mut from, mut wrong, mut first) = (1, 0, String::new());
        loop {
            let call = INDEX.prepare().key(&self.log).key(&self.index_key(stream)).number(from).number(EVENTS_AT_ONCE);
            let answer = call.run(&self.redis).await.map_err(store_error)?;
            let parts = values::list(answer).unwrap_or_default();
            let (Some(compared), Some(more)) =
                (parts.first().and_then(values::number), parts.get(1).and_then(values::number))
            else {
                return Err(StoreError::Unavailable("the script returned an unexpected reply".to_owned()));
            };
            if wrong == 0 {
                first = parts.get(2).and_then(values::text).unwrap_or_default().to_owned();
            }
            wrong += more;
            from += compared;
            if compared < EVENTS_AT_ONCE {
                break;
            }
        }
        Ok((wrong > 0).then(|| {
            let all = from - 1;
            format!("order {stream}: {wrong} of its {all} events are not in the log where its index says, the first at position {first}")
        }))
    }

    /// Checks that the order has the events that a request is recorded to have made.
    async fn compare_request(&self, id: &str, remembered: &Value) -> Result<Option<String>, StoreError> {
        let Some(RequestRecord { stream, last_revision, .. }) = values::text(remembered).and_then(RequestRecord::parse)
        else {
            return Ok(Some(format!("the record of request {id} cannot be read")));
        };
        let length = self.redis.call(&Cmd::llen(self.index_key(stream))).await.map_err(store_error)?;
        let length = values::number(&length).unwrap_or_default();
        Ok((length < last_revision).then(|| {
            format!("request {id} made revision {last_revision} of order {stream}, of which there are {length} events")
        }))
    }
}
