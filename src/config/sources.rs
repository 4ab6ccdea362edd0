//! The sources of values. Every source becomes `setting -> (raw text, source)`; the strongest source wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::file;
use super::settings::settings;
use crate::settings::{ConfigError, ENV_PREFIX, Raw, Setting, Source, env_name};

/// The flag and the variable suffix that name the configuration file; a file cannot name another one.
const CONFIG_FLAG: &str = "config";

/// The variable that names the file with the credentials of a command for a running node: no setting of a node.
pub const TOKEN_FILE_VARIABLE: &str = "ORDERSYSTEM_TOKEN_FILE";

/// The setting that variables of OpenTelemetry name as well.
const OTLP_ENDPOINT: &str = "otlp-endpoint";
/// These variables, the stronger one last. Our own is stronger than both. Empty means not set.
const OTLP_ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// An environment variable: name and value.
pub type Variable = (OsString, OsString);

/// The values from the command line. The type has no `Debug`: a raw address may contain a password.
#[derive(Clone, Default)]
pub struct FlagValues {
    /// The file named by `--config`.
    pub config_file: Option<PathBuf>,
    /// The raw value of each given flag, by the key of its setting; `true` for a switch.
    pub values: Vec<(&'static str, OsString)>,
}

impl FlagValues {
    /// The name of a given flag, if there is one.
    #[must_use]
    pub fn first(&self) -> Option<&'static str> {
        self.config_file.as_ref().map(|_| "config").or_else(|| self.values.first().map(|(key, _)| *key))
    }

    /// Merges these, given before a command, with `more`, given after it.
    ///
    /// # Errors
    /// If a flag is given in both places.
    pub fn and(mut self, more: Self) -> Result<Self, ConfigError> {
        let twice = |key: &str| ConfigError::new(format!("--{key} is given twice"));
        if self.config_file.is_some() && more.config_file.is_some() {
            return Err(twice("config"));
        }
        self.config_file = self.config_file.or(more.config_file);
        for (key, value) in more.values {
            if self.values.iter().any(|(given, _)| *given == key) {
                return Err(twice(key));
            }
            self.values.push((key, value));
        }
        Ok(self)
    }
}

/// The sources of a configuration, apart from the text of its file.
#[derive(Default)]
pub(super) struct Origin {
    flags: FlagValues,
    env: Vec<Variable>,
}

/// Shows neither flags nor variables: they may contain passwords.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}

impl Origin {
    /// The origin with these flags, and with the variables that may concern this program.
    pub(super) fn new(flags: &FlagValues, env: impl IntoIterator<Item = Variable>) -> Self {
        let concerns = |name: &str| name.starts_with(ENV_PREFIX) || OTLP_ENDPOINTS.contains(&name);
        let env = env.into_iter().filter(|(name, _)| concerns(&name.to_string_lossy()));
        Self { flags: flags.clone(), env: env.collect() }
    }

    /// The raw values of all settings that have one.
    pub(super) fn collect(&self) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
        let mut raws: BTreeMap<_, _> = settings().filter_map(default_of).collect();
        let (from_env, env_file) = read_env(&self.env)?;
        if let Some(path) = self.flags.config_file.clone().or(env_file) {
            raws.extend(file::read(&path)?);
        }
        raws.extend(from_env);
        for (key, value) in &self.flags.values {
            let source = Source::Flag(key);
            raws.insert(key, Raw { value: utf8(value, &source)?, source });
        }
        Ok(raws)
    }
}

fn default_of(setting: &Setting) -> Option<(&'static str, Raw)> {
    Some((setting.key, Raw { value: setting.default?.to_owned(), source: Source::Default }))
}

type EnvValues = (Vec<(&'static str, Raw)>, Option<PathBuf>);

fn read_env(env: &[Variable]) -> Result<EnvValues, ConfigError> {
    let (mut raws, mut config_file) = (Vec::new(), None);
    // Sorted, so that of several errors always the same one is reported.
    let mut ours: BTreeMap<String, &OsString> =
        env.iter().map(|(name, value)| (name.to_string_lossy().into_owned(), value)).collect();
    for name in OTLP_ENDPOINTS {
        if let Some(value) = ours.remove(name).filter(|value| !value.is_empty()) {
            let source = Source::Env(name.to_owned());
            raws.push((OTLP_ENDPOINT, Raw { value: utf8(value, &source)?, source }));
        }
    }
    for (name, value) in ours {
        if name == env_name(CONFIG_FLAG) {
            if value.is_empty() {
                return Err(ConfigError::new(format_args!("config: the name of the file is empty (set by {name})")));
            }
            config_file = Some(PathBuf::from(value));
            continue;
        }
        if name == TOKEN_FILE_VARIABLE {
            continue;
        }
        let Some(setting) = settings().find(|setting| env_name(setting.key) == name) else {
            return Err(unknown_variable(&name));
        };
        let source = Source::Env(name);
        let value = utf8(value, &source)?;
        if is_service_link(setting.key, &value) {
            return Err(ConfigError::new(format_args!(
                "{}: {source} was set by Kubernetes for a Service named ordersystem, not by you; set \
                 enableServiceLinks: false in the pod or name the Service otherwise",
                setting.key
            )));
        }
        raws.push((setting.key, Raw { value, source }));
    }
    Ok((raws, config_file))
}

/// Kubernetes sets `<SERVICE>_PORT=tcp://…` in every pod for each Service: a Service called `ordersystem` or `ordersystem-grpc` collides with a port
/// setting.
fn is_service_link(key: &str, value: &str) -> bool {
    key.ends_with("port") && value.starts_with("tcp://")
}

fn unknown_variable(name: &str) -> ConfigError {
    let kubernetes = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|part| name.contains(part));
    let hint = if kubernetes {
        "; if Kubernetes set it for a Service named ordersystem…, set enableServiceLinks: false in the pod"
    } else {
        ""
    };
    ConfigError::new(format_args!("unknown environment variable {name}: no setting has that name{hint}"))
}

fn utf8(value: &OsString, source: &Source) -> Result<String, ConfigError> {
    match value.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(ConfigError::new(format_args!("the value is not valid UTF-8 (set by {source})"))),
    }
}
