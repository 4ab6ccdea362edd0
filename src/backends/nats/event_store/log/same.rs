//! Checks that the stream still is the log of this node.

use super::{First, Log};
use crate::{backends::nats::api::CallError, ports::event_store::LossKind};

impl Log {
    /// Whether another log is known to be in the place of this one.
    pub(in crate::backends::nats::event_store) fn is_replaced(&self) -> bool {
        self.loss().borrow().as_ref().is_some_and(|loss| loss.kind == LossKind::Replaced)
    }

    /// Checks that the stream begins with the message that names this log.
    ///
    /// # Errors
    /// [`CallError::Lost`]: it begins with another one, or there is no reply.
    pub(in crate::backends::nats::event_store) async fn is_same(&self) -> Result<(), CallError> {
        match self.first_message().await {
            Ok(First::Names(found)) if self.id().is_none_or(|known| known == found) => Ok(()),
            Ok(_) => Err(CallError::Lost(format!("stream {} does not hold the log that this node uses", self.stream))),
            Err(unknown) => Err(CallError::Lost(unknown.why().to_owned())),
        }
    }
}
