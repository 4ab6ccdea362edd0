//! The messages of the program about a Redis that is unavailable, is something else, or is reached in another way.

use std::{process::Stdio, time::Duration};

use crate::{
    redis_server::{DURABLE, RedisServer, free_port},
    support::{Process, program, run},
    tls::Authority,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::{Instant, sleep},
};

#[tokio::test]
async fn an_address_of_another_client_is_refused_with_the_setting_and_the_accepted_forms() {
    for (address, expected) in [
        ("localhost:6379,abortConnect=false", "abortConnect=false"),
        ("redis+sentinel://one:26379,two:26379", "service"),
        ("redis://localhost:6379/first", "database"),
    ] {
        let outcome = run(&["--persistence", "redis", "--redis", address]).await;
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("--redis") && outcome.stderr.contains(expected), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    }
    let outcome = run(&["--persistence", "redis", "--redis", "foo:bar:baz"]).await;
    assert!(outcome.stderr.contains("'foo:bar:baz'"), "{outcome:?}");
    let outcome = run(&["--persistence", "redis", "--redis", "redis://:s3cret"]).await;
    assert!(outcome.code == Some(2) && !outcome.stderr.contains("s3cret"), "{outcome:?}");
    let outcome = run(&["--persistence", "redis", "--redis", "localhost:6379,abortConnect=false"]).await;
    for form in ["host:port", "redis[s]://[user:password@]host:port[/db]", "redis[s]+sentinel://"] {
        assert!(outcome.stderr.contains(form), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_password_refused_by_redis_is_explained() {
    let server = RedisServer::start(&[DURABLE, &["--requirepass", "s3cret"]].concat());
    for login in ["", ":wrong@"] {
        let address = format!("redis://{login}127.0.0.1:{}", server.port);
        let outcome = run(&["--port", "0", "--persistence", "redis", "--redis", &address]).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("it does not accept the user name or the password"), "{outcome:?}");
        assert!(outcome.stderr.contains("redis://user:password@host:port"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_redis_is_named_as_such() {
    let node = Process::start(&[]).await;
    let port = free_port().to_string();
    let mut nats = Command::new("nats-server");
    let _nats = nats
        .args(["-a", "127.0.0.1", "-p", &port])
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nats-server is installed");
    let address = format!("127.0.0.1:{port}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        assert!(Instant::now() < deadline, "nats-server does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    for address in [address, node.address.to_string()] {
        let outcome = run(&["--port", "0", "--persistence", "redis", "--redis", &address]).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let expected = format!("Redis at {address} cannot be used: what answers there is not Redis");
        assert!(outcome.stderr.contains(&expected), "{outcome:?}");
    }
}

/// The output of a node within some seconds.
async fn said(args: &[&str], within: Duration) -> Vec<String> {
    let mut child = program().args(["--port", "0"]).args(args).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let end = sleep(within);
    tokio::pin!(end);
    loop {
        tokio::select! {
            line = lines.next_line() => match line.unwrap() {
                Some(line) => said.push(line),
                None => return said,
            },
            () = &mut end => return said,
        }
    }
}

#[tokio::test]
async fn an_absent_redis_is_logged_once_with_its_address() {
    let address = format!("127.0.0.1:{}", free_port());
    let lines =
        said(&["--persistence", "redis", "--transport", "redis", "--redis", &address], Duration::from_secs(6)).await;
    let expected = format!("Redis at {address} cannot be used: connection refused");
    let said: Vec<_> = lines.iter().filter(|line| line.contains("WARN") && line.contains(&expected)).collect();
    // Other lines may report that they wait for it.
    let of_the_connection = said.iter().filter(|line| line.contains("redis::keeper")).count();
    assert_eq!(of_the_connection, 1, "{lines:#?}");
    let without = lines.iter().find(|line| line.contains("Redis") && !line.contains(&address));
    assert_eq!(without, None, "a line about Redis without its address");
}

#[tokio::test]
async fn a_redis_with_tls_of_a_private_authority_is_trusted_by_ssl_cert_file() {
    let authority = Authority::with_files();
    let tls_port = free_port().to_string();
    let (cert, key, ca) = (authority.path("server.pem"), authority.path("server.key"), authority.path("ca.pem"));
    let tls = [
        &["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca][..],
        &["--tls-auth-clients", "no"],
    ];
    let server = RedisServer::start(&[DURABLE, &tls.concat()].concat());
    let address = format!("rediss://localhost:{tls_port}");
    let args = ["--port", "0", "--persistence", "redis", "--redis", &address];
    let mut child = program().args(args).env("SSL_CERT_FILE", &ca).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(line) = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap() {
        said.push(line);
        if said.iter().any(|line| line.contains("connected to Redis")) {
            break;
        }
    }
    assert!(said.iter().any(|line| line.contains("connected to Redis")), "{said:#?}");
    assert_eq!(server.cli(&["EXISTS", "{ordersystem}:log-id"]), "1");

    let elsewhere = format!("rediss://127.0.0.1:{tls_port}");
    let args = ["--port", "0", "--persistence", "redis", "--redis", &elsewhere];
    let mut child = program().args(args).env("SSL_CERT_FILE", &ca).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let is_it = |line: &str| {
        line.contains(&format!("Redis at 127.0.0.1:{tls_port} cannot be used: its certificate is for another name"))
            && line.contains("localhost")
    };
    while let Some(line) = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap() {
        if is_it(&line) {
            break;
        }
        assert!(!line.contains("cannot be used"), "{line}");
    }

    for (address, expected) in [
        (address, "SSL_CERT_FILE"),
        (format!("rediss://localhost:{}", server.port), "speaks no TLS"),
        (format!("redis://localhost:{tls_port}"), "rediss://"),
    ] {
        let lines = self::said(&["--persistence", "redis", "--redis", &address], Duration::from_secs(4)).await;
        let host = address.split("//").nth(1).unwrap();
        let is_it =
            |line: &&String| line.contains(&format!("Redis at {host} cannot be used")) && line.contains(expected);
        assert!(lines.iter().any(|line| is_it(&line)), "{address}: {lines:#?}");
    }
}
