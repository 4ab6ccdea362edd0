//! Passwords and tokens: their sources, and that nothing shows them.

use std::{fs, path::Path};

use crate::{
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer},
    support::{Outcome, Process, new_order, outcome, program, run},
};

const SECRET: &str = "s3cret";

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn shows_nothing(found: &Outcome, of: &str) {
    assert!(!found.stdout.contains(SECRET) && !found.stderr.contains(SECRET), "{of}: {found:?}");
}

#[tokio::test]
async fn no_form_of_a_password_is_shown_wherever_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    // Whether the form is accepted; others are refused, and the refusal must not show it either.
    for (key, address, is_taken) in [
        ("redis", "redis://user:s3cret@h:6379", true),
        ("redis", "redis://:s3cret@h", true),
        ("redis", "rediss://s3cret@h:6379/1", true),
        ("redis", "redis://user:p@/s3cret@h", true),
        ("redis", "redis+sentinel://user:s3cret@a:1,b:2/mymaster", true),
        ("redis", "redis://h:6379/?password=s3cret", false),
        ("redis", "redis://h:6379/?token=s3cret", false),
        ("redis", "redis://h:6379/?protocol=resp3&auth=s3cret", false),
        ("redis", "h:6379,password=s3cret", false),
        ("redis", "redis://user:s3cret@h:port", false),
        ("redis", "redis://:s3cret@h/first", false),
        ("redis", "user:s3cret@h", false),
        ("redis", "http://user:s3cret@h", false),
        ("nats", "nats://user:s3cret@h:4222", true),
        ("nats", "nats://s3cret@h", true),
        ("nats", "tls://user:s3,cret,s3cret@h,tls://h2", true),
        ("nats", "nats://user:x@h,nats://user:s3cret@h2", true),
        ("nats", "nats://h:4222/?token=s3cret", false),
        ("nats", "nats://h?auth_token=s3cret", false),
        ("nats", "h:4222?token=s3cret", false),
        ("nats", "s3cret@h:4222", false),
        ("nats", "nats://user:s3cret@", false),
        ("nats", "nats://user:s3cret@h:99999", false),
    ] {
        let code = Some(if is_taken { 0 } else { 2 });
        let flag = run(&[&format!("--persistence={key}"), &format!("--{key}"), address, "config"]).await;
        let name = format!("ORDERSYSTEM_{}", key.to_uppercase());
        let environment = outcome(program().env(name, address).arg("config")).await;
        let toml = file(folder.path(), "c.toml", &format!("{key} = '{address}'\n"));
        let configured = run(&["config", "--config", &toml]).await;
        let log = run(&["verify", address]).await;
        for (found, from) in [(&flag, "flag"), (&environment, "environment"), (&configured, "file")] {
            shows_nothing(found, &format!("{from} {address}"));
            assert_eq!(found.code, code, "{from} {address}: {found:?}");
        }
        shows_nothing(&log, address);
    }
}

#[tokio::test]
async fn a_password_in_a_file_is_used_for_redis_and_never_shown() {
    // Characters that an address would have to encode.
    let password = "s3cret@/:%41?#,& x";
    let server = RedisServer::start(&[DURABLE, &["--requirepass", password]].concat());
    let folder = tempfile::tempdir().unwrap();
    let right = file(folder.path(), "right", &format!("{password}\n"));
    let wrong = file(folder.path(), "wrong", "s3cret");
    let address = format!("127.0.0.1:{}", server.port);
    for address in [address.clone(), format!("redis://{address}"), format!("redis://default@{address}")] {
        let args = ["--persistence", "redis", "--redis", &address, "--redis-password-file", &right];
        let mut node = Process::start(&[&args[..], &["--log-level", "debug"]].concat()).await;
        node.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
        let health = node.get("/health").await;
        node.signal("TERM");
        let rest = node.rest_of_log().await;
        let said = format!("{}{}{rest}{health}", node.before, node.banner);
        assert!(!said.contains(SECRET), "{said}");
        let shown = run(&[&["config"][..], &args].concat()).await;
        shows_nothing(&shown, "config");
        assert!(shown.stdout.contains("redis_password_file"), "{shown:?}");
    }
    let args = ["--port", "0", "--persistence", "redis", "--redis", &address, "--redis-password-file", &wrong];
    let refused = run(&args).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    shows_nothing(&refused, "a wrong password");
}

#[tokio::test]
async fn a_password_or_a_token_in_a_file_is_used_for_nats_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let secret = file(folder.path(), "secret", "s3cret@/:%41?#,&\n");
    for (authorization, login, flag) in [
        ("user: orders, password: \"s3cret@/:%41?#,&\"", "orders@", "--nats-password-file"),
        ("token: \"s3cret@/:%41?#,&\"", "", "--nats-token-file"),
    ] {
        let server = NatsServer::start(&format!("authorization {{ {authorization} }}"));
        let address = format!("nats://{login}127.0.0.1:{}", server.port);
        let mut node = Process::start(&["--persistence", "nats", "--nats", &address, flag, &secret]).await;
        node.places_an_order().await;
        let health = node.get("/health").await;
        node.signal("TERM");
        let rest = node.rest_of_log().await;
        let said = format!("{}{}{rest}{health}", node.before, node.banner);
        assert!(!said.contains(SECRET), "{said}");
        shows_nothing(&run(&["config", "--persistence", "nats", "--nats", &address, flag, &secret]).await, "config");
    }
}

#[tokio::test]
async fn a_file_that_holds_no_password_or_one_too_many_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [good, empty, lines] = [("good", "s3cret\n"), ("empty", "\n"), ("lines", "s3cret\ns3cret\n")]
        .map(|(name, text)| file(folder.path(), name, text));
    let long = file(folder.path(), "long", &SECRET.repeat(1_000));
    for (address, flag, path, words) in [
        ("redis://h", "--redis-password-file", &empty, "is empty"),
        ("redis://h", "--redis-password-file", &lines, "more than one line"),
        ("redis://h", "--redis-password-file", &long, "longer than 4096 bytes"),
        ("redis://h", "--redis-password-file", &"/no/such".to_owned(), "/no/such cannot be read"),
        ("redis://u:s3cret@h", "--redis-password-file", &good, "give it only once"),
        ("nats://h", "--nats-password-file", &good, "nats://user@host:port"),
        ("nats://u:s3cret@h", "--nats-password-file", &good, "give it only once"),
        ("nats://s3cret@h", "--nats-token-file", &good, "give it only once"),
    ] {
        let broker = if address.starts_with("redis") { "redis" } else { "nats" };
        let refused = run(&["--persistence", broker, &format!("--{broker}"), address, flag, path, "config"]).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(words) && refused.stderr.contains(&flag[2..]), "{words}: {refused:?}");
        shows_nothing(&refused, words);
    }
    let unused = run(&["--redis-password-file", &good, "config"]).await;
    assert!(unused.code == Some(2) && unused.stderr.contains("nothing uses Redis"), "{unused:?}");
}
