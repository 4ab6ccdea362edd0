//! The Redis backend: event store, message bus, leases and checkpoints in one primary, Redis 7.0 or newer.
//!
//! **How an append is atomic**: it is one Lua script, see [`event_store`]. Several nodes may share one Redis, which decides every append.
//!
//! **What is durable when**: every write that Redis has acknowledged survives the end of this process. It survives a power loss of Redis's machine
//! only with `appendonly yes`, `appendfsync always`, `no-appendfsync-on-rewrite no` and `maxmemory-policy noeviction`: then Redis syncs before it
//! replies. The service reads these settings and claims no more than they guarantee ([`server::ServerFacts::durability`]). A fail-over to a replica
//! may lose acknowledged writes under any settings: this backend works with one primary and refuses a replica.
//!
//! **Its keys**, all with one hash tag so that they can live in a Redis Cluster:
//!
//! ```text
//! {ordersystem}:log-id              which log this is
//! {ordersystem}:log-key             the key that signs its tokens
//! {ordersystem}:log                 stream: all events; entry 0-<position>, with the request key of the commit that it begins
//! {ordersystem}:order:<number>      list: the positions of the order's events, by revision
//! {ordersystem}:requests:<number>   hash: the request ids that the order has seen
//! {ordersystem}:request:<id>        string: a request id that is unique in the log
//! {ordersystem}:checkpoint:<name>   string: a follower's position
//! {ordersystem}:lease:<name>        string: an owner, expires;  {ordersystem}:lease-token:<name>  its last token
//! {ordersystem}:folded:<log>:<schema>:<number>  string: a folded order, expires (with --redis-cache)
//! {ordersystem}:events              stream: published messages, a group for each consumer
//! {ordersystem}:published:<log>     string: the position of the last published event of a log
//! {ordersystem}:bus                 hash: how many messages the stream must hold, and how far each consumer has processed each log
//! {ordersystem}:consumers           hash: which handle of each consumer is the live one
//! {ordersystem}:dead:<name>         stream: a consumer's dead letters;  {ordersystem}:dead-index:<name>  hash: the entry of each event
//! {ordersystem}:replayed:<name>     stream: dead letters on their way back to it
//! {ordersystem}:health              written and deleted by each check
//! ```

mod address;
pub mod cache;
mod call_error;
pub mod checkpoint_store;
pub mod connection;
mod damage;
mod descriptor;
mod ends;
pub mod event_store;
mod in_words;
mod keeper;
pub mod lease;
pub mod message_bus;
mod options;
pub mod permissions;
mod pools;
mod refusal;
mod script;
mod sentinel;
pub mod server;
pub mod settings;
mod tail;
mod values;
mod verification;

pub use descriptor::DESCRIPTOR;
