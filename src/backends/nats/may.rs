//! Tests at the start whether the NATS user has the permissions that the service needs, without a change of what is stored.

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{
    api::{CallError, Which},
    connection::{ConnectError, Nats},
    permissions::refused_reply,
};

/// The message of a probe.
const PROBE: Bytes = Bytes::from_static(b"probe");
/// A request to purge that drops nothing: it ends before the first message. Without a valid request a server would drop everything.
const PURGE_NOTHING: Bytes = Bytes::from_static(b"{\"seq\":1}");

impl Nats {
    /// Whether this user may publish to `subject`. Other reasons why NATS would not accept a publish are reported by the caller that publishes.
    ///
    /// # Errors
    /// [`ConnectError::Fatal`] names the missing permission.
    pub(super) async fn may_publish(&self, subject: String) -> Result<(), ConnectError> {
        match self.probe(subject, Instant::now() + self.options().request_timeout).await {
            Err(CallError::Forbidden(why)) => Err(ConnectError::Fatal(why)),
            _ => Ok(()),
        }
    }

    /// Like [`Nats::may_publish`], for a subject with subscribers that must not receive a probe: the server checks the permission first, and then
    /// refuses the message for its reply subject, so that it reaches nobody.
    ///
    /// # Errors
    /// As [`Nats::may_publish`].
    pub(super) async fn may_publish_unseen(&self, subject: String) -> Result<(), ConnectError> {
        self.may_send_unseen(subject, PROBE).await
    }

    /// Whether this user may read single messages of `stream`.
    ///
    /// # Errors
    /// As [`Nats::may_publish`].
    pub(super) async fn may_read(&self, stream: &str) -> Result<(), ConnectError> {
        match self.message(stream, Which { seq: Some(1), ..Which::default() }).await {
            Err(CallError::Forbidden(why)) => Err(ConnectError::Fatal(why)),
            _ => Ok(()),
        }
    }

    /// Whether this user may read `stream` through consumers. Each call names none, so it does nothing; other reasons why consumers cannot be used are
    /// reported by the caller that reads. NATS never answers a request for the next message of a consumer that does not exist, so that one is probed.
    ///
    /// # Errors
    /// As [`Nats::may_publish`].
    pub(super) async fn may_consume(&self, stream: &str) -> Result<(), ConnectError> {
        let may = async |what: &str| match self.ask::<Value>(&format!("CONSUMER.{what}.{stream}.probe"), &()).await {
            Err(CallError::Forbidden(why)) => Err(ConnectError::Fatal(why)),
            _ => Ok(()),
        };
        let next = self.may_publish_unseen(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.probe"));
        tokio::try_join!(may("CREATE"), next, may("DELETE")).map(drop)
    }

    /// Whether this user may drop the messages of `stream` that nobody needs any longer: it would be full without that.
    ///
    /// # Errors
    /// As [`Nats::may_publish`].
    pub(super) async fn may_trim(&self, stream: &str) -> Result<(), ConnectError> {
        let list = self.may_publish_unseen(format!("$JS.API.CONSUMER.LIST.{stream}"));
        let purge = self.may_send_unseen(format!("$JS.API.STREAM.PURGE.{stream}"), PURGE_NOTHING);
        tokio::try_join!(list, purge).map(drop)
    }

    /// Whether this user may create a stream such as `stream`, and delete single messages of it.
    ///
    /// # Errors
    /// As [`Nats::may_publish`].
    pub(super) async fn may_keep(&self, stream: &str) -> Result<(), ConnectError> {
        let create = self.may_publish_unseen(format!("$JS.API.STREAM.CREATE.{stream}"));
        let delete = self.may_publish_unseen(format!("$JS.API.STREAM.MSG.DELETE.{stream}"));
        tokio::try_join!(create, delete).map(drop)
    }

    async fn may_send_unseen(&self, subject: String, message: Bytes) -> Result<(), ConnectError> {
        // On a later connection it would be sent late.
        if !self.is_connected() {
            return Ok(());
        }
        let (asked_at, reply) = (Instant::now(), refused_reply());
        let refused = async {
            let probe = self.client().publish_with_reply(subject.clone(), reply.clone(), message);
            probe.await.ok()?;
            tokio::select! {
                why = self.forbidden().publish_to(&subject, asked_at) => Some(why),
                _ = self.forbidden().publish_to(&reply, asked_at) => None,
            }
        };
        let refused = timeout(self.options().request_timeout, refused).await.ok().flatten();
        refused.map_or(Ok(()), |why| Err(ConnectError::Fatal(why)))
    }
}
