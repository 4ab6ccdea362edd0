//! Lua scripts: sent once, then called by their hash.

use std::sync::OnceLock;

use redis::{Cmd, RedisError, Value, aio::MultiplexedConnection};

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

    /// The command that calls the script by its hash.
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", self.script.hash())
    }

    /// The command that sends its text.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.code)
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

    /// Runs it on a connection that is not in use yet. If the server does not have the script yet, its text is sent.
    ///
    /// # Errors
    /// The error of Redis or the network.
    pub(super) async fn run_on(&self, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
        let answer = self.by_hash().query_async(connection).await;
        match answer {
            // A user without EVALSHA gets that error from the permission check instead.
            Err(error) if matches!(error.code(), Some("NOSCRIPT" | "NOPERM")) => {
                self.by_text().query_async(connection).await
            }
            answer => answer,
        }
    }
}
