//! Identified callers, as operators set them up: keys, the identity file, client certificates, the audit.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use ordersystem::proto::catga::orders::v1::order_command_service_client::OrderCommandServiceClient;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    support::{Outcome, Process, new_order, outcome, program, refused, run, until},
    tls::{Authority, creates_an_order},
};

/// Makes a key by the program, and adds its entry to the identity file of the folder; returns the path of a file with the key.
pub async fn add_key(folder: &Path, name: &str, args: &[&str]) -> String {
    let made = run(&[&["keys", "new", name][..], args].concat()).await;
    assert_eq!((made.code, &*made.stderr), (Some(0), ""), "{made:?}");
    let (key, entry) = made.stdout.split_once("\n\n").expect("the key, an empty line, the entry");
    assert!(!entry.contains(key), "the entry has its hash only");
    let identities = identities(folder);
    let former = fs::read_to_string(&identities).unwrap_or_default();
    fs::write(&identities, former + entry).unwrap();
    let path = folder.join(format!("{name}.key"));
    fs::write(&path, format!("{key}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn identities(folder: &Path) -> String {
    folder.join("identities.toml").to_str().unwrap().to_owned()
}

pub async fn node_with(folder: &TempDir, more: &[&str]) -> Process {
    let identities = identities(folder.path());
    let process = Process::start(&[&["--identities", &identities, "--require-auth"][..], more].concat()).await;
    process.until_ready().await;
    process
}

async fn get(node: &Process, path: &str, key_file: Option<&str>) -> (u16, String) {
    let mut request = reqwest::Client::new().get(format!("http://{}{path}", node.address));
    if let Some(file) = key_file {
        request = request.bearer_auth(fs::read_to_string(file).unwrap().trim());
    }
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

#[tokio::test]
async fn a_created_key_is_all_that_a_caller_needs_and_the_commands_for_a_node_read_it_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let operator = add_key(folder.path(), "ops", &["--role", "operator"]).await;
    let reader = add_key(folder.path(), "app", &["--role", "reader"]).await;
    let node = node_with(&folder, &[]).await;
    let address = node.address.to_string();
    let health = run(&["health", "--address", &address]).await;
    assert_eq!((health.code, &*health.stdout), (Some(0), "SERVING\n"), "a probe needs no key: {health:?}");
    let list = ["dead-letters", "list", "order-event-logger", "--address", &address];
    let without = run(&list).await;
    assert_eq!(without.code, Some(1));
    assert!(without.stderr.contains("this needs credentials"), "{without:?}");
    let wrong_role = run(&[&list[..], &["--token-file", &reader]].concat()).await;
    assert!(wrong_role.stderr.contains("one of the roles operator"), "{wrong_role:?}");
    let listed = run(&[&list[..], &["--token-file", &operator]].concat()).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    assert_eq!(listed.stderr, "", "no other user can read the key");
    fs::set_permissions(&operator, fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = run(&[&list[..], &["--token-file", &operator]].concat()).await;
    let warning = format!("warning: {operator} holds a key and other users may read it (mode 0640): chmod go= it\n");
    assert_eq!((exposed.code, exposed.stderr), (Some(0), warning));
    fs::set_permissions(&operator, fs::Permissions::from_mode(0o600)).unwrap();
    let from_env = outcome(program().env("ORDERSYSTEM_TOKEN_FILE", &operator).args(list)).await;
    assert_eq!(from_env.code, Some(0), "{from_env:?}");
    let rebuilt = run(&["projections", "rebuild", "--address", &address, "--token-file", &operator]).await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let missing = run(&[&list[..], &["--token-file", "/no/such.key"]].concat()).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("/no/such.key"), "{missing:?}");
    let key = fs::read_to_string(&operator).unwrap();
    for said in node.said().iter().chain([&without.stderr, &listed.stdout, &missing.stderr]) {
        assert!(!said.contains(key.trim()), "no key is shown: {said}");
    }
}

fn fails(outcome: &Outcome, said: &str) {
    assert_eq!((outcome.code, &*outcome.stdout), (Some(2), ""), "{outcome:?}");
    assert!(outcome.stderr.contains(said), "{outcome:?}");
}

#[tokio::test]
async fn on_the_port_for_operators_their_role_is_needed_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let operator = add_key(folder.path(), "ops", &["--role", "operator"]).await;
    let node = node_with(&folder, &["--admin-port", "0"]).await;
    let address = format!("127.0.0.1:{}", node.admin_port());
    let metrics = async |key: Option<&str>| {
        let request = reqwest::Client::new().get(format!("http://{address}/metrics"));
        let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
        request.send().await.expect("an answer").status().as_u16()
    };
    let key = fs::read_to_string(&operator).unwrap();
    assert_eq!((metrics(None).await, metrics(Some(key.trim())).await), (401, 200));
    let list = ["dead-letters", "list", "order-event-logger", "--address", &address];
    assert_eq!(run(&list).await.code, Some(1));
    assert_eq!(run(&[&list[..], &["--token-file", &operator]].concat()).await.code, Some(0));
}

#[tokio::test]
async fn a_key_that_the_file_would_refuse_is_not_created() {
    let new = async |args: &[&str]| run(&[&["keys", "new"][..], args].concat()).await;
    fails(&new(&["a"]).await, "--role");
    fails(&new(&["a", "--role", "boss"]).await, "reader");
    fails(&new(&["", "--role", "reader"]).await, "must not be empty");
    fails(&new(&["a", "--role", "customer"]).await, "no customer id: add --customer ID");
    fails(&new(&["a", "--role", "reader", "--customer", "c"]).await, "without the role customer: add --role customer");
    fails(&new(&["a", "--role", "reader", "--expires", "tomorrow"]).await, "--expires");
}

#[tokio::test]
async fn a_node_does_not_start_half_protected() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(&["--require-auth"]).await;
    assert!(said.contains("require-auth") && said.contains("--identities"), "{said}");
    let identities = identities(folder.path());
    let said = refused(&["--identities", &identities]).await;
    assert!(said.contains(&identities), "{said}");
    fs::write(&identities, "[[api_keys]]\nname = \"a\"\nroles = [\"king\"]\n").unwrap();
    let said = refused(&["--identities", &identities]).await;
    assert!(said.contains("line 3") && said.contains("king"), "{said}");
    fs::write(&identities, "[[certificates]]\nsubject = \"CN=a\"\nname = \"a\"\nroles = [\"reader\"]\n").unwrap();
    let said = refused(&["--identities", &identities]).await;
    assert!(said.contains("--tls-client-ca"), "{said}");
}

#[tokio::test]
async fn an_open_node_warns_and_one_that_sends_keys_in_the_clear_does_too() {
    let open = Process::start(&["--bind", "0.0.0.0"]).await;
    let has_line = |node: &Process, text: &str| node.said().iter().any(|line| line.contains(text));
    until("it warns", async || has_line(&open, "callers are not identified")).await;
    let folder = tempfile::tempdir().unwrap();
    add_key(folder.path(), "app", &["--role", "reader"]).await;
    let identities = identities(folder.path());
    let guarded = Process::start(&["--bind", "0.0.0.0", "--identities", &identities]).await;
    until("it warns", async || has_line(&guarded, "in the clear")).await;
    assert!(!has_line(&guarded, "callers are not identified"));
}

#[tokio::test]
async fn a_key_is_withdrawn_without_a_restart_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let operator = add_key(folder.path(), "ops", &["--role", "operator", "--role", "reader"]).await;
    let entry_of_operator = fs::read_to_string(identities(folder.path())).unwrap();
    let app = add_key(folder.path(), "app", &["--role", "reader"]).await;
    let node = node_with(&folder, &[]).await;
    assert_eq!(get(&node, "/stats", Some(&app)).await.0, 200);
    fs::write(identities(folder.path()), &entry_of_operator).unwrap();
    until("the key is refused", async || get(&node, "/stats", Some(&app)).await.0 == 401).await;
    fs::write(identities(folder.path()), format!("{entry_of_operator}\n[[api_keys")).unwrap();
    let health = async || {
        let (_, health) = get(&node, "/health", Some(&operator)).await;
        let health: Value = serde_json::from_str(&health).expect("JSON");
        let check = &health["checks"]["identities"];
        (check["status"].as_str().unwrap().to_owned(), check["detail"].as_str().unwrap().to_owned())
    };
    until("health reports it", async || health().await.0 == "Degraded").await;
    assert!(health().await.1.contains("line "), "{:?}", health().await);
    assert_eq!(get(&node, "/stats", Some(&operator)).await.0, 200, "the last good file is in use");
    assert!(get(&node, "/metrics", Some(&operator)).await.1.contains("ordersystem_identities_current 0"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let lines = node.said();
    let complaints = lines.iter().filter(|line| line.contains("the changed identity file is not used")).count();
    assert_eq!(complaints, 1, "once for each change: {lines:?}");
    fs::write(identities(folder.path()), &entry_of_operator).unwrap();
    until("all is well", async || health().await.0 == "Healthy").await;
}

#[tokio::test]
async fn refused_calls_and_actions_of_operators_are_audited_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let operator = add_key(folder.path(), "ops \"1\"", &["--role", "operator"]).await;
    let app = add_key(folder.path(), "app", &["--role", "reader"]).await;
    let mut node = node_with(&folder, &["--log-format", "json"]).await;
    let address = node.address.to_string();
    get(&node, "/stats", Some(&app)).await;
    get(&node, "/orders/42/history", None).await;
    get(&node, "/metrics", Some(&app)).await;
    get(&node, "/metrics", Some(&operator)).await;
    get(&node, "/secret-path", Some(&app)).await;
    let args = ["projections", "rebuild", "--address", &address, "--token-file"];
    run(&[&args[..], &[&app]].concat()).await;
    let rebuilt = run(&[&args[..], &[&operator]].concat()).await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let list = ["dead-letters", "list", "nobody", "--address", &address, "--token-file", &operator];
    run(&list).await;
    let rebuild = "/catga.system.v1.AdminService/RebuildProjections";
    let expected = [
        ("", "read", "/orders/{id}/history", "refused", "CREDENTIALS_MISSING"),
        ("app", "read", "/metrics", "refused", "ROLE_MISSING"),
        ("", "page", "unclassified", "refused", "ROUTE_NOT_FOUND"),
        ("app", "admin", rebuild, "refused", "ROLE_MISSING"),
        ("ops \"1\"", "admin", rebuild, "done", ""),
        ("ops \"1\"", "admin", "/catga.system.v1.AdminService/ListDeadLetters", "failed", ""),
    ];
    node.log.line_with("ListDeadLetters").await;
    let audited: Vec<Value> = node
        .said()
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"] == "audit")
        .map(|line| line["fields"].clone())
        .collect();
    let found: Vec<_> = audited
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}"));
            assert!(text("peer").starts_with("127.0.0.1:"), "{line}");
            (text("who"), text("action"), text("path"), text("outcome"), text("reason"))
        })
        .collect();
    assert_eq!(found, expected);
    let metrics = get(&node, "/metrics", Some(&operator)).await.1;
    for line in [
        "action=\"admin\",outcome=\"done\"} 1",
        "action=\"admin\",outcome=\"failed\"} 1",
        "action=\"admin\",outcome=\"refused\"} 1",
    ] {
        assert!(metrics.contains(&format!("ordersystem_audit_total{{{line}")), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_flood_of_one_caller_does_not_fill_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let operator = add_key(folder.path(), "ops", &["--role", "operator"]).await;
    let app = add_key(folder.path(), "app", &["--role", "reader"]).await;
    let limits = "[limits.name.app]\nrate = 1\nburst = 1\n";
    let path = identities(folder.path());
    fs::write(&path, fs::read_to_string(&path).unwrap() + limits).unwrap();
    let node = node_with(&folder, &[]).await;
    let mut refused = 0;
    for _ in 0..100 {
        refused += u32::from(get(&node, "/stats", Some(&app)).await.0 == 429);
    }
    assert!(refused > 50, "{refused}");
    // The log is read by another task, and its lines arrive in order.
    get(&node, "/metrics", None).await;
    let metrics = get(&node, "/metrics", Some(&operator)).await.1;
    let counted = format!("ordersystem_audit_total{{action=\"read\",outcome=\"refused\"}} {}", refused + 1);
    assert!(metrics.contains(&counted), "{counted}: {metrics}");
    until("the log has arrived", async || node.said().iter().any(|line| line.contains("CREDENTIALS_MISSING"))).await;
    let lines: Vec<_> = node.said().into_iter().filter(|line| line.contains("CALLER_LIMIT")).collect();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.contains("who=\"app\"") && line.contains("limit=\"rate\" scope=\"name:app\""), "{line}");
}

#[tokio::test]
async fn an_operator_is_audited_where_callers_are_not_identified_as_well() {
    let mut node = Process::start(&["--log-format", "json"]).await;
    node.until_ready().await;
    let rebuilt = run(&["projections", "rebuild", "--address", &node.address.to_string()]).await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    let line = node.log.line_with("RebuildProjections").await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["target"], &line["fields"]["who"]), (&"audit".into(), &"".into()), "{line}");
    assert_eq!(line["fields"]["outcome"], "done");
}

#[tokio::test]
async fn the_owner_of_a_client_certificate_is_a_caller_with_roles() {
    let authority = Authority::with_files();
    authority.sign("reader", &["reader.internal"]);
    authority.sign("stranger", &["stranger.internal"]);
    let folder = tempfile::tempdir().unwrap();
    let entry =
        |matched: &str, role: &str| format!("[[certificates]]\n{matched}\nname = \"{role}\"\nroles = [\"{role}\"]\n");
    // The authority of the tests names every subject after its file.
    let of_writer = entry("subject = \"CN=client\"", "writer");
    let of_reader = entry("san = \"dns:reader.internal\"", "reader");
    fs::write(identities(folder.path()), of_writer + &of_reader).unwrap();
    let key = add_key(folder.path(), "app", &["--role", "writer"]).await;
    let (ca, identities) = (authority.path("ca.pem"), identities(folder.path()));
    let node = authority.serve(&["--tls-client-ca", &ca, "--identities", &identities, "--require-auth"]).await;
    creates_an_order(&authority.client_as(node.address, Some("client"))).await.expect("a writer");
    let refused = creates_an_order(&authority.client_as(node.address, Some("reader"))).await.expect_err("a reader");
    assert!(refused.contains("the caller has reader"), "{refused}");
    let stranger = authority.client_as(node.address, Some("stranger"));
    let refused = creates_an_order(&stranger).await.expect_err("in no entry");
    assert!(refused.contains("this needs credentials"), "{refused}");
    let mut with_key = stranger;
    with_key.token_file = Some(key.into());
    let channel = with_key.connect(Duration::from_secs(5)).await.expect("connects");
    OrderCommandServiceClient::new(channel).create_order(new_order("customer-1")).await.expect("by its key");
}
