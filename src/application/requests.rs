//! Converts external input to requests of the application, and reports every violation at once.
//!
//! Both protocols fill the same drafts. A draft's field is `None` if the protocol layer could not read it and has already reported that.

mod commands;
mod fields;
mod queries;
mod streams;
#[cfg(test)]
mod tests;
mod violations;

pub use self::{
    commands::{
        ActionDraft, CommandDraft, CommandKind, ItemDraft, MetaDraft, OrderDraft, OrderRequest, PriceError, Target,
        command,
    },
    fields::{Field, FieldPath},
    queries::{
        ConsistencyDraft, ConsistencyLevel, GetOrderDraft, Given, ListDraft, ListRequest, UntilDraft, consistency,
        get_order, id_count, id_parts, list_orders, page_size,
    },
    streams::{cursor, from_revision},
    violations::{Violation, Violations},
};
