//! The parts of a request that a violation may concern, with their names in both APIs.

use std::{borrow::Cow, fmt::Write as _};

use strum::VariantArray;

/// A part of a request: a field of a message, a field of a JSON body, a parameter or a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
#[allow(missing_docs, reason = "named as the fields of the protos are; `Field::names` says the rest")]
pub enum Field {
    /// The request as a whole; over REST, its body.
    Request,
    RequestId,
    ExpectedRevision,
    Actor,
    CorrelationId,
    Command,
    OrderId,
    CustomerId,
    Items,
    /// The items of a CreateOrder in ExecuteCommands.
    CreateOrderItems,
    ProductId,
    Name,
    Quantity,
    UnitPrice,
    /// The currency of an order or of an item, over REST; gRPC has it inside the price.
    Currency,
    ShippingAddress,
    PaymentMethod,
    PaymentReference,
    TrackingNumber,
    Carrier,
    Reason,
    ConsistencyToken,
    ConsistencyLevel,
    Revision,
    AsOf,
    OrderIds,
    PageSize,
    PageToken,
    Status,
    CreatedAfter,
    CreatedBefore,
    OrderBy,
    FromRevision,
    Start,
    Cursor,
    CustomerIds,
    /// Kinds of events; over REST, a single one.
    Types,
    HeartbeatInterval,
    Id,
    Count,
    BatchSize,
    EventIds,
    All,
    Filter,
    Duration,
    /// The header of gRPC's deadline.
    GrpcTimeout,
    Host,
    IfNoneMatch,
    LastEventId,
    /// The query of a URL as a whole.
    Query,
}

impl Field {
    /// Every field.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The single table of names: in the protos, and over REST. A part that only one of them has appears with the same name twice.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Request => ("request", "body"),
            Self::RequestId => ("request_id", "Idempotency-Key"),
            Self::ExpectedRevision => ("expected_revision", "If-Match"),
            Self::Actor => ("actor", "X-Actor"),
            Self::CorrelationId => same("correlation_id"),
            Self::Command => same("command"),
            Self::OrderId => ("order_id", "id"),
            Self::CustomerId => ("customer_id", "customerId"),
            Self::Items => same("items"),
            Self::CreateOrderItems => same("create_order.items"),
            Self::ProductId => ("product_id", "productId"),
            Self::Name => same("name"),
            Self::Quantity => same("quantity"),
            Self::UnitPrice => ("unit_price", "price"),
            Self::Currency => same("currency"),
            Self::ShippingAddress => ("shipping_address", "shippingAddress"),
            Self::PaymentMethod => ("payment_method", "paymentMethod"),
            Self::PaymentReference => ("payment_reference", "paymentReference"),
            Self::TrackingNumber => ("tracking_number", "trackingNumber"),
            Self::Carrier => same("carrier"),
            Self::Reason => same("reason"),
            Self::ConsistencyToken => ("consistency.token", "X-Consistency-Token"),
            Self::ConsistencyLevel => same("consistency.level"),
            Self::Revision => same("revision"),
            Self::AsOf => ("as_of", "asOf"),
            Self::OrderIds => same("order_ids"),
            Self::PageSize => ("page_size", "pageSize"),
            Self::PageToken => ("page_token", "pageToken"),
            Self::Status => same("status"),
            Self::CreatedAfter => ("created_after", "createdAfter"),
            Self::CreatedBefore => ("created_before", "createdBefore"),
            Self::OrderBy => ("order_by", "orderBy"),
            Self::FromRevision => ("from_revision", "fromRevision"),
            Self::Start => same("start"),
            Self::Cursor => same("cursor"),
            Self::CustomerIds => same("customer_ids"),
            Self::Types => ("types", "type"),
            Self::HeartbeatInterval => same("heartbeat_interval"),
            Self::Id => same("id"),
            Self::Count => same("count"),
            Self::BatchSize => same("batch_size"),
            Self::EventIds => same("event_ids"),
            Self::All => same("all"),
            Self::Filter => same("filter"),
            Self::Duration => same("duration"),
            Self::GrpcTimeout => same("grpc-timeout"),
            Self::Host => same("Host"),
            Self::IfNoneMatch => same("If-None-Match"),
            Self::LastEventId => same("Last-Event-ID"),
            Self::Query => same("query"),
        }
    }

    /// The name in the protos.
    #[must_use]
    pub const fn proto_name(self) -> &'static str {
        self.names().0
    }

    /// The name over REST: of a field of a body, of a parameter, or of a header.
    #[must_use]
    pub const fn rest_name(self) -> &'static str {
        self.names().1
    }
}

const fn same(name: &'static str) -> (&'static str, &'static str) {
    (name, name)
}

/// Where in a request a violation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldPath {
    /// A field of the request: `customer_id`.
    Of(Field),
    /// An element of a repeated field: `order_ids[3]`.
    Element(Field, usize),
    /// A field of an item of a new order: `items[3].unit_price`.
    OfItem(usize, Field),
    /// An unknown field, sent by the client.
    Unknown(String),
    /// An unknown field in an item of a new order.
    UnknownOfItem(usize, String),
}

impl FieldPath {
    /// The path in the names of the protos.
    #[must_use]
    pub fn in_protos(&self) -> Cow<'_, str> {
        self.render(Field::proto_name)
    }

    /// The path in the names of REST.
    #[must_use]
    pub fn over_rest(&self) -> Cow<'_, str> {
        self.render(Field::rest_name)
    }

    fn render(&self, name: fn(Field) -> &'static str) -> Cow<'_, str> {
        let (list, index, rest) = match self {
            Self::Of(field) => return Cow::Borrowed(name(*field)),
            Self::Unknown(name) => return Cow::Borrowed(name),
            Self::Element(list, index) => (*list, index, None),
            Self::OfItem(index, field) => (Field::Items, index, Some(name(*field))),
            Self::UnknownOfItem(index, name) => (Field::Items, index, Some(name.as_str())),
        };
        let mut path = name(list).to_owned();
        // Writing to a string cannot fail.
        let _ = write!(path, "[{index}]");
        if let Some(rest) = rest {
            path.push('.');
            path.push_str(rest);
        }
        Cow::Owned(path)
    }
}

impl From<Field> for FieldPath {
    fn from(field: Field) -> Self {
        Self::Of(field)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Message as _;

    use super::*;

    /// The names that are not fields of gRPC messages: headers and parts of REST requests.
    const NO_FIELDS: [Field; 7] = [
        Field::Request,
        Field::Currency,
        Field::GrpcTimeout,
        Field::Host,
        Field::IfNoneMatch,
        Field::LastEventId,
        Field::Query,
    ];

    #[test]
    fn every_proto_name_is_that_of_a_field_or_a_oneof() {
        let files = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap().file;
        let messages: Vec<_> = files.into_iter().flat_map(|file| file.message_type).collect();
        let fields = messages.iter().flat_map(|message| &message.field).map(|field| field.name());
        let oneofs = messages.iter().flat_map(|message| &message.oneof_decl).map(|oneof| oneof.name());
        let names: HashSet<_> = fields.chain(oneofs).collect();
        for field in Field::ALL.iter().filter(|field| !NO_FIELDS.contains(field)) {
            for name in field.proto_name().split('.') {
                assert!(names.contains(name), "{field:?}: no message has {name}");
            }
        }
    }

    #[test]
    fn a_path_uses_the_names_of_the_protocol_of_the_client() {
        for (path, proto, rest) in [
            (FieldPath::OfItem(12, Field::UnitPrice), "items[12].unit_price", "items[12].price"),
            (FieldPath::OfItem(0, Field::ProductId), "items[0].product_id", "items[0].productId"),
            (FieldPath::Element(Field::OrderIds, 3), "order_ids[3]", "order_ids[3]"),
            (FieldPath::Element(Field::Items, 1), "items[1]", "items[1]"),
            (FieldPath::UnknownOfItem(2, "my_own".to_owned()), "items[2].my_own", "items[2].my_own"),
            (FieldPath::Unknown("my_own".to_owned()), "my_own", "my_own"),
            (Field::ConsistencyToken.into(), "consistency.token", "X-Consistency-Token"),
            (Field::RequestId.into(), "request_id", "Idempotency-Key"),
        ] {
            assert_eq!((path.in_protos().as_ref(), path.over_rest().as_ref()), (proto, rest));
        }
    }
}
