//! Checks the indexes against the log: a scan of the log alone cannot find entries of an index that lead to none of its events, nor entries that are
//! missing from the log.

use futures_util::{StreamExt as _, TryStreamExt as _};
use redis::{Cmd, Value};

use super::{
    RedisEventStore,
    commits::read_scan,
    request::{RequestRecord, key_in_log},
    store_error,
};
use crate::{
    backends::redis::{connection::CallError, script::Script, values},
    ports::event_store::{IndexDamage, Position, RequestScope, StoreError, StreamId},
};

static INDEX: Script = Script::new(include_str!("index.lua"));
static INDEX_REQUEST: Script = Script::new(include_str!("index_request.lua"));

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

/// Why a key was not compared.
enum Failure {
    /// It has another type than its index.
    OtherType,
    Store(StoreError),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { code, .. } if code == "WRONGTYPE" => Self::OtherType,
            other => Self::Store(store_error(other)),
        }
    }
}

fn malformed() -> Failure {
    Failure::Store(StoreError::Unavailable("the script returned an unexpected reply".to_owned()))
}

impl RedisEventStore {
    pub(super) async fn compare_indexes(&self) -> Result<Vec<IndexDamage>, StoreError> {
        let mut findings = Vec::new();
        for (kind, prefix) in [(Kind::Order, "order:"), (Kind::Request, "request:"), (Kind::Requests, "requests:")] {
            self.compare_keys(kind, &self.redis.key(prefix), &mut findings).await?;
        }
        Ok(findings)
    }

    /// Scans all keys that begin with `prefix`.
    async fn compare_keys(&self, kind: Kind, prefix: &str, findings: &mut Vec<IndexDamage>) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_KEYS);
            let (next, keys) = read_scan(self.redis.call(&scan).await.map_err(store_error)?)?;
            let looked: Vec<Vec<IndexDamage>> = futures_util::stream::iter(keys)
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

    async fn compare_key(&self, kind: Kind, prefix: usize, key: String) -> Result<Vec<IndexDamage>, StoreError> {
        let name = key.get(prefix..).unwrap_or_default();
        let compared = match kind {
            Kind::Order => self.compare_order(&key, name).await.map(|finding| finding.into_iter().collect()),
            Kind::Request => self.compare_request_key(&key, name).await.map(|finding| finding.into_iter().collect()),
            Kind::Requests => self.compare_requests(&key, name).await,
        };
        let findings = match compared {
            Ok(findings) => findings,
            Err(Failure::OtherType) => vec![IndexDamage::of(format!("{key} has another type than this index"))],
            Err(Failure::Store(error)) => return Err(error),
        };
        let of_request = !matches!(kind, Kind::Order);
        Ok(findings.into_iter().map(|finding| IndexDamage { of_request, ..finding }).collect())
    }

    async fn compare_order(&self, key: &str, order: &str) -> Result<Option<IndexDamage>, Failure> {
        let Ok(stream) = order.parse().map(StreamId) else {
            return Ok(Some(IndexDamage::of(format!("{key} is the index of an order that is not a number"))));
        };
        let (mut from, mut wrong, mut first) = (1, 0, None);
        loop {
            let call = INDEX.prepare().key(&self.log).key(key).number(from).number(EVENTS_AT_ONCE);
            let answer = call.arg(stream.0.to_be_bytes()).run(&self.redis).await?;
            let parts = values::list(answer).and_then(|parts| <[Value; 5]>::try_from(parts).ok());
            let [compared, more, position, revision, why] = parts.ok_or_else(malformed)?;
            let (compared, more) = values::number(&compared).zip(values::number(&more)).ok_or_else(malformed)?;
            if more > 0 && first.is_none() {
                first = Some((position, values::number(&revision), why));
            }
            wrong += more;
            from += compared;
            if compared < EVENTS_AT_ONCE {
                break;
            }
        }
        Ok(first.map(|(position, revision, why)| {
            let (all, at) = (from - 1, values::text(&position).unwrap_or_default());
            let what = format!(
                "{key}: {wrong} of its {all} positions do not lead to their event of order {stream}; the first is position {at}, {}",
                in_words(&why)
            );
            let position = values::number(&position).map(Position);
            IndexDamage { position, stream: Some(stream), revision, ..IndexDamage::of(what) }
        }))
    }

    async fn compare_request_key(&self, key: &str, id: &str) -> Result<Option<IndexDamage>, Failure> {
        let remembered = self.redis.call(&Cmd::get(key)).await?;
        // The key was deleted meanwhile and needs no check.
        if matches!(remembered, Value::Nil) {
            return Ok(None);
        }
        self.compare_request(key, RequestScope::Log, id, &remembered).await
    }

    async fn compare_requests(&self, key: &str, order: &str) -> Result<Vec<IndexDamage>, Failure> {
        let pairs = self.redis.call(&Cmd::hgetall(key)).await?;
        let mut pairs = values::list(pairs).unwrap_or_default().into_iter();
        let mut findings = Vec::new();
        while let (Some(id), Some(remembered)) = (pairs.next(), pairs.next()) {
            let id = values::text(&id).unwrap_or_default();
            let of = values::text(&remembered).and_then(RequestRecord::parse).map(|record| record.stream);
            if let Some(stream) = of.filter(|stream| stream.to_string() != order) {
                let what = format!("{key}: the record of request {id} names another order, {stream}");
                findings.push(IndexDamage { stream: Some(stream), ..IndexDamage::of(what) });
                continue;
            }
            findings.extend(self.compare_request(key, RequestScope::Stream, id, &remembered).await?);
        }
        Ok(findings)
    }

    /// Checks that the order has the events that a request is recorded to have made.
    async fn compare_request(
        &self,
        key: &str,
        scope: RequestScope,
        id: &str,
        remembered: &Value,
    ) -> Result<Option<IndexDamage>, Failure> {
        let record = values::text(remembered).and_then(RequestRecord::parse);
        let Some(RequestRecord { fingerprint, stream, first_revision, last_revision }) = record else {
            return Ok(Some(IndexDamage::of(format!("{key}: the record of request {id} cannot be read"))));
        };
        let call = INDEX_REQUEST.prepare().key(&self.log).key(&self.index_key(stream));
        let call = call.number(first_revision).number(last_revision).arg(stream.0.to_be_bytes());
        let answer = call.arg(key_in_log(scope, fingerprint, id)).run(&self.redis).await?;
        let parts = values::list(answer).unwrap_or_default();
        let found = match (parts.first().and_then(values::text).ok_or_else(malformed)?, parts.get(1)) {
            ("whole", _) => return Ok(None),
            (why, Some(number)) => (why.to_owned(), number.clone()),
            _ => return Err(malformed()),
        };
        let made = format!("{key}: request {id} made revision {last_revision} of order {stream}");
        Ok(Some(match found {
            (why, length) if why == "short" => {
                let length = values::number(&length).unwrap_or_default();
                let what = format!("{made}, of which there are {length} events");
                IndexDamage { stream: Some(stream), revision: Some(last_revision), ..IndexDamage::of(what) }
            }
            (why, position) => {
                let at = values::text(&position).unwrap_or_default();
                let what = format!("{made} from position {at} on, {}", in_words(&Value::SimpleString(why)));
                let position = values::number(&position).map(Position);
                IndexDamage { position, stream: Some(stream), revision: Some(first_revision), ..IndexDamage::of(what) }
            }
        }))
    }
}

/// What is at a position that an index names, according to the scripts.
fn in_words(why: &Value) -> &'static str {
    match values::text(why) {
        Some("gone") => "which the log does not have",
        _ => "where the log has another event",
    }
}
