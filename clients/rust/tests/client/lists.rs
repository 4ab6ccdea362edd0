//! Lists are read page by page.

use ordersystem_client::{
    OrderError,
    catga::orders::v1::{
        ListOrdersRequest, ListOrdersResponse, OrderSummary, order_query_service_client::OrderQueryServiceClient,
    },
    list_orders,
};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::fake::{Answer, FakeServer, failure, info, nothing, reply};

fn page(next: &str, ids: &[&str]) -> Answer {
    let orders = ids.iter().map(|id| OrderSummary { order_id: (*id).to_owned(), ..Default::default() }).collect();
    reply(&ListOrdersResponse { orders, next_page_token: next.to_owned(), ..Default::default() })
}

fn request() -> ListOrdersRequest {
    ListOrdersRequest {
        customer_id: "c".to_owned(),
        page_size: 2,
        page_token: "from here".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn all_pages_are_read_each_when_it_is_needed() {
    // A page may be empty and not the last.
    let fake = FakeServer::start([page("two", &["1", "2"]), page("three", &[]), page("", &["3"])]).await;
    let mut orders = list_orders(&OrderQueryServiceClient::new(fake.channel()), request());
    assert_eq!(fake.asked().len(), 0);
    for id in ["1", "2"] {
        assert_eq!(orders.order().await.unwrap().unwrap().order_id, id);
        assert_eq!(fake.asked().len(), 1);
    }
    let rest: Vec<_> = orders.map(|order| order.unwrap().order_id).collect().await;
    assert_eq!(rest, ["3"]);
    let expected =
        ["from here", "two", "three"].map(|token| ListOrdersRequest { page_token: token.to_owned(), ..request() });
    assert_eq!(fake.messages::<ListOrdersRequest>(), expected);
    assert!(fake.asked().iter().all(|asked| asked.headers.contains_key("grpc-timeout")));
}

#[tokio::test]
async fn a_page_that_is_refused_ends_the_list_with_its_error() {
    let lost = nothing().fail(failure(Code::InvalidArgument, vec![info("CURSOR_OF_ANOTHER_LOG")]));
    let fake = FakeServer::start([page("two", &["1"]), lost]).await;
    let mut orders = list_orders(&OrderQueryServiceClient::new(fake.channel()), request());
    orders.order().await.unwrap().unwrap();
    assert_eq!(OrderError::of(&orders.order().await.unwrap_err()).reason, "CURSOR_OF_ANOTHER_LOG");
    assert!(orders.order().await.unwrap().is_none());
}
