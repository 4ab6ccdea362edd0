mod validation;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::settings::settings;
use super::*;
use crate::{
    backends::{nats::settings::NatsSettings, redis::settings::RedisSettings},
    settings::{Kind, file_key},
};

const APPSETTINGS: &str = r#"{
  "DistributedId": {
    "WorkerId": 1,
    "DataCenterId": 1
  },
  "Nats": {
    "Url": "nats://localhost:4222"
  },
  "ConnectionStrings": {
    "Redis": "localhost:6379"
  }
}"#;

/// The input of one test; the process environment is not used.
#[derive(Default)]
struct Given {
    flags: FlagValues,
    env: Vec<(OsString, OsString)>,
    folder: Option<tempfile::TempDir>,
}

impl Given {
    fn flag(mut self, key: &'static str, value: &str) -> Self {
        self.flags.values.push((key, value.into()));
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn file(mut self, name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        self.flags.config_file = Some(folder.path().join(name));
        self.folder = Some(folder);
        self
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.flags, self.env.clone())
    }

    fn values(&self) -> Values {
        Values::new(settings::groups(), sources::Origin::new(&self.flags, self.env.clone()).collect().unwrap()).unwrap()
    }

    fn redis(&self) -> RedisSettings {
        RedisSettings::of(&self.values()).unwrap()
    }

    fn nats(&self) -> NatsSettings {
        NatsSettings::of(&self.values()).unwrap()
    }

    fn error(&self) -> String {
        let error = self.load().unwrap_err().to_string();
        assert!(!error.contains('\n'), "one line: {error}");
        error
    }
}

fn given() -> Given {
    Given::default()
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn without_any_source_the_defaults_hold() {
    let config = given().load().unwrap();
    assert_eq!((config.transport.name, config.persistence.name), ("inmemory", "inmemory"));
    assert_eq!(config.server.address().to_string(), "127.0.0.1:5000");
    assert_eq!(config.server.grpc_address(), None);
    assert_eq!(config.node.id, NodeId::Auto);
    assert_eq!(config.node.data_dir, None);
    assert_eq!(given().redis().server.expose(), "localhost:6379");
    assert_eq!(config.server.max_message_bytes, 4 * 1024 * 1024);
    assert!(!config.cluster && config.server.cors_allowed_origins.is_empty());
    assert!(config.effective.iter().all(|row| row.source == Source::Default));
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_default() {
    let file = given().file("c.toml", "port = 1\nbind = '0.0.0.0'\nlog_level = 'warn'\n");
    let env = file.env("ORDERSYSTEM_PORT", "2").env("ORDERSYSTEM_BIND", "::");
    let config = env.flag("port", "3").load().unwrap();
    assert_eq!(config.server.address().to_string(), "[::]:3");
    assert_eq!(config.log.level, "warn");
    let source = |key| config.effective.iter().find(|row| row.key == key).unwrap().source.to_string();
    assert_eq!(source("port"), "--port");
    assert_eq!(source("bind"), "ORDERSYSTEM_BIND");
    assert!(source("log-level").starts_with("log_level in /"), "{}", source("log-level"));
    assert_eq!(source("log-format"), "default");
}

#[test]
fn the_appsettings_of_the_dotnet_sample_is_accepted_as_json_and_as_toml() {
    let toml = "[DistributedId]\nWorkerId = 1\nDataCenterId = 1\n[Nats]\nUrl = 'nats://localhost:4222'\n\
                [ConnectionStrings]\nRedis = 'localhost:6379'\n";
    let with_mark = format!("\u{feff}{APPSETTINGS}");
    for (name, text) in [("appsettings.json", APPSETTINGS), ("bom.JSON", &with_mark), ("a.toml", toml)] {
        let given = given().file(name, text);
        let config = given.load().unwrap();
        assert_eq!(config.node.identity.worker_id(), 1);
        assert_eq!(config.node.identity.datacenter_id(), 1);
        assert_eq!(given.nats().server.expose(), "nats://localhost:4222");
        assert!(config.to_string().contains("worker_id = 1  # DistributedId.WorkerId in "), "{config}");
    }
}

#[test]
fn our_own_keys_are_accepted_in_both_formats() {
    let toml = "port = 5001\nnode_id = 'a'\nmax_in_flight = 7\ncors_allowed_origins = ['http://a.example', 'http://b.example:1']\n";
    let json = r#"{"port": 5001, "node_id": "a", "max_in_flight": "7", "cors_allowed_origins": "http://a.example,http://b.example:1"}"#;
    for (name, text) in [("c.toml", toml), ("c.json", json)] {
        let config = given().file(name, text).load().unwrap();
        assert_eq!(config.server.port, 5001);
        assert_eq!(config.node.id, NodeId::Named("a".to_owned()));
        assert_eq!(config.server.max_in_flight, 7);
        assert_eq!(config.server.cors_allowed_origins, ["http://a.example", "http://b.example:1"]);
    }
}

#[test]
fn the_environment_may_name_the_file_and_the_flag_wins() {
    let named = given().file("c.toml", "port = 1");
    let path = named.flags.config_file.clone().unwrap();
    let config = given().env("ORDERSYSTEM_CONFIG", path.to_str().unwrap()).load().unwrap();
    assert_eq!(config.server.port, 1);
    assert_eq!(named.env("ORDERSYSTEM_CONFIG", "/not/there.toml").load().unwrap().server.port, 1);
    assert_has(&given().env("ORDERSYSTEM_CONFIG", "").error(), &["config", "empty", "ORDERSYSTEM_CONFIG"]);
}

#[test]
fn unknown_environment_variables_are_errors_and_foreign_ones_are_not() {
    assert!(given().env("PATH", "/bin").env("ORDERSYSTEMX", "1").load().is_ok());
    assert_has(&given().env("ORDERSYSTEM_PROT", "1").error(), &["unknown", "ORDERSYSTEM_PROT"]);
    assert_has(&given().env("ORDERSYSTEM_port", "1").error(), &["unknown", "ORDERSYSTEM_port"]);
}

#[test]
fn the_variable_of_opentelemetry_names_the_collector_and_our_own_takes_precedence() {
    let endpoint = |given: Given| given.load().unwrap().traces.endpoint;
    let standard = || given().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4317");
    assert_eq!(endpoint(standard()).as_deref(), Some("http://standard:4317"));
    assert_eq!(
        endpoint(standard().env("ORDERSYSTEM_OTLP_ENDPOINT", "http://ours:1")).as_deref(),
        Some("http://ours:1")
    );
    assert_eq!(endpoint(standard().flag("otlp-endpoint", "http://flag:1/")).as_deref(), Some("http://flag:1/"));
    let of_traces = || standard().env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
    assert_eq!(endpoint(of_traces()).as_deref(), Some("http://traces:4317"));
    assert_eq!(
        endpoint(of_traces().env("ORDERSYSTEM_OTLP_ENDPOINT", "http://ours:1")).as_deref(),
        Some("http://ours:1")
    );
    assert_eq!(endpoint(given().env("OTEL_EXPORTER_OTLP_ENDPOINT", "")), None);
    assert_eq!(endpoint(given()), None);
    let wrong = given().env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
    assert_has(&wrong.error(), &["otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://host:port"]);
    for (wrong, why) in
        [("https://h:1", "https"), ("http://", "host"), ("http://a:b@h:1", "HEADERS"), ("http://h/v1", "host")]
    {
        assert_has(&given().flag("otlp-endpoint", wrong).error(), &["otlp-endpoint", why]);
    }
    for (wrong, why) in
        [("http://127.0.0.1", "4317"), ("http://h:99999", "port"), ("http://h:0", "port"), ("http://h:", "port")]
    {
        assert_has(&given().flag("otlp-endpoint", wrong).error(), &["otlp-endpoint", why]);
    }
    for wrong in ["-0.1", "1.1", "NaN", "", "half"] {
        assert_has(&given().flag("trace-sample-ratio", wrong).error(), &["trace-sample-ratio"]);
    }
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_of_our_name_are_explained() {
    let link = given().env("ORDERSYSTEM_PORT", "tcp://10.0.0.1:5000");
    assert_has(&link.error(), &["port", "ORDERSYSTEM_PORT", "enableServiceLinks"]);
    let host = given().env("ORDERSYSTEM_SERVICE_HOST", "10.0.0.1");
    assert_has(&host.error(), &["ORDERSYSTEM_SERVICE_HOST", "enableServiceLinks"]);
    let other = given().env("ORDERSYSTEM_NATS_PORT", "tcp://10.0.0.1:4222");
    assert_has(&other.error(), &["ORDERSYSTEM_NATS_PORT", "enableServiceLinks"]);
    assert!(!given().env("ORDERSYSTEM_NATS", "tcp://h:4222").error().contains("Kubernetes"));
}

#[cfg(unix)]
#[test]
fn values_that_are_not_utf_8_are_errors() {
    use std::os::unix::ffi::OsStringExt;
    let mut bad = given();
    bad.env.push(("ORDERSYSTEM_NODE_ID".into(), OsString::from_vec(vec![0xff])));
    assert_has(&bad.error(), &["UTF-8", "ORDERSYSTEM_NODE_ID"]);
}

#[test]
fn every_error_in_a_file_names_its_path() {
    let cases = [
        ("c.toml", "prot = 1", "unknown key prot"),
        ("c.toml", "port = 1\nport = 2", "line 2"),
        ("c.toml", "[server]\nport = 1", "unknown key server.port"),
        ("c.toml", "[empty]", "unknown key empty"),
        ("c.toml", "[port]\nx = 1", "port takes a value, not a section"),
        ("c.toml", "port = [1]", "port takes one value, not a list"),
        ("c.toml", "port =", "line 1"),
        ("c.json", r#"{"port": 1, "port": 2}"#, "port appears twice"),
        ("c.json", r#"{"Nats": {"Url": "nats://a", "Url": "nats://b"}}"#, "Url appears twice"),
        ("c.json", r#"{"Nats": {"Uri": "nats://a"}}"#, "unknown key Nats.Uri"),
        ("c.json", r#"{"Logging": {}}"#, "unknown key Logging"),
        ("c.json", r#"{"port": null}"#, "port is null"),
        ("c.json", r#"{"cors_allowed_origins": ["a,b"]}"#, "without commas"),
        ("c.json", "[1]", "expected an object"),
        ("c.json", "{", "line 1"),
        ("c.json", "{} {}", "trailing"),
        ("c.yaml", "port: 1", ".toml or .json"),
        ("noextension", "", ".toml or .json"),
    ];
    for (name, text, part) in cases {
        let file = given().file(name, text);
        let path = file.flags.config_file.clone().unwrap();
        assert_has(&file.error(), &[part, path.to_str().unwrap()]);
    }
    let mut missing = given();
    missing.flags.config_file = Some(PathBuf::from("/not/there.toml"));
    assert_has(&missing.error(), &["/not/there.toml", "cannot be read"]);
}

#[test]
fn a_setting_under_two_names_in_one_file_is_an_error() {
    let error = given().file("c.json", r#"{"worker_id": 1, "DistributedId": {"WorkerId": 1}}"#).error();
    assert_has(&error, &["worker-id", "twice"]);
}

#[test]
fn passwords_are_shown_nowhere() {
    let shown = [
        ("ORDERSYSTEM_REDIS", "redis://me:s3cret@h:6379/0", "redis://me:***@h:6379/0"),
        ("ORDERSYSTEM_REDIS", "rediss://:s3cret/@s3cret@h", "rediss://:***@h"),
        ("ORDERSYSTEM_NATS", "nats://s3cret@h:4222", "nats://***@h:4222"),
        ("ORDERSYSTEM_NATS", "nats://u:s3cret@h1,nats://u:s3cret@h2", "nats://***@h1,nats://***@h2"),
        ("ORDERSYSTEM_NATS", "nats://u:s3cret@a:4333,tls://s3cret@h:1", "nats://***@a:4333,tls://***@h:1"),
        ("ORDERSYSTEM_NATS", "nats://a:1,nats://u:s3cret@b,c:2", "nats://a:1,nats://***@b,c:2"),
        ("ORDERSYSTEM_NATS", "tls://u:s3,cret,s3cret@h,tls://h2", "tls://***@h,tls://h2"),
        ("ORDERSYSTEM_NATS", "nats://u:s3cret,nats://s3cret@h", "nats://***,nats://***@h"),
        ("ORDERSYSTEM_NATS", "nats://a:1,u:s3cret,nats://s3cret@h", "nats://***,nats://***@h"),
        ("ORDERSYSTEM_NATS", "nats://u:s3,cret@h", "nats://***@h"),
    ];
    for (name, value, hidden) in shown {
        let given = given().env(name, value);
        let config = given.load().unwrap();
        let (printed, debug) = (config.to_string(), format!("{config:?}"));
        assert_has(&printed, &[hidden]);
        assert_has(&debug, &[hidden]);
        assert!(!printed.contains("s3cret") && !debug.contains("s3cret"), "{printed} {debug}");
        assert!(given.redis().server.expose() == value || given.nats().server.expose() == value);
    }
    let wrong = [
        ("ORDERSYSTEM_REDIS", "http://u:s3cret@h"),
        ("ORDERSYSTEM_REDIS", "h:6379,password=s3cret"),
        ("ORDERSYSTEM_REDIS", "u:s3cret@h"),
        ("ORDERSYSTEM_REDIS", "redis://u:s3cret@h:port"),
        ("ORDERSYSTEM_REDIS", "redis://u:s3cret @h"),
        ("ORDERSYSTEM_NATS", "nats://u:s3cret@"),
        ("ORDERSYSTEM_NATS", "redis://u:s3cret@h"),
    ];
    for (name, value) in wrong {
        let error = given().env(name, value).error();
        assert!(!error.contains("s3cret") && error.contains(name), "{error}");
    }
}

#[test]
fn the_printed_configuration_can_be_read_back_as_a_file() {
    let odd = given()
        .flag("data-dir", "/a \"b\"\\c\u{7f}")
        .flag("cors-allowed-origins", "https://a.example, https://b.example")
        .flag("port", "0007");
    let printed = odd.load().unwrap().to_string();
    assert_has(&printed, &["# grpc_port is not set\n", "port = 7  # --port\n", "cluster = false  # default\n"]);
    let again = given().file("again.toml", &printed).load().unwrap();
    let values = |text: &str| text.lines().map(|l| l.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&printed), values(&again.to_string()));
    assert_eq!(again.node.data_dir.as_deref(), Some(Path::new("/a \"b\"\\c\u{7f}")));
}

#[test]
fn both_ends_of_every_range_and_every_default_are_accepted() {
    for setting in settings() {
        if let Kind::Integer { min, max } = setting.kind {
            for end in [min, max] {
                let loaded = given().env(&env_name(setting.key), &end.to_string()).load();
                assert!(loaded.is_ok(), "{}: {loaded:?}", setting.key);
            }
            let past = given().env(&env_name(setting.key), &(max + 1).to_string());
            assert_has(&past.error(), &[setting.key, "not an integer"]);
        }
        if let Some(default) = setting.default {
            let loaded = given().env(&env_name(setting.key), default).load();
            assert!(loaded.is_ok(), "{}: {loaded:?}", setting.key);
        }
    }
}

#[test]
fn reflection_and_swagger_are_on_by_default_only_on_loopback() {
    for (bind, chosen, expected) in
        [("127.0.0.1", "auto", true), ("0.0.0.0", "auto", false), ("0.0.0.0", "on", true), ("::1", "off", false)]
    {
        let config = given().flag("bind", bind).flag("reflection", chosen).flag("swagger", chosen).load().unwrap();
        assert_eq!((config.server.has_reflection, config.server.has_swagger), (expected, expected), "{bind} {chosen}");
    }
    let config = given().flag("allowed-hosts", "orders.example,::1,*").load().unwrap();
    assert_eq!(config.server.allowed_hosts, ["orders.example", "::1", "*"]);
}

#[test]
fn every_integer_setting_is_read_into_its_own_field() {
    let (mut given, mut expected) = (given(), Vec::new());
    for (at, setting) in (0..).zip(settings()) {
        if let Kind::Integer { max, .. } = setting.kind {
            // Distinct and within each range; datacenter and worker ids end at 31, attempts and successes at 1000.
            let value = if max > 1_000 { 2_000 + at } else { at };
            given = given.env(&env_name(setting.key), &value.to_string());
            expected.push((setting.key, value));
        }
    }
    let Config { server, outbox, consumer, node, cached_orders, cache_mib, breaker, recovery_interval_ms, .. } =
        given.load().unwrap();
    let mut loaded = [
        ("port", u64::from(server.port)),
        ("grpc-port", server.grpc_port.unwrap().into()),
        ("worker-id", node.identity.worker_id().into()),
        ("datacenter-id", node.identity.datacenter_id().into()),
        ("admin-port", server.admin_port.unwrap().into()),
        ("shutdown-grace-ms", server.shutdown_grace_ms),
        ("request-timeout-ms", server.request_timeout_ms),
        ("max-in-flight", server.max_in_flight as u64),
        ("max-connections", server.max_connections as u64),
        ("max-message-bytes", server.max_message_bytes as u64),
        ("max-concurrent-streams", server.max_concurrent_streams.into()),
        ("max-event-streams", server.max_event_streams as u64),
        ("max-event-streams-per-connection", server.max_event_streams_per_connection as u64),
        ("max-connection-age-ms", server.max_connection_age_ms),
        ("max-connection-age-grace-ms", server.max_connection_age_grace_ms),
        ("keepalive-interval-ms", server.keepalive_interval_ms),
        ("keepalive-timeout-ms", server.keepalive_timeout_ms),
        ("cached-orders", cached_orders as u64),
        ("cache-mib", cache_mib as u64),
        ("outbox-batch-size", outbox.batch_size as u64),
        ("outbox-scan-interval-ms", outbox.scan_interval_ms),
        ("breaker-failures", breaker.failures.into()),
        ("breaker-successes", breaker.successes.into()),
        ("breaker-open-ms", breaker.open_ms),
        ("recovery-interval-ms", recovery_interval_ms),
        ("consumer-max-attempts", consumer.max_attempts.into()),
    ];
    loaded.sort_unstable();
    expected.sort_unstable();
    assert_eq!(loaded.as_slice(), expected);
}

#[test]
fn every_key_is_unique_and_in_kebab_case() {
    for (at, setting) in settings().enumerate() {
        assert!(setting.key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", setting.key);
        assert!(settings().take(at).all(|other| file_key(other.key) != file_key(setting.key)));
        assert_ne!(setting.key, "config", "taken by the flag that names the file");
    }
}

/// The description of a kind of values in the settings documentation.
fn values_of(kind: Kind) -> String {
    match kind {
        Kind::Flag => "`true`, `false`".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Text => "text".to_owned(),
        Kind::File => "file".to_owned(),
        Kind::Folder => "folder".to_owned(),
        Kind::ServerUrl(_) => "address".to_owned(),
        Kind::List => "list".to_owned(),
    }
}

#[test]
fn the_page_of_settings_has_one_row_for_each_setting_and_no_other() {
    let page = include_str!("../../docs/configuration.md");
    let missing: Vec<String> = settings()
        .map(|setting| {
            let default = setting.default.map_or_else(|| "–".to_owned(), |default| format!("`{default}`"));
            let (values, help) = (values_of(setting.kind), setting.help.replace('|', "\\|"));
            format!("| `--{}` | {default} | {values} | {help} |", setting.key)
        })
        .filter(|row| !page.lines().any(|line| line == row))
        .collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks:\n{}", missing.join("\n"));
    assert_eq!(page.lines().filter(|line| line.starts_with("| `--")).count(), settings().count());
}
