//! Passwords and tokens from files: a command line is for every user of the machine to read.

use std::{fs::File, io::Read as _, path::Path};

use super::ConfigError;
use super::url::ServerUrl;
use super::values::{self, Values};

/// The longest password or token, in bytes.
const MAX_BYTES: u64 = 4_096;

/// The address of Redis, with the password of the file that is named for it.
pub(super) fn redis(values: &Values) -> Result<ServerUrl, ConfigError> {
    let address = address(values, "redis")?;
    match secret(values, "redis-password-file")? {
        None => Ok(address),
        Some(password) => {
            let with_password = address.with_password(&password, "redis");
            with_password.map_err(|what| values.error("redis-password-file", what))
        }
    }
}

/// The address of NATS, with the password or the token of the file that is named for it.
pub(super) fn nats(values: &Values) -> Result<ServerUrl, ConfigError> {
    let address = address(values, "nats")?;
    match (secret(values, "nats-password-file")?, secret(values, "nats-token-file")?) {
        (Some(_), Some(_)) => {
            Err(values.error("nats-token-file", "there is a file with a password: give one of the two"))
        }
        (Some(password), None) if address.user().is_some() => {
            let with_password = address.with_password(&password, "nats");
            with_password.map_err(|what| values.error("nats-password-file", what))
        }
        (Some(_), None) => {
            Err(values.error("nats-password-file", "the address names no user for it: nats://user@host:port"))
        }
        (None, Some(token)) => {
            let with_token = address.with_token(&token, "nats");
            with_token.map_err(|what| values.error("nats-token-file", what))
        }
        (None, None) => Ok(address),
    }
}

fn address(values: &Values, key: &str) -> Result<ServerUrl, ConfigError> {
    values.parse(key, |text| ServerUrl::parse(text, values::schemes(key)))
}

fn secret(values: &Values, key: &str) -> Result<Option<String>, ConfigError> {
    values.parse_optional(key, |file| read(Path::new(file)))
}

/// The only line of a file.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let name = file.display();
    let mut text = String::new();
    let opened = File::open(file).and_then(|opened| opened.take(MAX_BYTES + 1).read_to_string(&mut text));
    match opened {
        Err(error) => return Err(format!("{name} cannot be read: {error}")),
        Ok(_) if text.len() as u64 > MAX_BYTES => return Err(format!("{name} is longer than {MAX_BYTES} bytes")),
        Ok(_) => {}
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if line.contains(char::is_control) {
        return Err(format!("{name} holds more than one line of text"));
    }
    Ok(line.to_owned())
}
