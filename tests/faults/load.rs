//! Clients that place and pay orders through all faults, and remember the replies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        CreateOrderRequest, CreateOrderResponse, GetOrderRequest, GetOrderResponse, NewOrderItem, PayOrderRequest,
        PayOrderResponse, order_command_service_client::OrderCommandServiceClient,
        order_query_service_client::OrderQueryServiceClient,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{PATIENCE, Process};

/// The pause before a refused call is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// The clients' knowledge.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    /// The orders of acknowledged creations, and the revision that the last acknowledged command left, by request id.
    acknowledged: HashMap<String, (String, i64)>,
    /// Creations that were sent and never answered.
    in_doubt: Vec<String>,
    /// The reasons of refusals, with their counts.
    refusals: HashMap<String, usize>,
}

impl Known {
    /// The number of orders that are known to exist.
    pub fn acknowledged(&self) -> usize {
        self.0.lock().unwrap().acknowledged.len()
    }

    /// The minimum revision of each acknowledged order, by order id.
    pub fn orders(&self) -> HashMap<String, i64> {
        self.0.lock().unwrap().acknowledged.values().cloned().collect()
    }

    /// How often clients were refused for this reason.
    pub fn refusals(&self, reason: &str) -> usize {
        self.0.lock().unwrap().refusals.get(reason).copied().unwrap_or(0)
    }

    pub fn note(&self, request_id: &str, order_id: &str, revision: i64) {
        let known = (order_id.to_owned(), revision);
        self.0.lock().unwrap().acknowledged.insert(request_id.to_owned(), known);
    }

    fn note_refusal(&self, status: &Status) {
        let reason = status.get_details_error_info().map_or_else(|| format!("{:?}", status.code()), |info| info.reason);
        *self.0.lock().unwrap().refusals.entry(reason).or_default() += 1;
    }
}

/// One item for one dollar, for a customer named `customer`.
pub fn new_order(customer: &str, request_id: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        customer_id: customer.to_owned(),
        request_id: request_id.to_owned(),
        items: vec![NewOrderItem {
            product_id: "prod-1".to_owned(),
            name: "Pen".to_owned(),
            quantity: 1,
            unit_price: Some(Money { currency_code: "USD".to_owned(), units: 1, nanos: 0 }),
        }],
        ..Default::default()
    }
}

/// The payment of the order that `request_id` has created.
pub fn payment(order_id: &str, request_id: &str) -> PayOrderRequest {
    PayOrderRequest {
        order_id: order_id.to_owned(),
        payment_method: "card".to_owned(),
        request_id: format!("pay-{request_id}"),
        ..Default::default()
    }
}

/// Whether an outage explains the refusal. Answers of the service have a reason; an error without one is a broken connection.
fn is_outage(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
        || status.get_details_error_info().is_none()
}

/// The outcome of a call that is repeated while an outage explains its refusal: on a busy machine a broker may be silent for seconds. A command needs a
/// request id.
pub async fn settled<C: Clone, R: Clone, T, F>(client: &C, request: R, call: impl Fn(C, R) -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call(client.clone(), request.clone()).await {
            Err(status) if is_outage(&status) && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            outcome => return outcome.map(Response::into_inner),
        }
    }
}

/// The reply to such a call, which must not be refused.
pub async fn answered<C: Clone, R: Clone, T, F>(client: &C, request: R, call: impl Fn(C, R) -> F) -> T
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    settled(client, request, call).await.expect("a reply")
}

/// The reply to CreateOrder.
pub async fn create(client: &OrderCommandServiceClient<Channel>, request: CreateOrderRequest) -> CreateOrderResponse {
    answered(client, request, |mut client, request| async move { client.create_order(request).await }).await
}

/// The reply to PayOrder.
pub async fn pay(client: &OrderCommandServiceClient<Channel>, request: PayOrderRequest) -> PayOrderResponse {
    answered(client, request, |mut client, request| async move { client.pay_order(request).await }).await
}

/// The reply to GetOrder.
pub async fn get_order(client: &OrderQueryServiceClient<Channel>, request: GetOrderRequest) -> GetOrderResponse {
    answered(client, request, |mut client, request| async move { client.get_order(request).await }).await
}

/// `clients` clients that work until the service is gone. Their orders are named after `round`.
pub async fn until_gone(service: &Process, clients: usize, round: usize, known: &Known) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        tasks.spawn(work_until_gone(service.commands().await, known.clone(), format!("{round}-{client}")));
    }
    tasks
}

async fn work_until_gone(mut client: OrderCommandServiceClient<Channel>, known: Known, name: String) {
    for index in 0.. {
        let request_id = format!("{name}-{index}");
        let Ok(reply) = client.create_order(new_order(&name, &request_id)).await else {
            known.0.lock().unwrap().in_doubt.push(request_id);
            return;
        };
        let order_id = reply.into_inner().order.unwrap().order_id;
        known.note(&request_id, &order_id, 1);
        let Ok(reply) = client.pay_order(payment(&order_id, &request_id)).await else { return };
        known.note(&request_id, &order_id, reply.into_inner().order.unwrap().revision);
    }
}

/// Sends every command once more under its request id: acknowledged commands return the same reply, and commands with an unknown outcome
/// take effect now at the latest. Finally all orders are paid.
pub async fn retry_all(service: &Process, known: &Known) {
    let (acknowledged, in_doubt) = {
        let mut notes = known.0.lock().unwrap();
        (notes.acknowledged.clone(), std::mem::take(&mut notes.in_doubt))
    };
    let mut tasks = JoinSet::new();
    let all: Vec<_> = acknowledged.keys().cloned().chain(in_doubt).collect();
    let acknowledged = Arc::new(acknowledged);
    for part in all.chunks(all.len().div_ceil(16).max(1)) {
        let (client, known, acknowledged) = (service.commands().await, known.clone(), Arc::clone(&acknowledged));
        let part = part.to_vec();
        tasks.spawn(async move {
            for request_id in part {
                let name = request_id.rsplit_once('-').unwrap().0;
                let reply = create(&client, new_order(name, &request_id)).await;
                let order_id = reply.order.unwrap().order_id;
                if let Some((first, _)) = acknowledged.get(&request_id) {
                    assert_eq!(&order_id, first, "an acknowledged order is lost, or made twice");
                }
                let paid = pay(&client, payment(&order_id, &request_id)).await;
                assert_eq!(paid.order.unwrap().revision, 2);
                known.note(&request_id, &order_id, 2);
            }
        });
    }
    tasks.join_all().await;
}

/// `clients` clients that work until `stop`, and repeat each command under its request id until it is answered.
pub async fn through_all(service: &Process, clients: usize, known: &Known, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    through_all_as(service, 0, clients, known, stop, &mut tasks).await;
    tasks
}

/// The same among other clients: `group` marks whose orders they are.
pub async fn through_all_as(
    service: &Process,
    group: usize,
    clients: usize,
    known: &Known,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    for client in 0..clients {
        let worker =
            Worker { client: service.commands().await, known: known.clone(), name: format!("{group}-{client}") };
        tasks.spawn(worker.work_until(stop.clone()));
    }
}

struct Worker {
    client: OrderCommandServiceClient<Channel>,
    known: Known,
    name: String,
}

impl Worker {
    async fn work_until(mut self, stop: CancellationToken) {
        for index in 0.. {
            if stop.is_cancelled() {
                return;
            }
            let request_id = format!("{}-{index}", self.name);
            let order_id = loop {
                match self.client.create_order(new_order(&self.name, &request_id)).await {
                    Ok(reply) => break reply.into_inner().order.unwrap().order_id,
                    Err(status) => self.bear(&status).await,
                }
            };
            self.known.note(&request_id, &order_id, 1);
            let revision = loop {
                match self.client.pay_order(payment(&order_id, &request_id)).await {
                    Ok(reply) => break reply.into_inner().order.unwrap().revision,
                    Err(status) => self.bear(&status).await,
                }
            };
            assert_eq!(revision, 2, "order {order_id} was created and paid once each");
            self.known.note(&request_id, &order_id, revision);
        }
    }

    /// Waits after a refusal that an outage explains. Any other would be a wrong answer.
    async fn bear(&self, status: &Status) {
        assert!(is_outage(status), "{status:?}");
        self.known.note_refusal(status);
        tokio::time::sleep(PAUSE).await;
    }
}
