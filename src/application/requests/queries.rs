//! The queries, and the requests for ids.

use xxhash_rust::xxh3::Xxh3;

use super::{fields::Field, violations::Violations};
use crate::{
    application::{
        Consistency, Scope,
        limits::{DEFAULT_PAGE_SIZE, MAX_IDS_PER_CALL, MAX_PAGE_SIZE},
        order_repository::AsOf,
        queries::{GetOrder, ListOrders},
        tokens::{self, PageKey, Signer},
    },
    codec::status_code,
    domain::{order::Status, text::CustomerId, timestamp::Timestamp},
    id_generator::{self, IdParts},
    ports::read_model::{ListFilter, ListOrder, ListQuery, RowKey},
};

/// The value of an optional field as it was sent: `None` if it was left out.
///
/// # Errors
/// Why it cannot be read.
pub type Given<T> = Result<Option<T>, String>;

/// The required freshness.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConsistencyDraft<'a> {
    /// The level.
    pub level: ConsistencyLevel,
    /// The token; empty unless the level is [`ConsistencyLevel::AtLeast`].
    pub token: &'a str,
}

/// A level of freshness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsistencyLevel {
    /// The current state of the node.
    #[default]
    Eventual,
    /// As fresh as a token.
    AtLeast,
    /// As fresh as everything committed before the query.
    Strong,
    /// None of these.
    Unknown,
}

/// The required freshness.
pub fn consistency(violations: &mut Violations, draft: ConsistencyDraft<'_>, signer: Option<&Signer>) -> Consistency {
    if draft.level == ConsistencyLevel::AtLeast {
        return match tokens::decode_token(draft.token, signer) {
            Ok(position) => Consistency::AtLeast(position),
            Err(error) => {
                violations.add_cursor(Field::ConsistencyToken, error);
                Consistency::Eventual
            }
        };
    }
    if !draft.token.is_empty() {
        violations.add(Field::ConsistencyToken, "must be empty unless the level is AT_LEAST");
    }
    match draft.level {
        ConsistencyLevel::Strong => Consistency::Strong,
        ConsistencyLevel::Eventual | ConsistencyLevel::AtLeast => Consistency::Eventual,
        ConsistencyLevel::Unknown => {
            violations.add(Field::ConsistencyLevel, "is not a known level");
            Consistency::Eventual
        }
    }
}

/// A query for one order.
#[derive(Clone, Debug)]
pub struct GetOrderDraft<'a> {
    /// The order.
    pub order_id: Option<&'a str>,
    /// The moment of its history.
    pub until: Option<UntilDraft>,
    /// The required freshness.
    pub consistency: ConsistencyDraft<'a>,
}

/// A moment of the history of an order.
#[derive(Clone, Debug)]
pub enum UntilDraft {
    /// Its end.
    Latest,
    /// The event with this revision.
    Revision(i64),
    /// The last event recorded at or before this time.
    Time(Given<Timestamp>),
}

/// The query for one order within `scope`.
///
/// # Errors
/// All violations, including earlier ones in `violations`.
pub fn get_order(
    mut violations: Violations,
    draft: GetOrderDraft<'_>,
    scope: Scope,
    signer: Option<&Signer>,
) -> Result<GetOrder, Violations> {
    let order_id = draft.order_id.and_then(|text| violations.order_id(Field::OrderId, text));
    let until = match draft.until {
        None => None,
        Some(UntilDraft::Latest) => Some(AsOf::Latest),
        Some(UntilDraft::Time(at)) => violations.check(Field::AsOf, at).flatten().map(AsOf::Time),
        Some(UntilDraft::Revision(revision)) => match u64::try_from(revision) {
            Ok(revision) if revision > 0 => Some(AsOf::Revision(revision)),
            _ => {
                violations.add(Field::Revision, "must be at least 1");
                None
            }
        },
    };
    let consistency = consistency(&mut violations, draft.consistency, signer);
    let query = order_id.zip(until).map(|(order_id, until)| GetOrder { order_id, until, consistency, scope });
    violations.finish(query)
}

/// A query for a page of the list of orders.
#[derive(Clone, Debug)]
pub struct ListDraft<'a> {
    /// The page size; 0: the default.
    pub page_size: i64,
    /// The start of the page; empty: the start of the list.
    pub page_token: &'a str,
    /// Orders of this customer; empty: of all.
    pub customer_id: &'a str,
    /// Orders with this status.
    pub status: Given<Status>,
    /// Orders placed at this time or later.
    pub created_after: Given<Timestamp>,
    /// Orders placed before this time.
    pub created_before: Given<Timestamp>,
    /// The sort order; left out: from the newest.
    pub order: Given<ListOrder>,
    /// The required freshness.
    pub consistency: ConsistencyDraft<'a>,
}

/// A query for a page of the list of orders, with the hash that the token of its next page contains.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The query.
    pub list: ListOrders,
    /// A hash of the filters: a page token is only valid for the query that it was issued for.
    fingerprint: u64,
}

impl ListRequest {
    /// The token of the page after the row `last`.
    #[must_use]
    pub fn next_page_token(&self, signer: &Signer, last: RowKey) -> String {
        let key = PageKey { created_at_micros: last.created_at_micros, order_id: last.id };
        tokens::encode_page_token(signer, self.fingerprint, key)
    }
}

/// The query for a page of the list of the orders within `scope`. A page token is bound to the customer to whom the scope narrows the list: one
/// customer's token does not open a page of another's.
///
/// # Errors
/// All violations, including earlier ones in `violations`.
pub fn list_orders(
    mut violations: Violations,
    draft: ListDraft<'_>,
    scope: &Scope,
    signer: Option<&Signer>,
) -> Result<ListRequest, Violations> {
    let limit = page_size(&mut violations, draft.page_size);
    // The query refuses a customer outside of the scope.
    let customer = violations.optional(Field::CustomerId, draft.customer_id).flatten();
    let customer = customer.or_else(|| scope.customer().cloned());
    let status = violations.check(Field::Status, draft.status).flatten();
    let created_after = violations.check(Field::CreatedAfter, draft.created_after).flatten();
    let created_before = violations.check(Field::CreatedBefore, draft.created_before).flatten();
    let order = violations.check(Field::OrderBy, draft.order).flatten().unwrap_or(ListOrder::NewestFirst);
    let fingerprint = list_fingerprint(customer.as_ref(), status, [created_after, created_before], order);
    let after = if draft.page_token.is_empty() {
        None
    } else {
        let parsed = tokens::decode_page_token(draft.page_token, signer, fingerprint);
        parsed.map_err(|error| violations.add_cursor(Field::PageToken, error)).ok()
    };
    let consistency = consistency(&mut violations, draft.consistency, signer);
    let filter = ListFilter {
        customer: customer.map(|id| id.shared()),
        status: status.map(status_code),
        created_from_micros: created_after.map(Timestamp::as_micros),
        created_to_micros: created_before.map(Timestamp::as_micros),
    };
    let after = after.map(|key| RowKey { created_at_micros: key.created_at_micros, id: key.order_id });
    let query = ListQuery { filter, order, after, limit };
    let list = ListOrders { query, consistency, scope: scope.clone() };
    violations.finish(Some(ListRequest { list, fingerprint }))
}

/// Page tokens contain it, so its input must not change.
fn list_fingerprint(
    customer: Option<&CustomerId>,
    status: Option<Status>,
    created: [Option<Timestamp>; 2],
    order: ListOrder,
) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(customer.map_or("", |id| id.as_str()).as_bytes());
    hash.update(&[0, status.map_or(u8::MAX, status_code), u8::from(order == ListOrder::OldestFirst)]);
    for bound in created {
        hash.update(&bound.map_or(i64::MIN, Timestamp::as_micros).to_le_bytes());
    }
    hash.digest()
}

/// A page size: 0 means the default.
pub fn page_size(violations: &mut Violations, size: i64) -> usize {
    match usize::try_from(size) {
        Ok(0) => DEFAULT_PAGE_SIZE,
        Ok(size) if size <= MAX_PAGE_SIZE => size,
        _ => {
            violations.add(Field::PageSize, format_args!("must be a whole number of 0 to {MAX_PAGE_SIZE}"));
            DEFAULT_PAGE_SIZE
        }
    }
}

/// Validates the requested number of ids.
///
/// # Errors
/// A violation outside 1 to [`MAX_IDS_PER_CALL`], and earlier ones in `violations`.
pub fn id_count(mut violations: Violations, count: i64) -> Result<usize, Violations> {
    let valid = usize::try_from(count).ok().filter(|count| (1..=MAX_IDS_PER_CALL).contains(count));
    if valid.is_none() {
        violations.add(Field::Count, format_args!("must be 1 to {MAX_IDS_PER_CALL}"));
    }
    violations.finish(valid)
}

/// The parts of an id.
///
/// # Errors
/// A violation if the text is not an id, and earlier ones in `violations`.
pub fn id_parts(mut violations: Violations, text: &str) -> Result<IdParts, Violations> {
    let id = violations.order_id(Field::Id, text);
    violations.finish(id.and_then(|id| id_generator::parse(id.get()).ok()))
}
