//! Decides whether a server is used: by its properties, the log that it holds, and its user's permissions.

use redis::{ErrorKind, RedisError, Value, aio::MultiplexedConnection};

use super::{
    ends::{ENDS, Ends},
    keeper::Shared,
    permissions::{self, Roles},
    refusal::{Refusal, is_login_refused},
    server::ServerFacts,
};
use crate::ports::{
    event_store::{LogId, LossKind, TokenKey},
    io_errors::plainly,
};

impl Shared {
    /// Checks the server and decides whether it can be used.
    pub(super) async fn verify(&self, connection: &mut MultiplexedConnection) -> Result<ServerFacts, Refusal> {
        let mut facts = ServerFacts::read(connection).await.map_err(|error| self.refusal(&error))?;
        facts.has_sentinels = self.address.has_sentinels();
        if let Some(why) = facts.unfit().or_else(|| facts.evicts().filter(|_| self.roles().writes())) {
            return Err(Refusal::lasting(why));
        }
        if self.holds_log {
            self.verify_log(connection).await?;
            if self.roles().writes_log {
                self.verify_token_key(connection).await?;
            }
        }
        *self.facts.lock() = Some(facts.clone());
        Ok(facts)
    }

    /// Checks that the user has all permissions that the server's roles need.
    pub(super) async fn check_permissions(&self, connection: &mut MultiplexedConnection) -> Result<(), Refusal> {
        let (roles, user) = (self.roles(), self.address.user());
        let lacking = permissions::lacking(connection, roles, user, &self.options.prefix).await;
        let lacking = lacking.map_err(|error| self.refusal(&error))?;
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Refusal { is_permission: true, ..Refusal::lasting(lacking.join("; ")) })
    }

    /// The roles of the server: the log only if this connection serves one.
    fn roles(&self) -> Roles {
        let Roles { reads_log, writes_log, .. } = self.options.roles;
        Roles { reads_log: reads_log && self.holds_log, writes_log: writes_log && self.holds_log, ..self.options.roles }
    }

    pub(super) fn refusal(&self, error: &RedisError) -> Refusal {
        let is_permission = error.code() == Some("NOPERM");
        let (why, is_of_address) = (self.error_in_words(error), is_login_refused(error));
        Refusal { why, is_final: is_denied(error), is_permission, is_of_address, loss: None }
    }

    /// How to resolve a script's refusal.
    pub(super) fn refusal_in_words(&self, refusal: &str) -> String {
        permissions::in_words(refusal, self.address.user(), &self.options.prefix)
    }

    /// Reports at once that a log is damaged. Its intact part is still served: the checks report the same again.
    pub(super) async fn report_damage(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let log = format!("{{{}}}:log", self.options.prefix);
        let ends = ENDS.prepare().key(&log).run_on(connection).await?;
        if let Some(ends) = Ends::read(ends) {
            self.damage.look(&ends);
        }
        Ok(())
    }

    /// Checks that the server holds the same log as before; the first time, reads its id or creates it.
    async fn verify_log(&self, connection: &mut MultiplexedConnection) -> Result<(), Refusal> {
        let key = format!("{{{}}}:log-id", self.options.prefix);
        let refusal = |error: RedisError| self.key_refusal(&key, &error);
        let known = self.log.get().copied();
        let mut found: Option<String> = redis::cmd("GET").arg(&key).query_async(connection).await.map_err(refusal)?;
        if found.is_none() && known.is_none() && !self.options.makes_log {
            return Err(Refusal::lasting(format!("there is no log here: no key {key}")));
        }
        if found.is_none() && known.is_none() {
            // Of nodes that start together one creates it, and all read it. An existing log is never created again: if its id is gone, so are its
            // events.
            let mut make = redis::cmd("SET");
            make.arg(&key).arg(fastrand::u32(1..)).arg("NX");
            let _: Value = make.query_async(connection).await.map_err(refusal)?;
            found = redis::cmd("GET").arg(&key).query_async(connection).await.map_err(refusal)?;
        }
        if found.is_none() && known.is_some() {
            return Err(self.loss_refusal(LossKind::Gone));
        }
        let found = found.and_then(|id| id.parse().ok()).filter(|id| *id != 0).map(LogId);
        match (found, known) {
            (Some(found), None) => {
                // If another task was first, it has found the same id.
                let _ = self.log.set(found);
                Ok(())
            }
            (Some(found), Some(known)) if found == known => Ok(()),
            (_, Some(_)) => Err(self.loss_refusal(LossKind::Replaced)),
            (None, None) => Err(Refusal::lasting(format!("{key} is not the number of a log"))),
        }
    }

    /// Reads the key of the log, or creates it: a log of an earlier version has none. If the server has lost it, as after a premature fail-over, the
    /// key known to this node is written again.
    async fn verify_token_key(&self, connection: &mut MultiplexedConnection) -> Result<(), Refusal> {
        let name = format!("{{{}}}:log-key", self.options.prefix);
        let refusal = |error: RedisError| self.key_refusal(&name, &error);
        let mut found: Option<Vec<u8>> = redis::cmd("GET").arg(&name).query_async(connection).await.map_err(refusal)?;
        if found.is_none() {
            let known = *self.token_key.lock();
            let new = known.map_or_else(TokenKey::random, Ok).map_err(|why| Refusal::passing(why.to_string()))?;
            // Of nodes that do this together one creates it, and all read it.
            let mut make = redis::cmd("SET");
            make.arg(&name).arg(new.to_hex()).arg("NX");
            let _: Value = make.query_async(connection).await.map_err(refusal)?;
            found = redis::cmd("GET").arg(&name).query_async(connection).await.map_err(refusal)?;
        }
        let Some(found) = found.as_deref().and_then(TokenKey::from_hex) else {
            return Err(Refusal::lasting(format!("{name} is not the key of a log, 64 hexadecimal digits")));
        };
        *self.token_key.lock() = Some(found);
        Ok(())
    }

    /// The reason why the value of `key` cannot be used.
    fn key_refusal(&self, key: &str, error: &RedisError) -> Refusal {
        Refusal {
            is_final: is_denied(error) || error.code() == Some("WRONGTYPE"),
            why: format!("{key}: {}", self.error_in_words(error)),
            is_permission: false,
            is_of_address: false,
            loss: None,
        }
    }

    fn loss_refusal(&self, kind: LossKind) -> Refusal {
        Refusal { loss: Some(kind), ..Refusal::passing(self.lost_log(kind)) }
    }

    /// The message for a log that is not the one this node has been working on, or that is gone.
    fn lost_log(&self, kind: LossKind) -> String {
        let key = format!("{{{}}}:log-id", self.options.prefix);
        if kind == LossKind::Replaced {
            return format!(
                "{key} names another log than the one that this node uses: restore the data of that one, or restart the node to use the one \
                 that is there"
            );
        }
        format!(
            "the log that this node uses is gone, and {key} with it, as after FLUSHALL or a start of Redis without its files: restore its \
             data, or restart the node to begin a new log"
        )
    }

    /// A description of the error, and of its resolution if known.
    pub(super) fn error_in_words(&self, error: &RedisError) -> String {
        let text = error.to_string();
        if is_login_refused(error) {
            return format!(
                "it rejects the user name or the password, or requires them: give valid ones, the password by --redis-password-file, or both \
                 as in redis://user:password@host:port ({text})"
            );
        }
        match error.code() {
            Some("NOPERM") => self.refusal_in_words(&text),
            Some("NOLOG") => self.lost_log(if text.contains("another") { LossKind::Replaced } else { LossKind::Gone }),
            Some("MISCONF") => format!("Redis refuses writes because it cannot write to its own disk: {text}"),
            Some("NOREPLICAS") => {
                format!(
                    "Redis refuses writes while fewer replicas are connected than its min-replicas-to-write: {text}"
                )
            }
            Some("OOM") => format!("Redis has reached its maxmemory and accepts no more writes: {text}"),
            Some("READONLY") => format!("this Redis has become a replica and refuses writes: {text}"),
            Some(_) => text,
            None => plainly(&text),
        }
    }
}

/// Whether Redis knows the user and denies access.
fn is_denied(error: &RedisError) -> bool {
    is_login_refused(error) || error.code() == Some("NOPERM") || matches!(error.kind(), ErrorKind::InvalidClientConfig)
}
