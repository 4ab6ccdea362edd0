//! A tour of the order service: the life of an order, errors, a retry, a followed history, health, a deadline.
//!
//! usage: `example ADDRESS`
//!
//! Halfway it waits for a line on standard input: restart the service then, and see the history resume. That needs a durable service, such
//! as `ordersystem --persistence embedded --data-dir DIR`.

use std::{error::Error, time::Duration};

use ordersystem_client::{
    Channel, Follow, OrderError,
    catga::{
        events::v1::{OrderEvent, order_event::Event},
        ids::v1::{GenerateIdsRequest, id_service_client::IdServiceClient},
        orders::v1::{
            CreateOrderRequest, DeliverOrderRequest, NewOrderItem, Order, PayOrderRequest, ShipOrderRequest,
            StreamEventsRequest, StreamEventsResponse, StreamStart,
            order_command_service_client::OrderCommandServiceClient,
            order_history_service_client::OrderHistoryServiceClient, stream_events_response::Item,
        },
    },
    connect, follow_events,
    google::r#type::Money,
    send,
};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: example ADDRESS")?;
    let channel = connect(&address)?;
    show_health(&channel).await?;
    let order = place_and_pay(&channel).await?;
    let cursor = read_history(&channel, &order).await?;
    println!("restart the service if you like, then press Enter");
    BufReader::new(stdin()).read_line(&mut String::new()).await?;
    finish(&channel, &order, cursor).await?;
    show_deadline(&channel).await;
    Ok(())
}

async fn show_health(channel: &Channel) -> Result<(), Box<dyn Error>> {
    let mut request = Request::new(HealthCheckRequest { service: "readiness".to_owned() });
    request.set_timeout(LIMIT);
    let answer = HealthClient::new(channel.clone()).check(request).await?;
    println!("readiness: {}", answer.get_ref().status().as_str_name());
    Ok(())
}

async fn place_and_pay(channel: &Channel) -> Result<Order, Box<dyn Error>> {
    let mut commands = OrderCommandServiceClient::new(channel.clone());
    let laptop = NewOrderItem {
        product_id: "prod-1".to_owned(),
        name: "Laptop".to_owned(),
        quantity: 1,
        unit_price: Some(Money::parse("999.99", "USD")?),
    };
    // A customer unique to this run, to distinguish its events from others.
    let customer_id = format!("customer-{}", Uuid::new_v4());
    let create = CreateOrderRequest { customer_id, items: vec![laptop], ..Default::default() };
    let created = send(&commands, create).await?;
    let order = created.order.unwrap_or_default();
    println!("placed: {}", order.status().as_str_name());

    if let Err(error) = send(&commands, shipping(&order)).await {
        let facts = OrderError::of(&error);
        println!("refused: {:?} {} {}", facts.code, facts.reason, facts.metadata["status"]);
    }

    let pay = PayOrderRequest {
        request_id: Uuid::new_v4().to_string(),
        order_id: order.order_id,
        payment_method: "credit_card".to_owned(),
        ..Default::default()
    };
    let first = commands.pay_order(pay.clone()).await?.into_inner();
    let second = send(&commands, pay).await?;
    let is_same = first == second;
    let order = first.order.unwrap_or_default();
    println!("paid: {} - the retry got the first answer: {is_same}", order.status().as_str_name());
    Ok(order)
}

fn shipping(order: &Order) -> ShipOrderRequest {
    let (order_id, tracking_number) = (order.order_id.clone(), "TRACK-1".to_owned());
    ShipOrderRequest { order_id, tracking_number, ..Default::default() }
}

/// Reads the existing events; returns the cursor to resume from.
async fn read_history(channel: &Channel, order: &Order) -> Result<String, Box<dyn Error>> {
    let request =
        StreamEventsRequest { customer_ids: vec![order.customer_id.clone()], follow: true, ..Default::default() };
    let mut events = follow_events(&OrderHistoryServiceClient::new(channel.clone()), request);
    while let Some(message) = events.message().await? {
        match message.item {
            Some(Item::Event(event)) => show(&event),
            Some(Item::CaughtUp(_)) => break,
            Some(Item::Heartbeat(_)) | None => {}
        }
    }
    Ok(events.cursor().to_owned())
}

/// Ships and delivers the order, and resumes reading the history.
async fn finish(channel: &Channel, order: &Order, cursor: String) -> Result<(), Box<dyn Error>> {
    let commands = OrderCommandServiceClient::new(channel.clone());
    let request = StreamEventsRequest {
        customer_ids: vec![order.customer_id.clone()],
        start: StreamStart::After.into(),
        cursor,
        follow: true,
        ..Default::default()
    };
    let mut events = follow_events(&OrderHistoryServiceClient::new(channel.clone()), request);
    send(&commands, shipping(order)).await?;
    show_next(&mut events).await?;
    let deliver = DeliverOrderRequest { order_id: order.order_id.clone(), ..Default::default() };
    send(&commands, deliver).await?;
    show_next(&mut events).await
}

/// Shows the next event, and skips other messages.
async fn show_next(events: &mut Follow<StreamEventsResponse>) -> Result<(), Box<dyn Error>> {
    while let Some(message) = events.message().await? {
        if let Some(Item::Event(event)) = message.item {
            show(&event);
            break;
        }
    }
    Ok(())
}

fn show(event: &OrderEvent) {
    let what = match &event.event {
        Some(Event::OrderCreated(_)) => "created",
        Some(Event::OrderPaid(_)) => "paid",
        Some(Event::OrderShipped(_)) => "shipped",
        Some(Event::OrderDelivered(_)) => "delivered",
        Some(Event::OrderCancelled(_)) => "cancelled",
        None => "of a kind that this client does not know",
    };
    println!("event: {} {what}", event.revision);
}

async fn show_deadline(channel: &Channel) {
    // A node issues at most 4096 ids per millisecond.
    let mut request = Request::new(GenerateIdsRequest { count: 100_000 });
    request.set_timeout(Duration::from_millis(5));
    if let Err(error) = IdServiceClient::new(channel.clone()).generate_ids(request).await {
        println!("too late: {:?}", OrderError::of(&error).code);
    }
}
