//! Client of the order service: the generated messages and stubs, and a few helpers for where the stubs alone hurt.
//!
//! - [`connect`]: a channel that retries what changes nothing, keeps itself alive and reports every broken connection as UNAVAILABLE
//! - [`OrderError`]: what an error says, with its details read
//! - [`send`]: a command with a request id, retried while that may help
//! - [`follow_events`], [`follow_order`]: histories that resume where they broke off
//! - [`list_orders`]: lists, page after page
//! - `Money::parse` and `Money::amount` of `google::r#type`: exact money
//!
//! The messages and stubs themselves are in [`catga`]. README.md shows all of it at work.

mod backoff;
mod channel;
mod commands;
mod errors;
mod follow;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all)]
mod generated;
mod lists;
mod money;
mod retry;
mod transport;

pub use channel::{Channel, connect, connect_tls};
pub use commands::{AsCommand, Command, SendOptions, send, send_with};
pub use errors::{FieldViolation, OrderError, Precondition};
pub use follow::{Follow, follow_events, follow_order};
pub use generated::{catga, google};
pub use lists::{Orders, list_orders};
pub use money::MoneyError;
pub use transport::Transport;
