//! The details of a gRPC status.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The reason in a status's `google.rpc.ErrorInfo`.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("every error has an ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "ordersystem");
    info.reason
}

/// The code of a status with its reason.
pub fn code_and_reason(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

/// The metadata in a status's `google.rpc.ErrorInfo`.
pub fn facts(status: &Status) -> HashMap<String, String> {
    status.get_details_error_info().expect("every error has an ErrorInfo").metadata
}

/// Asserts that a status has a retry delay.
#[track_caller]
pub fn assert_retry_info(status: &Status) {
    let info = status.get_details_retry_info();
    let delay = info.and_then(|info| info.retry_delay).unwrap_or_else(|| panic!("no RetryInfo: {status:?}"));
    assert!(delay > Duration::ZERO && delay <= Duration::from_secs(60), "{delay:?}");
}

/// The fields that a status's `google.rpc.BadRequest` names.
pub fn violated_fields(status: &Status) -> Vec<String> {
    let bad_request = status.get_details_bad_request().unwrap_or_else(|| panic!("no BadRequest: {status:?}"));
    bad_request.field_violations.into_iter().map(|violation| violation.field).collect()
}
