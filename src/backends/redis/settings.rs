//! The settings of Redis.

use std::path::PathBuf;

use super::connection::RedisOptions;
use crate::{
    backends::descriptor::{Files, Unusable},
    settings::{ConfigError, Kind, ServerUrl, Setting, UrlForm, Values, parse::short_name, secrets},
};

const PASSWORD_FILE: &str = "redis-password-file";
pub(super) const CA: &str = "redis-ca";

/// The settings that name a file with a secret.
pub(super) const SECRETS: &[&str] = &[PASSWORD_FILE];

/// The form of an address.
pub(super) const FORM: UrlForm = UrlForm {
    schemes: &["redis", "rediss", "redis+sentinel", "rediss+sentinel"],
    takes_many: false,
    option: Some("protocol"),
    check: check_address,
};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "redis",
        Kind::ServerUrl(&FORM),
        "localhost:6379",
        "Redis server: host:port, redis[s]://[user:password@]host:port[/db], or \
         redis[s]+sentinel://[user:password@]host:port,…/service[/db]",
    )
    .or_appsettings("ConnectionStrings.Redis")
    .common(),
    Setting::optional(
        PASSWORD_FILE,
        Kind::File,
        "File with the password for Redis; its user, if any, is in the address",
    ),
    Setting::optional(
        CA,
        Kind::File,
        "PEM file with the authorities that sign the certificates of Redis and its Sentinels, in place of those of the system",
    ),
    Setting::new("redis-prefix", Kind::Text, "ordersystem", "Prefix of Redis keys: 1 to 64 of A-Z a-z 0-9 . _ -"),
    Setting::new(
        "redis-cache",
        Kind::Flag,
        "false",
        "Keep the state of orders in Redis too, shared by all nodes of the log",
    ),
];

/// The values of the settings.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// The server, with its password.
    pub server: ServerUrl,
    /// PEM file with the authorities that sign its certificates.
    pub ca: Option<PathBuf>,
    /// The prefix of all keys: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    pub prefix: String,
    /// Whether folded orders are cached in Redis, whatever the persistence.
    pub is_cache: bool,
}

impl RedisSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The setting that is invalid, and why.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        let server = values.parse("redis", |text| FORM.parse(text))?;
        let files = values.files(SETTINGS);
        Ok(Self {
            server: unlock(&server, &files).map_err(|(key, what)| values.error(key, what))?,
            ca: files.get(CA).cloned(),
            prefix: values.parse("redis-prefix", short_name)?,
            is_cache: values.switch("redis-cache")?,
        })
    }

    /// The options of a connection.
    pub(super) fn options(&self) -> RedisOptions {
        RedisOptions { ca: self.ca.clone(), ..RedisOptions::new(self.server.expose(), self.prefix.as_str()) }
    }
}

/// The address with the password from its file.
pub(super) fn unlock(address: &ServerUrl, files: &Files) -> Result<ServerUrl, Unusable> {
    let unusable = |what| (PASSWORD_FILE, what);
    match files.get(PASSWORD_FILE) {
        None => Ok(address.clone()),
        Some(file) => {
            let password = secrets::read(file).map_err(unusable)?;
            address.with_password(&password, "redis").map_err(unusable)
        }
    }
}

/// A database, and Sentinels with a service name.
fn check_address(scheme: &str, host_and_path: &str) -> Result<(), String> {
    let (hosts, path) = host_and_path.split_once('/').unwrap_or((host_and_path, ""));
    let db = if scheme.ends_with("+sentinel") {
        hosts.split(',').try_for_each(crate::settings::check_authority)?;
        let (service, db) = path.split_once('/').unwrap_or((path, ""));
        if service.is_empty() {
            return Err(
                "names no service after the Sentinels: write redis+sentinel://host:port,host:port/service".to_owned()
            );
        }
        db
    } else if host_and_path.contains(',') {
        return Err("takes one server and no options of other clients, such as abortConnect=false: write host:port, \
                    redis[s]://[user:password@]host:port[/db], or redis[s]+sentinel://[user:password@]host:port,host:port/service[/db]"
            .to_owned());
    } else {
        path.split('?').next().unwrap_or_default()
    };
    if db.is_empty() || db.parse::<u32>().is_ok() {
        return Ok(());
    }
    Err("ends with a database that is not a number".to_owned())
}
