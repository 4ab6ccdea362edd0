//! Client of the order service: the generated messages and stubs, and helpers for what the stubs alone make hard.
//!
//! - [`connect`]: a channel that retries calls without side effects, keeps itself alive and reports every broken connection as UNAVAILABLE;
//!   [`Channel::with_token`] sends a token with each call
//! - [`OrderError`]: an error with its details
//! - [`send`]: sends a command with a request id, with retries
//! - [`follow_events`], [`follow_order`]: histories that resume where they broke off
//! - [`list_orders`]: lists, page after page
//! - `Money::parse` and `Money::amount` of `google::r#type`: exact money
//!
//! The messages and stubs themselves are in [`catga`]. README.md shows all of it in use.

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
mod token;
mod transport;

pub use channel::{Channel, connect, connect_tls};
pub use commands::{AsCommand, Command, SendOptions, send, send_with};
pub use errors::{FieldViolation, OrderError, Precondition};
pub use follow::{Follow, follow_events, follow_order};
pub use generated::{catga, google};
pub use lists::{Orders, list_orders};
pub use money::MoneyError;
pub use token::token_file;
pub use transport::Transport;
