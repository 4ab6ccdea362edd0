//! The errors that tonic creates itself.

use tonic::{Code, Status};

use crate::{
    application::requests::Field,
    server::error::{ApiError, Reason},
};

/// Gives an error of tonic the code and details of this service; leaves our own errors unchanged.
pub fn refine(status: Status, max_message_bytes: usize) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let message = status.message();
    match status.code() {
        // For a message that is too large as received, or while it is being decompressed.
        Code::OutOfRange | Code::ResourceExhausted => ApiError::too_large(max_message_bytes).to_status(),
        Code::Internal if message.contains("decode Protobuf") => {
            ApiError::invalid(Field::Request, "is not an encoded message of this call's type").to_status()
        }
        Code::Unimplemented if message.contains("compressed with") => {
            let mut refined = ApiError::new(Reason::CompressionNotSupported, message).to_status();
            // The status carries the encodings that the client may use instead.
            *refined.metadata_mut() = status.metadata().clone();
            refined
        }
        Code::Unimplemented => {
            let message = if message.is_empty() { "there is no such service or method" } else { message };
            ApiError::new(Reason::RouteNotFound, message).to_status()
        }
        // Only the health service returns this.
        Code::NotFound => ApiError::new(Reason::ServiceNotFound, message).to_status(),
        // The frames of the call are malformed, or it ended within one; or its text is not base64.
        Code::Internal | Code::DataLoss => {
            ApiError::invalid(Field::Request, "is not a well-formed gRPC message").to_status()
        }
        _ => status,
    }
}
