//! Errors are read completely, and damaged details do not hide them.

use std::time::Duration;

use ordersystem_client::{
    FieldViolation, OrderError, Precondition,
    catga::orders::v1::{GetOrderRequest, order_query_service_client::OrderQueryServiceClient},
};
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::fake::{FakeServer, any, failure, info, nothing, retry_info};

fn details() -> Vec<Any> {
    let violation = pb::bad_request::FieldViolation {
        field: "a".to_owned(),
        description: "must be b".to_owned(),
        ..Default::default()
    };
    let standing = pb::precondition_failure::Violation {
        r#type: "ORDER_STATUS".to_owned(),
        subject: "orders/1".to_owned(),
        description: "d".to_owned(),
    };
    vec![
        info("SOME_REASON"),
        any("BadRequest", &pb::BadRequest { field_violations: vec![violation] }),
        any("PreconditionFailure", &pb::PreconditionFailure { violations: vec![standing] }),
        retry_info(1_500),
    ]
}

fn bare(code: Code, message: &str) -> OrderError {
    OrderError {
        code,
        message: message.to_owned(),
        reason: String::new(),
        domain: String::new(),
        metadata: [].into(),
        field_violations: Vec::new(),
        preconditions: Vec::new(),
        retry_delay: None,
    }
}

fn expected() -> OrderError {
    OrderError {
        reason: "SOME_REASON".to_owned(),
        domain: "ordersystem".to_owned(),
        metadata: [("order_id".to_owned(), "1".to_owned())].into(),
        field_violations: vec![FieldViolation { field: "a".to_owned(), description: "must be b".to_owned() }],
        preconditions: vec![Precondition {
            r#type: "ORDER_STATUS".to_owned(),
            subject: "orders/1".to_owned(),
            description: "d".to_owned(),
        }],
        retry_delay: Some(Duration::from_millis(1_500)),
        ..bare(Code::Aborted, "as scripted")
    }
}

/// The error as sent over the wire.
async fn seen(status: Status) -> OrderError {
    let fake = FakeServer::start([nothing().fail(status)]).await;
    let mut queries = OrderQueryServiceClient::new(fake.channel());
    OrderError::of(&queries.get_order(GetOrderRequest::default()).await.unwrap_err())
}

#[tokio::test]
async fn every_detail_of_a_failed_call_is_read() {
    assert_eq!(seen(failure(Code::Aborted, details())).await, expected());
}

#[test]
fn the_status_of_one_command_of_many_is_read_in_the_same_way() {
    let status = tonic_types::Status { code: 10, message: "as scripted".to_owned(), details: details() };
    assert_eq!(OrderError::of_status(&status), expected());
    let unknown = tonic_types::Status { code: 99, ..Default::default() };
    assert_eq!(OrderError::of_status(&unknown).code, Code::Unknown);
}

#[tokio::test]
async fn an_error_without_details_has_no_reason() {
    assert_eq!(seen(Status::internal("m")).await, bare(Code::Internal, "m"));
}

#[tokio::test]
async fn damaged_details_leave_the_code_and_the_message() {
    let damaged = Status::with_details(Code::Internal, "m", vec![0xff].into());
    assert_eq!(seen(damaged).await, bare(Code::Internal, "m"));
    let broken = Any { type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(), value: vec![0xff] };
    let later = Any { type_url: "type.googleapis.com/of.Tomorrow".to_owned(), value: Vec::new() };
    let status = tonic_types::Status { code: 3, message: "m".to_owned(), details: vec![broken, later, retry_info(5)] };
    let whole = OrderError { retry_delay: Some(Duration::from_millis(5)), ..bare(Code::InvalidArgument, "m") };
    assert_eq!(OrderError::of_status(&status), whole);
}

#[test]
fn retryable_errors_are_unavailable_or_have_a_delay() {
    assert!(bare(Code::Unavailable, "").is_retryable());
    assert!(OrderError { retry_delay: Some(Duration::ZERO), ..bare(Code::Aborted, "") }.is_retryable());
    assert!(!bare(Code::ResourceExhausted, "").is_retryable());
    assert!(!bare(Code::DeadlineExceeded, "").is_retryable());
}
