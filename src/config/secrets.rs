//! Passwords and tokens from files, since every user of the machine can read a command line.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::ConfigError;
use super::url::ServerUrl;
use super::values::{self, Values};

const REDIS_PASSWORD: &str = "redis-password-file";
const NATS_PASSWORD: &str = "nats-password-file";
const NATS_TOKEN: &str = "nats-token-file";

/// The maximum length of a password or token, in bytes.
const MAX_BYTES: u64 = 4_096;

/// The address of Redis, with the password from its configured file.
pub(super) fn redis(values: &Values) -> Result<ServerUrl, ConfigError> {
    let address = address(values, "redis")?;
    let files = SecretFiles::of(|key| values.parse_optional(key, |file| Ok(PathBuf::from(file))))?;
    files.redis(&address).map_err(|(key, what)| values.error(key, what))
}

/// The address of NATS, with the password or the token from its configured file.
pub(super) fn nats(values: &Values) -> Result<ServerUrl, ConfigError> {
    let address = address(values, "nats")?;
    let files = SecretFiles::of(|key| values.parse_optional(key, |file| Ok(PathBuf::from(file))))?;
    files.nats(&address).map_err(|(key, what)| values.error(key, what))
}

/// The files with secrets for the brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFiles {
    redis_password: Option<PathBuf>,
    nats_password: Option<PathBuf>,
    nats_token: Option<PathBuf>,
}

/// The setting of an unusable file, and the reason.
type Unusable = (&'static str, String);

impl SecretFiles {
    /// The settings that name the files.
    pub const SETTINGS: [&str; 3] = [REDIS_PASSWORD, NATS_PASSWORD, NATS_TOKEN];

    /// The files that `named` returns for the settings.
    ///
    /// # Errors
    /// As `named`.
    pub fn of<E>(named: impl Fn(&'static str) -> Result<Option<PathBuf>, E>) -> Result<Self, E> {
        let [redis_password, nats_password, nats_token] =
            [named(REDIS_PASSWORD)?, named(NATS_PASSWORD)?, named(NATS_TOKEN)?];
        Ok(Self { redis_password, nats_password, nats_token })
    }

    /// The address of Redis with the password from the file.
    ///
    /// # Errors
    /// The setting, and why its file is unusable.
    pub(super) fn redis(&self, address: &ServerUrl) -> Result<ServerUrl, Unusable> {
        let unusable = |what| (REDIS_PASSWORD, what);
        match &self.redis_password {
            None => Ok(address.clone()),
            Some(file) => {
                let password = read(file).map_err(unusable)?;
                address.with_password(&password, "redis").map_err(unusable)
            }
        }
    }

    /// The address of NATS with the password or the token from the file.
    ///
    /// # Errors
    /// As [`SecretFiles::redis`].
    pub(super) fn nats(&self, address: &ServerUrl) -> Result<ServerUrl, Unusable> {
        match (&self.nats_password, &self.nats_token) {
            (Some(_), Some(_)) => Err((NATS_TOKEN, "there is a file with a password: give one of the two".to_owned())),
            (Some(_), None) if address.user().is_none() => {
                Err((NATS_PASSWORD, "the address names no user for it: nats://user@host:port".to_owned()))
            }
            (Some(file), None) => {
                let unusable = |what| (NATS_PASSWORD, what);
                let password = read(file).map_err(unusable)?;
                address.with_password(&password, "nats").map_err(unusable)
            }
            (None, Some(file)) => {
                let unusable = |what| (NATS_TOKEN, what);
                let token = read(file).map_err(unusable)?;
                address.with_token(&token, "nats").map_err(unusable)
            }
            (None, None) => Ok(address.clone()),
        }
    }
}

fn address(values: &Values, key: &str) -> Result<ServerUrl, ConfigError> {
    values.parse(key, |text| ServerUrl::parse(text, values::schemes(key)))
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
