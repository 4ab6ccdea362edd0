//! Open calls when the credentials of their caller are withdrawn, expire, or lose their role: a stream ends, and of a stream of commands each further
//! one is refused first.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::Method;
use ordersystem::{
    identity::Role,
    proto::catga::{
        ids::v1::StreamIdsRequest,
        orders::v1::{
            ExecuteCommandsRequest, ExecuteCommandsResponse, StreamEventsRequest, StreamOrderHistoryRequest,
            execute_commands_request::Command, execute_commands_response::Outcome,
        },
    },
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::{
    faulty::{FaultyStore, Mode},
    guarded::{Caller, Guarded},
    support::{Issuer, RawCodec, code_and_reason, new_order, soon, until},
    web,
    wire::frame,
};

const WRITER: Caller = Caller::Known(Role::Writer);
const EVENTS: Caller = Caller::Known(Role::Events);

/// Leaves only the entries of callers whose name `is_kept`.
pub fn keep(text: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let name_in = |entry: &str| entry.split('"').nth(1).unwrap_or_default().to_owned();
    let entries = text.split("[[api_keys]]\n").skip(1).filter(|entry| is_kept(&name_in(entry)));
    entries.map(|entry| format!("[[api_keys]]\n{entry}")).collect()
}

/// The open streams of all kinds; each ends by itself in no other case.
pub struct Streams {
    pub over_grpc: Vec<(&'static str, Streaming<Bytes>)>,
    over_rest: Vec<(String, reqwest::Response)>,
    over_web: reqwest::Response,
}

impl Streams {
    /// Opens one of each kind; `of` has the header of a caller with this role.
    pub async fn open(guarded: &Guarded, of: impl Fn(Role) -> String) -> Self {
        let order = new_order("customer-1");
        let mut request = Request::new(order);
        request.metadata_mut().insert("authorization", of(Role::Writer).parse().expect("a value"));
        let placed = guarded.server().commands().await.create_order(request).await.expect("accepted").into_inner();
        let order_id = placed.order.expect("an order").order_id;
        let events = StreamEventsRequest { follow: true, ..Default::default() }.encode_to_vec();
        let history = StreamOrderHistoryRequest { order_id: order_id.clone(), follow: true, ..Default::default() };
        let mut over_grpc = Vec::new();
        for (path, role, message) in [
            ("/catga.orders.v1.OrderHistoryService/StreamEvents", Role::Events, events.clone()),
            ("/catga.orders.v1.OrderHistoryService/StreamOrderHistory", Role::Reader, history.encode_to_vec()),
            ("/catga.ids.v1.IdService/StreamIds", Role::Writer, StreamIdsRequest::default().encode_to_vec()),
            ("/catga.system.v1.SystemService/WatchCluster", Role::Operator, Vec::new()),
            // A request for the list of services.
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Reader, b"\x3a\x01*".to_vec()),
        ] {
            let mut client = tonic::client::Grpc::new(guarded.server().channel().await);
            client.ready().await.expect("connected");
            let message = stream::iter([Bytes::from(message)]);
            let messages = match path.contains("reflection") {
                // The client has more to say, and says it later.
                true => message.chain(stream::pending()).boxed(),
                false => message.boxed(),
            };
            let mut request = Request::new(messages);
            request.metadata_mut().insert("authorization", of(role).parse().expect("a value"));
            let opened = client.streaming(request, path.parse().expect("a path"), RawCodec).await.expect(path);
            over_grpc.push((path, opened.into_inner()));
        }
        let mut over_rest = Vec::new();
        for (path, role) in
            [("/events".to_owned(), Role::Events), (format!("/orders/{order_id}/history"), Role::Reader)]
        {
            let request = guarded.rest.request(Method::GET, &path).header("accept", "text/event-stream");
            let reply = request.header("authorization", of(role)).send().await.expect("an answer");
            assert_eq!(reply.status(), 200, "{path}");
            over_rest.push((path, reply));
        }
        let request = guarded.rest.request(Method::POST, "/catga.orders.v1.OrderHistoryService/StreamEvents");
        let request = request.header("content-type", "application/grpc-web+proto").body(frame(0, &events));
        let over_web = request.header("authorization", of(Role::Events)).send().await.expect("an answer");
        Self { over_grpc, over_rest, over_web }
    }

    /// Reads all of them to their end, which has this code and reason.
    pub async fn end_with(self, code: Code, reason: &str) {
        let wanted = (code, reason.to_owned());
        for (path, mut replies) in self.over_grpc {
            let status = loop {
                match soon("a reply, or the end", replies.message()).await {
                    Ok(reply) => assert!(reply.is_some(), "{path} ended without an error"),
                    Err(status) => break status,
                }
            };
            assert_eq!(code_and_reason(&status), wanted, "{path}");
            // With renewed credentials it may be opened again.
            let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!(retry.is_some(), code == Code::Unauthenticated, "{path}");
        }
        for (path, reply) in self.over_rest {
            let text = soon("the end", reply.text()).await.expect("a whole body");
            let last = text.trim_end().rsplit("\n\n").next().expect("an event").to_owned();
            assert!(last.starts_with("event: problem\ndata: {") && last.contains(reason), "{path}: {last}");
        }
        let status = soon("the end", web::status(self.over_web)).await;
        assert_eq!(code_and_reason(&status), wanted, "over gRPC-Web");
    }
}

#[tokio::test]
async fn every_open_stream_ends_once_the_key_of_its_caller_is_withdrawn() {
    let guarded = Guarded::start().await;
    let bearer = |role| guarded.bearer(Caller::Known(role)).expect("a key");
    let streams = Streams::open(&guarded, bearer).await;
    guarded.edit_identities(|text| keep(&text, |name| name == "the-customer"));
    streams.end_with(Code::Unauthenticated, "CREDENTIALS_INVALID").await;
}

#[tokio::test]
async fn every_open_stream_ends_once_its_caller_has_lost_the_role() {
    let guarded = Guarded::start().await;
    let bearer = |role| guarded.bearer(Caller::Known(role)).expect("a key");
    let mut streams = Streams::open(&guarded, bearer).await;
    // Needs no role.
    streams.over_grpc.retain(|(path, _)| !path.contains("reflection"));
    guarded.edit_identities(|text| {
        let other = |name: &str| format!("roles = [\"{name}\"]");
        ["events", "writer", "operator"]
            .iter()
            .fold(text.replace(&other("reader"), "roles = [\"none\"]"), |text, name| {
                text.replace(&other(name), &other("reader"))
            })
            .replace("roles = [\"none\"]", &other("events"))
    });
    streams.end_with(Code::PermissionDenied, "ROLE_MISSING").await;
}

/// What `open` opens with a token that soon expires. A busy machine may take longer for that: then with one that expires later.
async fn before_its_token_expires<T>(guarded: &Guarded, roles: &[&str], open: impl AsyncFn(String) -> T) -> T {
    for seconds in [3, 10, 30] {
        let token = guarded.issuer.token(&Issuer::claims("shop", roles, seconds));
        let opening = AssertUnwindSafe(open(format!("Bearer {token}"))).catch_unwind();
        if let Ok(opened) = opening.await {
            return opened;
        }
    }
    let token = guarded.issuer.token(&Issuer::claims("shop", roles, 100));
    open(format!("Bearer {token}")).await
}

#[tokio::test]
async fn every_open_stream_ends_once_the_token_of_its_caller_has_expired() {
    let guarded = Guarded::start_with(&format!("{}leeway_seconds = 0\n", Issuer::section()), &[]).await;
    let roles = ["reader", "writer", "events", "operator"];
    let open = async |bearer: String| Streams::open(&guarded, |_| bearer.clone()).await;
    let streams = before_its_token_expires(&guarded, &roles, open).await;
    streams.end_with(Code::Unauthenticated, "CREDENTIALS_EXPIRED").await;
}

#[tokio::test]
async fn a_stream_continues_when_the_file_changes_and_its_caller_may_still_follow() {
    let guarded = Guarded::start().await;
    let mut history = guarded.server().history().await;
    let request = guarded.request(EVENTS, StreamEventsRequest { follow: true, ..Default::default() });
    let mut events = history.stream_events(request).await.expect("opens").into_inner();
    // It also gets a role more, which changes nothing for this stream.
    let more = |text: String| text.replace("roles = [\"events\"]", "roles = [\"events\", \"operator\"]");
    guarded.edit_identities(|text| more(keep(&text, |name| name != "reader")));
    let mut queries = guarded.server().queries().await;
    until("the file has been read again", async || {
        let request = guarded.request(Caller::Known(Role::Reader), Default::default());
        queries.get_order_stats(request).await.is_err()
    })
    .await;
    let request = guarded.request(WRITER, new_order("customer-1"));
    guarded.server().commands().await.create_order(request).await.expect("accepted");
    until("the event of the new order", async || {
        let reply = soon("a reply", events.message()).await.expect("no error").expect("not the end");
        format!("{reply:?}").contains("Event(")
    })
    .await;
}

/// An open call of a caller, which sends one command at a time.
pub struct Open {
    sender: mpsc::Sender<ExecuteCommandsRequest>,
    replies: Streaming<ExecuteCommandsResponse>,
}

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Became {
    Done,
    /// It was refused; the call continues.
    Refused(Code, String),
    /// The call has ended.
    Over(Code, String),
}

impl Open {
    pub async fn with(guarded: &Guarded, authorization: &str) -> Self {
        let (sender, commands) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(commands));
        request.metadata_mut().insert("authorization", authorization.parse().expect("a value"));
        let replies = guarded.server().commands().await.execute_commands(request).await.expect("opens").into_inner();
        Self { sender, replies }
    }

    /// Sends the command to place an order. Fails once the call has ended, which its replies tell.
    async fn send(&self) {
        let command = Some(Command::CreateOrder(new_order("customer-1")));
        let _over = self.sender.send(ExecuteCommandsRequest { command, ..Default::default() }).await;
    }

    async fn reply(&mut self) -> Became {
        let reply = match soon("a reply", self.replies.message()).await {
            Ok(reply) => reply.expect("a call ends with a reason"),
            Err(status) => {
                let (code, reason) = code_and_reason(&status);
                return Became::Over(code, reason);
            }
        };
        match reply.outcome.expect("an outcome") {
            Outcome::Success(_) => Became::Done,
            Outcome::Error(error) => {
                let details = prost::Message::encode_to_vec(&error);
                let status = Status::with_details(Code::from(error.code), error.message, details.into());
                let (code, reason) = code_and_reason(&status);
                Became::Refused(code, reason)
            }
        }
    }

    pub async fn create(&mut self) -> Became {
        self.send().await;
        self.reply().await
    }

    /// Sends commands until the call has ended. Once one is refused all are, for the same reason.
    async fn until_over(&mut self, guarded: &Guarded) -> (Code, String) {
        let (mut refused, mut done) = (None, guarded.server().head().await);
        let end = until("the call ends", async || {
            match self.create().await {
                Became::Done if refused.is_none() => done += 1,
                Became::Done => panic!("a command was executed after a refusal"),
                Became::Refused(code, reason) => refused = Some((code, reason)),
                Became::Over(code, reason) => return Some((code, reason)),
            }
            None
        })
        .await;
        assert!(refused.is_none_or(|refused| refused == end), "refused as the call ends: {end:?}");
        assert_eq!(guarded.server().head().await, done, "nothing else was changed");
        end
    }
}

#[tokio::test]
async fn a_stream_of_commands_ends_once_its_key_is_withdrawn() {
    let guarded = Guarded::start().await;
    let key = guarded.bearer(WRITER).expect("a key");
    let mut open = Open::with(&guarded, &key).await;
    assert_eq!(open.create().await, Became::Done);
    guarded.edit_identities(|text| keep(&text, |name| name != "writer"));
    assert_eq!(open.until_over(&guarded).await, (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
}

#[tokio::test]
async fn a_stream_of_commands_ends_once_its_caller_has_lost_the_role() {
    let guarded = Guarded::start().await;
    let key = guarded.bearer(WRITER).expect("a key");
    let mut open = Open::with(&guarded, &key).await;
    assert_eq!(open.create().await, Became::Done);
    guarded.edit_identities(|text| text.replace("roles = [\"writer\"]", "roles = [\"reader\"]"));
    assert_eq!(open.until_over(&guarded).await, (Code::PermissionDenied, "ROLE_MISSING".to_owned()));
}

#[tokio::test]
async fn a_stream_of_commands_ends_once_its_token_has_expired() {
    let guarded = Guarded::start_with(&format!("{}leeway_seconds = 0\n", Issuer::section()), &[]).await;
    let open = async |bearer: String| {
        let mut open = Open::with(&guarded, &bearer).await;
        assert_eq!(open.create().await, Became::Done);
        open
    };
    let mut open = before_its_token_expires(&guarded, &["writer"], open).await;
    assert_eq!(open.until_over(&guarded).await, (Code::Unauthenticated, "CREDENTIALS_EXPIRED".to_owned()));
}

#[tokio::test]
async fn an_idle_stream_of_commands_ends_and_what_was_read_is_answered_first() {
    let (backends, store) = FaultyStore::backends();
    let guarded = Guarded::start_on("", backends).await;
    let key = guarded.bearer(WRITER).expect("a key");
    let mut open = Open::with(&guarded, &key).await;
    assert_eq!(open.create().await, Became::Done);
    store.appends.set(Mode::Hangs);
    open.send().await;
    until("the command is being executed", async || *store.appending.borrow() > 0).await;
    let mut system = guarded.server().system().await;
    guarded.edit_identities(|text| keep(&text, |name| name != "writer"));
    until("the file has been read again", async || {
        system.get_server_info(guarded.request(WRITER, Default::default())).await.is_err()
    })
    .await;
    store.appends.set(Mode::Works);
    assert_eq!(open.reply().await, Became::Done, "it was read before");
    assert_eq!(open.reply().await, Became::Over(Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
}
