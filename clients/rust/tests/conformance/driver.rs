//! Runs the conformance scenarios with this client; clients/conformance/README.md says what each step means.

use std::{
    collections::HashMap,
    future::Future,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ordersystem_client::{
    Channel, Command, Follow, OrderError, SendOptions,
    catga::{
        ids::v1::id_service_client::IdServiceClient,
        orders::v1::{
            execute_commands_response, order_command_service_client::OrderCommandServiceClient,
            order_history_service_client::OrderHistoryServiceClient,
            order_query_service_client::OrderQueryServiceClient,
        },
        system::v1::{admin_service_client::AdminServiceClient, system_service_client::SystemServiceClient},
    },
    connect, follow_events, follow_order, send_with,
};
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions, prost::Message,
};
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tonic::{Request, Response, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;

use crate::{
    matching::{Variables, check, resolve},
    server::{ALL_ROLES, Redis, Server, identities, persistence, root, with_identities},
};

const CALL_LIMIT_MS: u64 = 30_000;
const MESSAGE_LIMIT: Duration = Duration::from_secs(30);

/// The reply to a call, or the view of its error.
type Outcome = Result<Value, Value>;

const HISTORY: &str = "catga.orders.v1.OrderHistoryService";

/// The existing methods, to convert between messages and JSON.
#[derive(Clone)]
pub struct Api {
    pool: DescriptorPool,
}

impl Api {
    pub fn read() -> Api {
        let protos = [
            "catga/orders/v1/commands.proto",
            "catga/orders/v1/queries.proto",
            "catga/orders/v1/history.proto",
            "catga/ids/v1/ids.proto",
            "catga/system/v1/system.proto",
            "grpc/health/v1/health.proto",
        ];
        let set = protox::compile(protos, [root().join("proto"), root().join("clients/proto")]).unwrap();
        Api { pool: DescriptorPool::from_file_descriptor_set(set).unwrap() }
    }

    fn method(&self, name: &str) -> Result<MethodDescriptor, String> {
        let (service, method) = name.split_once('/').unwrap_or_default();
        let service = self.pool.get_service_by_name(service).ok_or_else(|| format!("there is no service of {name}"))?;
        service.methods().find(|found| found.name() == method).ok_or_else(|| format!("there is no method {name}"))
    }
}

fn from_json<M: Message + Default>(kind: MessageDescriptor, value: &Value) -> Result<M, String> {
    let value = if value.is_null() { &json!({}) } else { value };
    let message = DynamicMessage::deserialize(kind, value).map_err(|error| error.to_string())?;
    message.transcode_to().map_err(|error| error.to_string())
}

fn to_json<M: Message>(kind: MessageDescriptor, message: &M) -> Value {
    let message = DynamicMessage::decode(kind, message.encode_to_vec().as_slice()).unwrap();
    message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new()).unwrap()
}

/// An error as the scenarios describe it.
fn error_view(error: &OrderError) -> Value {
    let mut view = Map::new();
    view.insert("code".to_owned(), Value::from(code_name(error.code)));
    view.insert("message".to_owned(), Value::from(error.message.as_str()));
    if !error.reason.is_empty() {
        view.insert("reason".to_owned(), Value::from(error.reason.as_str()));
        view.insert("domain".to_owned(), Value::from(error.domain.as_str()));
        view.insert("metadata".to_owned(), json!(error.metadata));
    }
    let violations = error.field_violations.iter();
    let violations = violations.map(|v| json!({"field": v.field, "description": v.description})).collect();
    view.insert("fieldViolations".to_owned(), violations);
    let preconditions = error.preconditions.iter();
    let preconditions =
        preconditions.map(|p| json!({"type": p.r#type, "subject": p.subject, "description": p.description})).collect();
    view.insert("preconditions".to_owned(), preconditions);
    if let Some(delay) = error.retry_delay {
        view.insert("retryDelayMs".to_owned(), json!(delay.as_millis() as u64));
    }
    Value::Object(view)
}

/// `FAILED_PRECONDITION` for `FailedPrecondition`.
fn code_name(code: tonic::Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}

/// The scenarios of one file, on a separate server.
pub struct File {
    api: Api,
    server: Server,
    /// With which its scenarios begin.
    token: &'static str,
}

impl File {
    pub async fn start(api: &Api, content: &Value, folder: &Path, redis: Option<Arc<Redis>>, stem: &str) -> File {
        let mut more: Vec<String> = content["server"]["args"].as_array().map_or_else(Vec::new, |arguments| {
            arguments.iter().map(|argument| argument.as_str().unwrap().to_owned()).collect()
        });
        let is_asked = content["server"]["identities"] == true;
        if is_asked || with_identities() {
            more.extend(["--identities".to_owned(), identities(folder)]);
        }
        let token = if is_asked || !with_identities() { "" } else { ALL_ROLES };
        let mut server = Server::new(folder, redis, stem, &more);
        server.start().await;
        File { api: api.clone(), server, token }
    }

    /// Runs one scenario.
    pub async fn run(&mut self, steps: &[Value]) -> Result<(), String> {
        let token = Arc::new(Mutex::new(self.token.to_owned()));
        let mut run = Run {
            api: self.api.clone(),
            channel: channel(&self.server.address, &token),
            token,
            server: &mut self.server,
            variables: Variables::new(),
            readers: HashMap::new(),
        };
        let random = uuid::Uuid::new_v4().simple().to_string();
        run.variables.insert("run".to_owned(), Value::from(&random[..12]));
        run.variables.insert("persistence".to_owned(), Value::from(persistence()));
        for (index, step) in steps.iter().enumerate() {
            run.step(step).await.map_err(|error| format!("step {}, {step}: {error}", index + 1))?;
        }
        Ok(())
    }
}

/// A channel that sends the current token of a scenario.
fn channel(address: &str, token: &Arc<Mutex<String>>) -> Channel {
    let token = Arc::clone(token);
    connect(address).unwrap().with_token(move || Ok(token.lock().unwrap().clone()))
}

/// A message or the end of a stream.
#[derive(Debug)]
enum Item {
    Message(Value),
    Error(Value),
    End,
}

/// Reads a stream in the background, so that waiting for a message can time out.
struct Reader {
    items: mpsc::Receiver<Item>,
    task: JoinHandle<()>,
}

impl Reader {
    async fn next(&mut self) -> Result<Item, String> {
        let item = timeout(MESSAGE_LIMIT, self.items.recv()).await.map_err(|_| "no message in time")?;
        item.ok_or_else(|| "the stream has ended before".to_owned())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One run of one scenario. Old channels live on in the streams that use them.
struct Run<'f> {
    api: Api,
    server: &'f mut Server,
    channel: Channel,
    token: Arc<Mutex<String>>,
    variables: Variables,
    readers: HashMap<String, Reader>,
}

impl Run<'_> {
    async fn step(&mut self, step: &Value) -> Result<(), String> {
        let step = &resolve(step, &self.variables)?;
        let kinds = ["call", "send", "execute", "stream", "follow", "take", "end", "cancel", "server", "token"];
        let kind = kinds.into_iter().find(|kind| step.get(kind).is_some()).ok_or("no known kind of step")?;
        let name = step[kind].as_str().unwrap_or_default();
        match kind {
            "call" | "send" => {
                let outcome = match step.get("start_after_ms").and_then(Value::as_u64) {
                    Some(millis) => self.unary_while_starting(kind, name, step, millis).await?,
                    None => Self::unary(&self.api, &self.channel, kind, name, step).await?,
                };
                self.check(step, outcome)
            }
            "execute" => self.execute(step).await,
            "stream" | "follow" => {
                let handle = step["as"].as_str().ok_or("as must be a text")?.to_owned();
                let reader = if kind == "stream" { self.stream(name, step)? } else { self.follow(name, step)? };
                let before = self.readers.insert(handle, reader);
                before.map_or(Ok(()), |_| Err("the handle is taken".to_owned()))
            }
            "take" => {
                let patterns = step["expect"].as_array().ok_or("expect must be a list")?;
                for pattern in patterns {
                    match self.reader(name)?.next().await? {
                        Item::Message(message) => check(pattern, &message, &mut self.variables, "")?,
                        other => return Err(format!("expected a message, got {other:?}")),
                    }
                }
                Ok(())
            }
            "end" => match (self.reader(name)?.next().await?, step.get("error")) {
                (Item::End, None) => Ok(()),
                (Item::Error(error), Some(pattern)) => check(pattern, &error, &mut self.variables, ""),
                (other, _) => Err(format!("got {other:?}")),
            },
            "token" => {
                *self.token.lock().unwrap() = name.to_owned();
                Ok(())
            }
            "cancel" => self.readers.remove(name).map(drop).ok_or_else(|| format!("there is no {name}")),
            _ => self.control(name).await,
        }
    }

    fn reader(&mut self, handle: &str) -> Result<&mut Reader, String> {
        self.readers.get_mut(handle).ok_or_else(|| format!("there is no {handle}"))
    }

    async fn control(&mut self, action: &str) -> Result<(), String> {
        match action {
            "stop" => self.server.stop().await,
            "kill" => self.server.kill(),
            "start" => self.start().await,
            "restart" => {
                self.server.stop().await;
                self.start().await;
            }
            _ => return Err(format!("the server cannot {action}")),
        }
        Ok(())
    }

    async fn start(&mut self) {
        self.server.start().await;
        self.channel = channel(&self.server.address, &self.token);
    }

    /// Matches the reply or the error view against the step.
    fn check(&mut self, expected: &Value, outcome: Outcome) -> Result<(), String> {
        match (outcome, expected.get("error")) {
            (Ok(reply), None) => {
                let pattern = expected.get("expect").cloned().unwrap_or_else(|| json!({}));
                check(&pattern, &reply, &mut self.variables, "")
            }
            (Err(error), Some(pattern)) => check(pattern, &error, &mut self.variables, ""),
            (Ok(reply), Some(_)) => Err(format!("expected an error, got {reply}")),
            (Err(error), None) => Err(format!("expected success, got {error}")),
        }
    }

    /// As `unary`, while the server starts so many milliseconds after its beginning.
    async fn unary_while_starting(
        &mut self,
        kind: &str,
        name: &str,
        step: &Value,
        millis: u64,
    ) -> Result<Outcome, String> {
        let server = &mut self.server;
        let starting = async {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            server.start().await;
        };
        let ((), outcome) = tokio::join!(starting, Self::unary(&self.api, &self.channel, kind, name, step));
        self.channel = channel(&self.server.address, &self.token);
        outcome
    }

    /// Calls `name` once, or through `send`.
    async fn unary(api: &Api, channel: &Channel, kind: &str, name: &str, step: &Value) -> Result<Outcome, String> {
        let call = Call { method: api.method(name)?, step, is_send: kind == "send" };
        let mut commands = OrderCommandServiceClient::new(channel.clone());
        let mut queries = OrderQueryServiceClient::new(channel.clone());
        let mut ids = IdServiceClient::new(channel.clone());
        let mut system = SystemServiceClient::new(channel.clone());
        let mut admin = AdminServiceClient::new(channel.clone());
        let mut health = HealthClient::new(channel.clone());
        match name {
            "catga.orders.v1.OrderCommandService/CreateOrder" => {
                call.command(&commands.clone(), async |request| commands.create_order(request).await).await
            }
            "catga.orders.v1.OrderCommandService/PayOrder" => {
                call.command(&commands.clone(), async |request| commands.pay_order(request).await).await
            }
            "catga.orders.v1.OrderCommandService/ShipOrder" => {
                call.command(&commands.clone(), async |request| commands.ship_order(request).await).await
            }
            "catga.orders.v1.OrderCommandService/DeliverOrder" => {
                call.command(&commands.clone(), async |request| commands.deliver_order(request).await).await
            }
            "catga.orders.v1.OrderCommandService/CancelOrder" => {
                call.command(&commands.clone(), async |request| commands.cancel_order(request).await).await
            }
            "catga.orders.v1.OrderQueryService/GetOrder" => {
                call.once(async |request| queries.get_order(request).await).await
            }
            "catga.orders.v1.OrderQueryService/ListOrders" => {
                call.once(async |request| queries.list_orders(request).await).await
            }
            "catga.orders.v1.OrderQueryService/GetOrderStats" => {
                call.once(async |request| queries.get_order_stats(request).await).await
            }
            "catga.orders.v1.OrderQueryService/BatchGetOrders" => {
                call.once(async |request| queries.batch_get_orders(request).await).await
            }
            "catga.ids.v1.IdService/GenerateId" => call.once(async |request| ids.generate_id(request).await).await,
            "catga.ids.v1.IdService/GenerateIds" => call.once(async |request| ids.generate_ids(request).await).await,
            "catga.ids.v1.IdService/ParseId" => call.once(async |request| ids.parse_id(request).await).await,
            "catga.system.v1.SystemService/GetServerInfo" => {
                call.once(async |request| system.get_server_info(request).await).await
            }
            "catga.system.v1.SystemService/GetCluster" => {
                call.once(async |request| system.get_cluster(request).await).await
            }
            "catga.system.v1.SystemService/ListCircuitBreakers" => {
                call.once(async |request| system.list_circuit_breakers(request).await).await
            }
            "catga.system.v1.AdminService/GetConfiguration" => {
                call.once(async |request| admin.get_configuration(request).await).await
            }
            "catga.system.v1.AdminService/ListDeadLetters" => {
                call.once(async |request| admin.list_dead_letters(request).await).await
            }
            "catga.system.v1.AdminService/ReplayDeadLetters" => {
                call.once(async |request| admin.replay_dead_letters(request).await).await
            }
            "catga.system.v1.AdminService/DiscardDeadLetters" => {
                call.once(async |request| admin.discard_dead_letters(request).await).await
            }
            "catga.system.v1.AdminService/GetLogLevel" => {
                call.once(async |request| admin.get_log_level(request).await).await
            }
            "catga.system.v1.AdminService/SetLogLevel" => {
                call.once(async |request| admin.set_log_level(request).await).await
            }
            "grpc.health.v1.Health/Check" => call.once(async |request| health.check(request).await).await,
            _ => Err(format!("the driver has no {name}")),
        }
    }

    /// Sends many commands in one call.
    async fn execute(&mut self, step: &Value) -> Result<(), String> {
        let method = self.api.method("catga.orders.v1.OrderCommandService/ExecuteCommands")?;
        let requests = step["execute"].as_array().ok_or("execute must be a list")?;
        let requests = requests.iter().map(|request| from_json(method.input(), request));
        let mut request = Request::new(tokio_stream::iter(requests.collect::<Result<Vec<_>, _>>()?));
        request.set_timeout(Duration::from_millis(CALL_LIMIT_MS));
        let mut commands = OrderCommandServiceClient::new(self.channel.clone());
        let mut replies = commands.execute_commands(request).await.map_err(|error| error.to_string())?.into_inner();
        let success = self.api.pool.get_message_by_name("catga.orders.v1.CommandSuccess").unwrap();
        let mut expected = step["replies"].as_object().ok_or("replies must be a mapping")?.clone();
        while let Some(reply) = replies.message().await.map_err(|error| error.to_string())? {
            let pattern = expected.remove(&reply.correlation_id);
            let pattern = pattern.ok_or_else(|| format!("an unexpected reply to {}", reply.correlation_id))?;
            let outcome = match reply.outcome.ok_or("a reply without an outcome")? {
                execute_commands_response::Outcome::Success(done) => Ok(to_json(success.clone(), &done)),
                execute_commands_response::Outcome::Error(status) => Err(error_view(&OrderError::of_status(&status))),
            };
            self.check(&pattern, outcome).map_err(|error| format!("{}: {error}", reply.correlation_id))?;
        }
        if expected.is_empty() { Ok(()) } else { Err(format!("no reply to {:?}", expected.keys())) }
    }

    fn stream(&self, name: &str, step: &Value) -> Result<Reader, String> {
        let call = Call { method: self.api.method(name)?, step, is_send: false };
        let mut history = OrderHistoryServiceClient::new(self.channel.clone());
        let mut ids = IdServiceClient::new(self.channel.clone());
        let mut system = SystemServiceClient::new(self.channel.clone());
        let mut admin = AdminServiceClient::new(self.channel.clone());
        let mut health = HealthClient::new(self.channel.clone());
        match name {
            "catga.orders.v1.OrderHistoryService/StreamOrderHistory" => {
                let request = call.stream_request()?;
                Ok(call.read(async move { history.stream_order_history(request).await }))
            }
            "catga.orders.v1.OrderHistoryService/StreamEvents" => {
                let request = call.stream_request()?;
                Ok(call.read(async move { history.stream_events(request).await }))
            }
            "catga.ids.v1.IdService/StreamIds" => {
                let request = call.stream_request()?;
                Ok(call.read(async move { ids.stream_ids(request).await }))
            }
            "catga.system.v1.SystemService/WatchCluster" => {
                let request = call.stream_request()?;
                Ok(call.read(async move { system.watch_cluster(request).await }))
            }
            "catga.system.v1.AdminService/RebuildProjections" => {
                let request = call.stream_request()?;
                Ok(call.read(async move { admin.rebuild_projections(request).await }))
            }
            "grpc.health.v1.Health/Watch" => {
                let request = call.stream_request()?;
                Ok(call.read(async move { health.watch(request).await }))
            }
            _ => Err(format!("the driver has no {name}")),
        }
    }

    fn follow(&self, name: &str, step: &Value) -> Result<Reader, String> {
        let method = self.api.method(name)?;
        let (input, output) = (method.input(), method.output());
        let history = OrderHistoryServiceClient::new(self.channel.clone());
        match name.strip_prefix(HISTORY) {
            Some("/StreamEvents") => {
                Ok(read_follow(output, follow_events(&history, from_json(input, &step["request"])?)))
            }
            Some("/StreamOrderHistory") => {
                Ok(read_follow(output, follow_order(&history, from_json(input, &step["request"])?)))
            }
            _ => Err(format!("{name} cannot be followed")),
        }
    }
}

/// A call of the generated stub.
struct Call<'s> {
    method: MethodDescriptor,
    step: &'s Value,
    is_send: bool,
}

impl Call<'_> {
    fn limit(&self) -> Option<Duration> {
        self.step.get("deadline_ms").and_then(Value::as_u64).map(Duration::from_millis)
    }

    async fn once<Q: Message + Default, R: Message>(
        &self,
        method: impl AsyncFnOnce(Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<Outcome, String> {
        let mut request = Request::new(from_json(self.method.input(), &self.step["request"])?);
        request.set_timeout(self.limit().unwrap_or(Duration::from_millis(CALL_LIMIT_MS)));
        Ok(self.outcome(method(request).await.map(Response::into_inner)))
    }

    /// Calls the raw stub, or `send` with the same kind of message.
    async fn command<C: Command<Reply: Message> + Message + Default>(
        &self,
        commands: &OrderCommandServiceClient<Channel>,
        method: impl AsyncFnOnce(Request<C>) -> Result<Response<C::Reply>, Status>,
    ) -> Result<Outcome, String> {
        if !self.is_send {
            return self.once(method).await;
        }
        let mut command: C = from_json(self.method.input(), &self.step["request"])?;
        let timeout = self.limit().unwrap_or(SendOptions::default().timeout);
        let options = SendOptions { timeout, ..SendOptions::default() };
        Ok(self.outcome(send_with(commands, &mut command, options).await))
    }

    fn outcome<R: Message>(&self, outcome: Result<R, Status>) -> Outcome {
        outcome.map(|reply| to_json(self.method.output(), &reply)).map_err(|error| error_view(&OrderError::of(&error)))
    }

    fn stream_request<Q: Message + Default>(&self) -> Result<Request<Q>, String> {
        let mut request = Request::new(from_json(self.method.input(), &self.step["request"])?);
        self.limit().into_iter().for_each(|limit| request.set_timeout(limit));
        Ok(request)
    }

    fn read<R: Message + 'static>(
        &self,
        opening: impl Future<Output = Result<Response<Streaming<R>>, Status>> + Send + 'static,
    ) -> Reader {
        let kind = self.method.output();
        background(async move |items| {
            let mut stream = opening.await?.into_inner();
            while let Some(message) = stream.message().await? {
                if items.send(Item::Message(to_json(kind.clone(), &message))).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn read_follow<M: Message + 'static>(kind: MessageDescriptor, mut follow: Follow<M>) -> Reader {
    background(async move |items| {
        while let Some(message) = follow.message().await? {
            if items.send(Item::Message(to_json(kind.clone(), &message))).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

fn background<F>(read: impl FnOnce(mpsc::Sender<Item>) -> F) -> Reader
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    // Bounded: an endless stream must not fill the memory.
    let (sender, items) = mpsc::channel(16);
    let reading = read(sender.clone());
    let task = tokio::spawn(async move {
        let last = reading.await.map_or_else(|error| Item::Error(error_view(&OrderError::of(&error))), |()| Item::End);
        // The receiver may have gone.
        let _ = sender.send(last).await;
    });
    Reader { items, task }
}
