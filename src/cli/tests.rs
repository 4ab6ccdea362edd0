use super::*;
use crate::{
    config::{NodeId, settings::settings},
    settings::Kind,
};

fn run(line: &[&str]) -> Result<Invocation, CliError> {
    run_with(line, &[])
}

fn run_with(line: &[&str], env: &[(&str, &str)]) -> Result<Invocation, CliError> {
    let args = std::iter::once("ordersystem").chain(line.iter().copied()).map(OsString::from);
    parse(args, env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
}

fn served(line: &[&str]) -> Config {
    match run(line) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn error(line: &[&str]) -> String {
    let error = run(line).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.starts_with("error: ") && !text.contains('\n'), "{text}");
    text
}

fn health_of(line: &[&str]) -> (String, String, u64) {
    match run(line) {
        Ok(Invocation::Health(call)) => (call.target.address, call.service, call.timeout_ms),
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn the_definition_passes_the_checks_of_clap() {
    command().debug_assert();
}

#[test]
fn settings_work_bare_and_under_serve() {
    for line in [&["--port", "5001", "--node-id=n1"][..], &["serve", "--port=5001", "--node-id", "n1"]] {
        let config = served(line);
        assert_eq!(config.server.port, 5001);
        assert_eq!(config.node.id, NodeId::Named("n1".to_owned()));
        assert_eq!(config.persistence.name, "inmemory");
    }
    assert_eq!(served(&[]).server.port, 5000);
}

#[test]
fn every_setting_is_a_flag() {
    for setting in settings() {
        let flag = format!("--{}", setting.key);
        let line = if matches!(setting.kind, Kind::Flag) { vec![flag] } else { vec![flag, "\u{1}".to_owned()] };
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        match run(&line) {
            Ok(Invocation::Serve(_)) => {
                assert!(matches!(setting.kind, Kind::Text | Kind::File | Kind::Folder | Kind::Flag), "{}", setting.key)
            }
            Err(CliError::Config(error)) => assert!(error.to_string().contains(setting.key), "{error}"),
            other => panic!("{}: {other:?}", setting.key),
        }
    }
}

#[test]
fn the_cluster_switch_takes_no_value() {
    assert!(error(&["--cluster"]).contains("cluster: nodes cannot share"));
    assert!(error(&["--cluster", "true"]).contains("'true'"));
}

#[test]
fn a_flag_wins_over_the_environment() {
    match run_with(&["config", "--port", "7"], &[("ORDERSYSTEM_PORT", "6"), ("ORDERSYSTEM_BIND", "::1")]) {
        Ok(Invocation::PrintConfig(config)) => {
            assert_eq!(config.server.address().to_string(), "[::1]:7");
            assert!(config.to_string().contains("port = 7  # --port\n"));
            assert!(config.to_string().contains("bind = \"::1\"  # ORDERSYSTEM_BIND\n"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_of_clap_are_printed_as_one_line() {
    assert!(
        error(&["--prot", "1"])
            .contains("unexpected argument '--prot' found; tip: a similar argument exists: '--port'")
    );
    assert!(error(&["--port"]).contains("--port <N>"));
    assert!(
        error(&["copy"]).contains("arguments were not provided: --from <LOG>; --to <LOG>; see"),
        "{}",
        error(&["copy"])
    );
    assert!(error(&["--port", "1", "--port", "2"]).contains("cannot be used multiple times"));
    assert!(error(&["start"]).contains("'start'"));
    assert!(error(&["--port", "1", "config", "--port", "2"]).contains("--port is given twice"));
    assert!(error(&["--port", "1", "health"]).contains("ordersystem health --port"));
}

#[test]
fn no_error_repeats_a_password() {
    for line in [
        &["--redi=redis://u:s3cret@h"][..],
        &["--redis", "redis://u:s3cret@h"],
        &["--redis", "redis://u:s3cret@h", "--redis", "redis://u:s3cret@h"],
        &["--nats=nats://u:s3cret@h", "--prot"],
        &["--nats=nats://u:s3cret@h", "config"],
    ] {
        assert!(!error(line).contains("s3cret"), "{}", error(line));
    }
}

#[test]
fn wrong_values_get_our_own_error() {
    assert!(error(&["--port", "-1"]).contains("port: '-1' is not an integer from 0 to 65535 (set by --port)"));
    assert!(error(&["serve", "--node-id", ""]).contains("node-id: is empty (set by --node-id)"));
    assert!(error(&["--config", "/not/there.toml"]).contains("/not/there.toml: cannot be read"));
}

#[test]
fn help_and_version_are_not_errors() {
    let help = run(&["--help"]).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    let text = help.to_string();
    for part in ["--transport", "ORDERSYSTEM_NODE_ID", "health", "[default: 5000]", "inmemory, redis, nats"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let version = run(&["--version"]).unwrap_err();
    assert_eq!(version.to_string().trim(), concat!("ordersystem ", env!("CARGO_PKG_VERSION")));
    assert_eq!(version.exit_code(), 0);
}

#[test]
fn health_calls_the_given_address_or_the_configured_one() {
    assert_eq!(health_of(&["health"]), ("127.0.0.1:5000".to_owned(), String::new(), 2_000));
    let told = ["health", "--address", "node-1:81", "--service", "catga.orders.v1.OrderCommands", "--timeout-ms", "5"];
    assert_eq!(health_of(&told), ("node-1:81".to_owned(), "catga.orders.v1.OrderCommands".to_owned(), 5));
    assert_eq!(health_of(&["health", "--bind", "0.0.0.0", "--port", "81"]).0, "127.0.0.1:81");
    assert_eq!(health_of(&["health", "--bind", "::", "--grpc-port", "82"]).0, "[::1]:82");
    assert_eq!(health_of(&["health", "--bind", "10.1.2.3"]).0, "10.1.2.3:5000");
}

#[test]
fn health_refuses_an_address_that_cannot_be_called() {
    assert!(error(&["health", "--port", "0"]).contains("--address is required"));
    for address in ["", "host", ":1", "host:0", "host:x", "http://host:1"] {
        assert!(error(&["health", "--address", address]).contains("is not host:port"), "{address}");
    }
    assert!(
        error(&["health", "--address", "https://host:1"]).contains("is not host:port; where the node uses TLS, name")
    );
    assert!(error(&["health", "--timeout-ms", "0"]).contains("--timeout-ms"));
    assert!(error(&["health", "--address", "h:1", "--port", "2"]).contains("cannot be used with"));
}

#[test]
fn backup_takes_the_folder_of_the_configuration_and_a_target() {
    let backup = |line: &[&str], env: &[(&str, &str)]| match run_with(line, env) {
        Ok(Invocation::Backup(call)) => (call.data_dir, call.target),
        other => panic!("{line:?}: {other:?}"),
    };
    let expected = (PathBuf::from("/srv/a"), PathBuf::from("/srv/b"));
    assert_eq!(backup(&["backup", "--data-dir", "/srv/a", "/srv/b"], &[]), expected);
    assert_eq!(backup(&["backup", "/srv/b"], &[("ORDERSYSTEM_DATA_DIR", "/srv/a")]), expected);
    assert!(error(&["backup", "/srv/b"]).contains("--data-dir is required"));
    assert!(error(&["backup", "--data-dir", "/srv/a"]).contains("<DIR>"));
}

#[test]
fn copy_and_verify_take_passwords_from_files_for_logs_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let (redis, nats) = (file("redis", "pass/word\n"), file("nats", "to:ken"));
    let line = ["copy", "--from", "redis:old", "--to", "redis://own:other@new", "--redis-password-file", &redis];
    let Ok(Invocation::Copy(call)) = run(&line) else { panic!("a copy") };
    assert_eq!(call.from.address, "redis://:pass%2Fword@old".parse().unwrap());
    assert_eq!(call.to.address, "redis://own:other@new".parse().unwrap());
    let env = [("ORDERSYSTEM_REDIS_PASSWORD_FILE", redis.as_str()), ("ORDERSYSTEM_NATS_TOKEN_FILE", nats.as_str())];
    let Ok(Invocation::Verify(call)) = run_with(&["verify", "nats:n", "redis://u@r"], &env) else { panic!("an audit") };
    assert_eq!(call.log.address, "nats://to%3Aken@n".parse().unwrap());
    assert_eq!(call.other.unwrap().address, "redis://u:pass%2Fword@r".parse().unwrap());
    assert!(run_with(&["verify", "embedded:x"], &env).is_ok(), "a variable that no log needs is not an error");
    let line = ["verify", "nats://u@n", "--nats-password-file", &nats];
    let Ok(Invocation::Verify(call)) = run(&line) else { panic!("an audit") };
    assert_eq!(call.log.address, "nats://u:to%3Aken@n".parse().unwrap());
    assert!(!call.log.to_string().contains("ken"), "{}", call.log);
}

#[test]
fn copy_and_verify_require_explicit_logs() {
    let line = ["copy", "--from", "embedded:data", "--to", "nats:n:4222", "--to-prefix", "copy", "--to-replicas", "3"];
    let Ok(Invocation::Copy(call)) = run(&[&line[..], &["--follow"]].concat()) else { panic!("a copy") };
    assert_eq!((call.from.to_string().as_str(), call.from.prefix.as_str()), ("embedded:data", "ordersystem"));
    assert_eq!((call.to.to_string().as_str(), call.replicas, call.follow), ("nats:n:4222 (copy)", 3, true));
    let Ok(Invocation::Verify(call)) = run(&["verify", "redis://me:pw@r:6379/2", "embedded:x", "--json"]) else {
        panic!("an audit")
    };
    assert_eq!(call.log.to_string(), "redis://me:***@r:6379/2 (ordersystem)");
    assert!(call.json && call.other.is_some());
    let line = ["verify", "rediss://r", "nats:n", "--redis-ca", "ca.pem"];
    let Ok(Invocation::Verify(call)) = run(&line) else { panic!("an audit") };
    assert_eq!(call.log.files.get("redis-ca").and_then(|file| file.to_str()), Some("ca.pem"));
    assert!(call.other.unwrap().files.is_empty());
    let line = ["verify", "nats:n", "embedded:x", "--nats-ca", "ca.pem"];
    let env = [("ORDERSYSTEM_NATS_CREDENTIALS", "me.creds"), ("ORDERSYSTEM_NATS_CA", "other.pem")];
    let Ok(Invocation::Verify(call)) = run_with(&line, &env) else { panic!("an audit") };
    let file = |key| call.log.files.get(key).and_then(|file| file.to_str());
    assert_eq!((file("nats-credentials"), file("nats-ca")), (Some("me.creds"), Some("ca.pem")));
    assert_eq!(call.log.files.len(), 2);

    for (line, word) in [
        (&["verify", "redis:r", "--nats-token-file", "t"][..], "no log uses it"),
        (&["verify", "redis://u:p@r", "--redis-password-file", "t"], "no log uses it"),
        (&["verify", "redis:r", "--redis-password-file", "/no/such/file"], "/no/such/file cannot be read"),
        (&["verify", "nats:r", "--nats-password-file", "t"], "names no user"),
        (&["verify", "nats:r", "--nats-password-file", "t", "--nats-token-file", "t"], "one of the two"),
        (&["copy", "--from", "embedded:x"], "--to"),
        (&["copy", "--from", "sqlite:x", "--to", "embedded:y"], "embedded:DIR"),
        (&["copy", "--from", "embedded:x", "--to", "embedded:y", "--from-prefix", "p"], "--from-prefix"),
        (&["copy", "--from", "embedded:x", "--to", "nats:n", "--to-replicas", "2"], "2"),
        (&["copy", "--from", "embedded:x", "--to", "nats:n", "--follow", "--until-caught-up"], "--until-caught-up"),
        (&["verify"], "LOG"),
        (&["verify", "nats:n", "--nats-nkey", "a", "--nats-credentials", "b"], "--nats-nkey"),
        (&["verify", "nats:n", "--nats-cert", "a"], "--nats-key"),
        (&["verify", "embedded:x", "--other-prefix", "p"], "OTHER"),
    ] {
        assert!(error(line).contains(word), "{line:?}: {}", error(line));
    }
}
