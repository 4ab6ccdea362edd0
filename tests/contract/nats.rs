//! Behaviour that only a real server shows: crashes, pauses, settings, and invalid data.

mod bounds;
mod crashes;
mod messages;
mod refusals;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use ordersystem::{
    backends::nats::{
        connection::{ConnectError, Nats, NatsOptions},
        event_store::NatsEventStore,
    },
    ports::event_store::{
        AppendError, Commit, Direction, Durability, EventStore, ExpectedRevision, Position, RequestKey, RequestScope,
        StoreError, StoredEvent, StreamId,
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    broker_log::{commit, create, stream_texts, text, under_harm},
    nats_server::{NatsServer, fresh_prefix, shared},
    support::until,
};
