//! The requirements of the helpers on the channel below the stubs.

use bytes::Bytes;
use http_body::Body as HttpBody;
use tonic::{body::Body, client::GrpcService, codegen::StdError};

/// A channel that stubs can use in any task: [`Channel`](crate::Channel), also with an interceptor around it. Implemented for every
/// suitable type.
pub trait Transport:
    GrpcService<
        Body,
        Error: Into<StdError>,
        Future: Send,
        ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Transport for T where
    T: GrpcService<
            Body,
            Error: Into<StdError>,
            Future: Send,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}
