//! Flags, variables, files and commands: an error is reported in one line, and nothing else is started instead.

use std::{io::Write, net::TcpListener};

use crate::support::{Outcome, Process, new_order, outcome, program, run};

#[track_caller]
fn assert_refused(refused: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(refused.code, Some(code), "{refused:?}");
    assert_eq!(refused.stdout, "", "{refused:?}");
    let lines: Vec<&str> = refused.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {refused:?}");
    assert!(lines[0].starts_with("error: "), "{refused:?}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in {refused:?}");
    }
}

#[tokio::test]
async fn invalid_flags_values_and_commands_are_refused_in_one_line() {
    assert_refused(&run(&["--no-such-flag"]).await, 2, &["--no-such-flag"]);
    assert_refused(&run(&["no-such-command"]).await, 2, &["no-such-command"]);
    assert_refused(&run(&["--port", "65536"]).await, 2, &["port", "65536"]);
    assert_refused(&run(&["--port", "-1"]).await, 2, &["port", "-1"]);
    assert_refused(&run(&["--max-in-flight", "0"]).await, 2, &["max-in-flight"]);
    assert_refused(&run(&["--transport", "rabbit"]).await, 2, &["transport", "rabbit", "inmemory"]);
    assert_refused(&run(&["--log-level", "loud"]).await, 2, &["log-level", "loud"]);
    assert_refused(&run(&["--bind", "localhost:1"]).await, 2, &["bind"]);
    assert_refused(&run(&["--port", "1", "serve", "--port", "2"]).await, 2, &["--port is given twice"]);
    assert_refused(&run(&["--port", "1", "health"]).await, 2, &["ordersystem health --port"]);
    assert_refused(
        &run(&["--cluster", "copy", "--from", "redis://h:1", "--to", "nats://h:1"]).await,
        2,
        &["--cluster"],
    );
    let refused = outcome(program().env("ORDERSYSTEM_NO_SUCH_SETTING", "1")).await;
    assert_refused(&refused, 2, &["ORDERSYSTEM_NO_SUCH_SETTING"]);
    let refused = outcome(program().env("ORDERSYSTEM_PORT", "many")).await;
    assert_refused(&refused, 2, &["port", "many", "ORDERSYSTEM_PORT"]);
}

#[tokio::test]
async fn a_file_that_holds_anything_unknown_is_refused_in_one_line() {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    writeln!(file, "port = 0\nno_such_key = 1").expect("written");
    let path = file.path().to_str().expect("text");
    assert_refused(&run(&["--config", path]).await, 2, &["no_such_key", path]);
    assert_refused(&run(&["--config", "/no/such/file.toml"]).await, 2, &["/no/such/file.toml"]);
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    writeln!(file, "{{\"port\": ").expect("written");
    assert_refused(&run(&["--config", file.path().to_str().expect("text")]).await, 2, &["config file"]);
}

#[tokio::test]
async fn a_missing_backend_is_never_replaced_by_another() {
    let cluster = run(&["--cluster", "--persistence", "inmemory"]).await;
    assert_refused(&cluster, 2, &["cluster", "inmemory"]);
    for broker in ["redis", "nats"] {
        for what in ["--persistence", "--transport"] {
            let address = format!("--{broker}");
            let node = Process::start(&[what, broker, &address, "127.0.0.1:1"]).await;
            let health = run(&["health", "--address", &node.address.to_string()]).await;
            assert_eq!(
                (health.code, health.stdout.as_str()),
                (Some(1), "NOT_SERVING\n"),
                "{what} {broker}: {health:?}"
            );
            if what == "--persistence" {
                let refusal = node.commands().await.create_order(new_order("customer-1")).await.expect_err("no store");
                assert_eq!(refusal.code(), tonic::Code::Unavailable, "{refusal:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_requires_durability_does_not_start_without_it() {
    let refused = run(&["--require-durable", "--port", "0", "--log-level", "off"]).await;
    let why =
        ["--require-durable", "inmemory", "none", "machine is required", "--persistence embedded with --data-dir"];
    assert_refused(&refused, 1, &why);
}

#[tokio::test]
async fn a_data_folder_in_memory_is_not_durable_and_the_refusal_names_its_file_system() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let dir = folder.path().to_str().expect("text");
    let args = ["--persistence", "embedded", "--data-dir", dir, "--log-level", "off", "--port", "0"];
    let refused = run(&[&args[..], &["--require-durable"]].concat()).await;
    let in_memory = format!("{dir} is on tmpfs, a file system in memory");
    let why = [
        "--require-durable: the durability of persistence embedded is process, machine is required",
        &in_memory,
        "does not survive a restart of the machine",
        "name a folder on a disk with --data-dir",
    ];
    assert_refused(&refused, 1, &why);
    // Without the requirement it serves, and says the same.
    let node = Process::start(&["--persistence", "embedded", "--data-dir", dir]).await;
    let shown: serde_json::Value = serde_json::from_str(&node.get("/").await).expect("JSON");
    assert_eq!(shown["durability"], "process");
    assert!(shown["durabilityDetail"].as_str().is_some_and(|detail| detail.contains(&in_memory)), "{shown}");
}

#[tokio::test]
async fn a_port_in_use_is_refused_in_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    assert_refused(&run(&["--port", &port, "--log-level", "error"]).await, 1, &[&port, "in use"]);
    let refused = run(&["--port", "0", "--grpc-port", &port, "--log-level", "error"]).await;
    assert_refused(&refused, 1, &[&port, "in use"]);
}

#[tokio::test]
async fn an_address_of_another_machine_and_an_invalid_data_dir_are_refused() {
    let refused = run(&["--bind", "192.0.2.1", "--port", "0", "--log-level", "error"]).await;
    assert_refused(&refused, 1, &["192.0.2.1"]);
    let refused = run(&["--data-dir", "/dev/null/x", "--port", "0", "--log-level", "error"]).await;
    assert_refused(&refused, 1, &["/dev/null/x"]);
}

#[tokio::test]
async fn a_data_dir_belongs_to_one_process_whatever_it_stores_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("afile");
    std::fs::write(&file, "").expect("written");
    let file = file.to_str().expect("text");
    for persistence in [&[][..], &["--persistence", "embedded"]] {
        let args = [&["--data-dir", file, "--port", "0", "--log-level", "error"][..], persistence].concat();
        assert_refused(&run(&args).await, 1, &[file, "it is a file, not a folder"]);
    }
    let dir = folder.path().to_str().expect("text");
    let owner = Process::start(&["--data-dir", dir]).await;
    let warned = "orders are kept in memory only";
    assert!(owner.before.contains("WARN") && owner.before.contains(warned), "{}", owner.before);
    for persistence in [&[][..], &["--persistence", "embedded"]] {
        let args = [&["--data-dir", dir, "--port", "0", "--log-level", "error"][..], persistence].concat();
        assert_refused(&run(&args).await, 1, &[dir, "it is in use by process"]);
    }
    drop(owner);
    let kept = tempfile::tempdir().expect("a folder");
    let dir = kept.path().to_str().expect("text");
    let embedded = ["--persistence", "embedded", "--data-dir", dir];
    let mut first = Process::start(&embedded).await;
    assert!(first.before.contains("made a new store in") && !first.before.contains(warned), "{}", first.before);
    let refused = run(&["--data-dir", dir, "--port", "0", "--log-level", "error"]).await;
    assert_refused(&refused, 1, &[dir, "it is in use by process"]);
    first.signal("TERM");
    assert_eq!(first.end().await, Some(0));
    let removed = "where ids were issued before: was orders.db removed?";
    assert!(!first.before.contains(removed), "{}", first.before);
    let mut second = Process::start(&embedded).await;
    assert!(!second.before.contains("made a new store"), "{}", second.before);
    second.signal("TERM");
    assert_eq!(second.end().await, Some(0));
    std::fs::remove_file(kept.path().join("orders.db")).expect("removed");
    let third = Process::start(&embedded).await;
    let warned = third.before.lines().find(|line| line.contains("made a new store")).expect("a warning");
    assert!(warned.contains("WARN") && warned.contains(removed), "{warned}");
}

#[tokio::test]
async fn a_name_of_this_machine_can_be_listened_on_and_settings_may_stand_before_the_command() {
    let process = Process::start(&["--bind", "localhost", "serve", "--log-level", "info"]).await;
    assert!(process.address.ip().is_loopback());
    assert!(!process.before.contains("subscription"), "it listens before it has other news: {}", process.before);
    let told = run(&["--worker-id", "7", "config", "--port", "0"]).await;
    assert!(told.code == Some(0) && told.stdout.contains("worker_id = 7  # --worker-id"), "{told:?}");
}

#[tokio::test]
async fn help_and_version_go_to_standard_output() {
    for args in [&["--help"][..], &["--version"], &["health", "--help"]] {
        let told = run(args).await;
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{told:?}");
        assert!(told.stdout.contains("ordersystem"), "{told:?}");
    }
}

#[tokio::test]
async fn an_error_suggests_a_correction_and_names_the_help() {
    let cases = [
        (&["helth"][..], "'health'; see ordersystem --help"),
        (&["--prot", "1"], "'--port'; see ordersystem --help"),
        (&["health", "--adress", "h:1"], "'--address'; see ordersystem health --help"),
        (&["dead-letters", "lst", "h"], "'list'; see ordersystem dead-letters --help"),
        (&["dead-letters"], "list, replay, discard"),
        (&["completions", "bahs"], "'bash'"),
        (&["--cluster", "man"], "ordersystem man does not accept it"),
    ];
    for (args, words) in cases {
        assert_refused(&run(args).await, 2, &[words]);
    }
}

#[tokio::test]
async fn the_short_help_has_the_common_settings_and_the_long_one_all_of_them_with_examples() {
    let (short, long) = (run(&["-h"]).await, run(&["--help"]).await);
    for part in ["--persistence", "--port", "dead-letters", "Storage and transport:"] {
        assert!(short.stdout.contains(part) && long.stdout.contains(part), "{part}: {short:?} {long:?}");
    }
    for part in ["--breaker-open-ms", "ORDERSYSTEM_PORT", "Tuning:", "Examples:", "Exit codes:"] {
        assert!(!short.stdout.contains(part) && long.stdout.contains(part), "{part}: {short:?} {long:?}");
    }
    let commands =
        ["serve", "health", "projections rebuild", "backup", "copy", "verify", "config", "completions", "man"];
    for command in commands.into_iter().chain(["dead-letters list", "dead-letters replay", "dead-letters discard"]) {
        let args: Vec<&str> = command.split(' ').collect();
        let (short, long) = (run(&[&args[..], &["-h"]].concat()).await, run(&[&args[..], &["--help"]].concat()).await);
        assert!(long.stdout.contains("Example") && !short.stdout.contains("Example"), "{command}: {short:?} {long:?}");
        assert!(short.stdout.contains(&format!("Usage: ordersystem {command}")), "{command}: {short:?}");
    }
}

#[tokio::test]
async fn completion_scripts_and_manual_pages_know_the_commands_and_the_settings() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]).await;
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        // PowerShell and elvish complete no values.
        let values = if ["powershell", "elvish"].contains(&shell) { &[][..] } else { &["embedded"] };
        for part in ["dead-letters", "persistence", "nats-replicas"].iter().chain(values) {
            assert!(script.stdout.contains(part), "{part} is not in the script for {shell}");
        }
    }
    let page = run(&["man"]).await;
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    for part in [".TH ordersystem", "persistence", "STORAGE AND TRANSPORT", "ordersystem\\-verify(1)"] {
        assert!(page.stdout.contains(part), "{part} is not in {}", page.stdout);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("share/man1");
    let written = run(&["man", "--output-dir", pages.to_str().expect("text")]).await;
    assert_eq!((written.code, written.stdout.as_str(), written.stderr.as_str()), (Some(0), "", ""));
    for name in ["ordersystem", "ordersystem-copy", "ordersystem-dead-letters-list"] {
        assert!(pages.join(format!("{name}.1")).is_file(), "{name}");
    }
    assert_refused(&run(&["man", "--output-dir", "/dev/null/x"]).await, 1, &["/dev/null/x"]);
}

#[tokio::test]
async fn the_effective_configuration_names_every_source_and_no_secret() {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    writeln!(file, "max_in_flight = 7\nworker_id = 3\nredis = \"redis://me:s3cret@cache:6379\"").expect("written");
    let path = file.path().to_str().expect("text");
    let mut command = program();
    command.args(["config", "--config", path, "--port", "0"]).env("ORDERSYSTEM_WORKER_ID", "4");
    let told = outcome(&mut command).await;
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{told:?}");
    let line = |key: &str| {
        let prefix = format!("{key} = ");
        told.stdout.lines().find(|line| line.starts_with(&prefix)).unwrap_or_else(|| panic!("{key} in {told:?}"))
    };
    assert_eq!(line("port"), "port = 0  # --port");
    assert_eq!(line("worker_id"), "worker_id = 4  # ORDERSYSTEM_WORKER_ID");
    assert_eq!(line("max_in_flight"), format!("max_in_flight = 7  # max_in_flight in {path}"));
    assert_eq!(line("transport"), "transport = \"inmemory\"  # default");
    assert!(!told.stdout.contains("s3cret"));
    // Its output is a valid configuration file.
    let mut again = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    write!(again, "{}", told.stdout.replace("***", "s3cret")).expect("written");
    let told = run(&["config", "--config", again.path().to_str().expect("text")]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}

#[tokio::test]
async fn the_exit_code_of_the_health_command_reflects_the_health() {
    let process = Process::start(&[]).await;
    let address = process.address.to_string();
    let port = process.address.port().to_string();
    for args in [
        vec!["health", "--address", &address],
        vec!["health", "--port", &port],
        vec!["health", "--address", &address, "--service", "liveness"],
        vec!["health", "--address", &address, "--service", "catga.orders.v1.OrderQueryService"],
    ] {
        // A node that has just started to listen may not be ready yet.
        let mut told = run(&args).await;
        for _ in 0..100 {
            if told.code == Some(0) {
                break;
            }
            told = run(&args).await;
        }
        assert_eq!((told.code, told.stdout.trim(), told.stderr.as_str()), (Some(0), "SERVING", ""), "{args:?}");
    }
    let unknown = run(&["health", "--address", &address, "--service", "no.such.Service"]).await;
    assert_refused(&unknown, 1, &[&address]);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    assert_refused(&run(&["health", "--address", &nobody]).await, 1, &[&nobody]);
    // A server that accepts and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute = mute.local_addr().map(|address| (mute, address.to_string())).expect("an address");
    let refused = run(&["health", "--address", &mute.1, "--timeout-ms", "300"]).await;
    assert_refused(&refused, 1, &[&mute.1, "300 ms"]);
    assert_refused(&run(&["health", "--address", "nonsense"]).await, 2, &["nonsense"]);
}
