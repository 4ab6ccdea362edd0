//! Lua scripts: sent once, then called by their hash.

use std::sync::OnceLock;

use redis::{Cmd, RedisError, Value, aio::MultiplexedConnection};

use super::{
    connection::{CallError, Redis},
    pools::Lane,
};

/// One script, which Redis caches under its hash.
pub(super) struct Script {
    code: &'static str,
    hash: OnceLock<String>,
}

/// A call of a script: keys first, then arguments.
pub(super) struct ScriptCall {
    script: &'static Script,
    keys: usize,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    /// The script with this text.
    pub(super) const fn new(code: &'static str) -> Self {
        Self { code, hash: OnceLock::new() }
    }

    /// Its hash in Redis.
    fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned())
    }

    /// A call without keys or arguments yet.
    pub(super) fn prepare(&'static self) -> ScriptCall {
        ScriptCall { script: self, keys: 0, arguments: Vec::new() }
    }
}

impl ScriptCall {
    /// Adds a key; must come before the first argument.
    pub(super) fn key(mut self, key: &str) -> Self {
        self.keys += 1;
        self.arguments.push(key.as_bytes().to_vec());
        self
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a number as an argument.
    pub(super) fn number(self, number: impl ToString) -> Self {
        self.arg(number.to_string())
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let size = self.arguments.iter().map(|argument| argument.len() + 16).sum::<usize>();
        let mut command = Cmd::with_capacity(self.arguments.len() + 3, size + script.len() + 64);
        command.arg(name).arg(script).arg(self.keys);
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }

    /// Runs it. If the server does not have the script yet, its text is sent.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn run(&self, redis: &Redis) -> Result<Value, CallError> {
        let answer = redis.call(&self.command("EVALSHA", self.script.hash())).await;
        match answer {
            Err(CallError::Refused { code, .. }) if code == "NOSCRIPT" => {
                redis.call(&self.command("EVAL", self.script.code)).await
            }
            answer => answer,
        }
    }

    /// Like [`ScriptCall::run`], on a pooled connection.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn run_in(&self, redis: &Redis, lane: Lane) -> Result<Value, CallError> {
        let answer = redis.call_in(lane, &self.command("EVALSHA", self.script.hash())).await;
        match answer {
            Err(CallError::Refused { code, .. }) if code == "NOSCRIPT" => {
                redis.call_in(lane, &self.command("EVAL", self.script.code)).await
            }
            answer => answer,
        }
    }

    /// Like [`ScriptCall::run`], on a connection that is not in use yet.
    ///
    /// # Errors
    /// The error of Redis or the network.
    pub(super) async fn run_on(&self, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
        let answer = self.command("EVALSHA", self.script.hash()).query_async(connection).await;
        match answer {
            // A user without EVALSHA gets that error from the permission check instead.
            Err(error) if matches!(error.code(), Some("NOSCRIPT" | "NOPERM")) => {
                self.command("EVAL", self.script.code).query_async(connection).await
            }
            answer => answer,
        }
    }
}
