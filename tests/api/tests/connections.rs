//! Clients of the API that do nothing, too much, or everything slowly: over raw sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use podwright_api_tests::{Server, pod, running};
use podwright_cli::client::Client;
use serde_json::json;

/// As in the server: more than that many connections there never are, and so many streams.
const MOST: usize = 384;
const MOST_STREAMS: usize = 256;

/// Sends this, then says what came until the server closed, and when that was.
async fn exchange(socket: PathBuf, sent: Vec<u8>) -> (String, Duration) {
    let exchange = move || {
        let begun = Instant::now();
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may close before it has read everything.
        let _closed = stream.write_all(&sent);
        let mut text = Vec::new();
        let _reset = stream.read_to_end(&mut text);
        (String::from_utf8_lossy(&text).into_owned(), begun.elapsed())
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn heads_and_bodies_have_a_longest_length() {
    let server = Server::start();
    let get = |head: &str| format!("GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n").into_bytes();
    // The controls: what is not too long is answered.
    assert_eq!(code(&exchange(server.socket(), get(&format!("a: {}\r\n", "x".repeat(8 << 10)))).await.0), "200");
    assert_eq!(code(&exchange(server.socket(), get(&"a: x\r\n".repeat(50))).await.0), "200");
    assert_eq!(code(&exchange(server.socket(), get(&format!("a: {}\r\n", "x".repeat(1 << 20)))).await.0), "431");
    assert_eq!(code(&exchange(server.socket(), get(&"a: x\r\n".repeat(500))).await.0), "431");
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    let answer = exchange(server.socket(), long).await.0;
    assert!(matches!(code(&answer), "414" | "431"), "{answer}");
    for body in ["content-length: 1000000\r\n", "transfer-encoding: chunked\r\n"] {
        let mut sent = get(body);
        sent.extend(b"fffff\r\n");
        sent.resize(sent.len() + 0xfffff, b'x');
        assert_eq!(code(&exchange(server.socket(), sent).await.0), "413", "{body}");
    }
}

#[tokio::test]
async fn whoever_keeps_the_server_waiting_is_cut_off() {
    let server = Server::start();
    for n in 0..400 {
        let mut large = pod(&format!("p{n}"), "Running", &running());
        large["metadata"]["annotations"] = json!({"x": "x".repeat(10_000)});
        server.put(large);
    }
    let about = |took: Duration, seconds: u64| (seconds..seconds + 8).contains(&took.as_secs());
    let silent = exchange(server.socket(), vec![]);
    let head = exchange(server.socket(), b"GET /version HTTP/1.1\r\nhost: ".to_vec());
    let body = exchange(server.socket(), b"DELETE /api/v1/namespaces/default/pods/p1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{".to_vec());
    let after = exchange(server.socket(), b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n".to_vec());
    let socket = server.socket();
    let unread = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(b"GET /api/v1/pods HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_secs(36));
        let mut text = Vec::new();
        let _reset = stream.read_to_end(&mut text);
        text.len()
    });
    let drip = server.socket();
    let dripping = tokio::task::spawn_blocking(move || {
        let (mut stream, begun) = (UnixStream::connect(drip).unwrap(), Instant::now());
        stream.write_all(b"GET /version HTTP/1.1\r\nh: ").unwrap();
        // A byte now and then does not buy more time.
        while stream.write_all(b"x").is_ok() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(500));
        }
        begun.elapsed()
    });
    let (silent, head, body, after) = tokio::join!(silent, head, body, after);
    assert!(silent.0.is_empty() && about(silent.1, 10), "{silent:?}");
    assert!(about(head.1, 10), "{head:?}");
    assert!(code(&body.0) == "408" && about(body.1, 10), "{body:?}");
    assert!(code(&after.0) == "200" && about(after.1, 10), "{after:?}");
    assert!(about(dripping.await.unwrap(), 10));
    let whole = Client::new(server.socket()).get("/api/v1/pods").await.unwrap().to_string().len();
    let got = unread.await.unwrap();
    assert!(whole > 4_000_000 && got < whole / 2, "{got} of {whole} bytes after a pause");
}

#[tokio::test]
async fn ten_thousand_connections_that_do_nothing_shut_nobody_out() {
    const FLOOD: usize = 10_000;
    let server = Server::start();
    let client = Client::new(server.socket());
    let mut watch = client.stream("/api/v1/pods?watch=true").await.unwrap();
    let socket = server.socket();
    let flood = tokio::task::spawn_blocking(move || {
        (0..FLOOD).map(|_| UnixStream::connect(&socket).unwrap()).collect::<Vec<_>>()
    });
    for _ in 0..50 {
        client.get("/version").await.unwrap();
    }
    let flood = flood.await.unwrap();
    client.get("/version").await.unwrap();
    server.put(pod("web", "Running", &running()));
    let seen = tokio::time::timeout(Duration::from_secs(10), watch.json_line()).await;
    assert_eq!(seen.expect("the watch goes on").unwrap().unwrap()["type"], "ADDED");
    let open = tokio::task::spawn_blocking(move || {
        let still = |stream: &mut UnixStream| {
            stream.set_nonblocking(true).unwrap();
            stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        flood.into_iter().filter_map(|mut stream| still(&mut stream).then_some(())).count()
    });
    let open = open.await.unwrap();
    assert!((1..=MOST).contains(&open), "{open} of {FLOOD} connections are open");
}

#[tokio::test]
async fn there_are_only_so_many_streams_and_room_for_others_beside_them() {
    let server = Server::start();
    let client = Client::new(server.socket());
    let mut streams = Vec::new();
    for n in 0..MOST_STREAMS {
        streams.push(client.stream("/api/v1/pods?watch=true").await.unwrap_or_else(|e| panic!("stream {n}: {e}")));
    }
    let Err(refused) = client.stream("/api/v1/pods?watch=true").await else { panic!("one too many") };
    assert!(refused.to_string().contains("256 watches and follows"), "{refused}");
    client.get("/api/v1/pods").await.unwrap();
    drop(streams.pop());
    let begun = Instant::now();
    while client.stream("/api/v1/pods?watch=true").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a stream that ended makes room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn there_are_only_so_many_follows() {
    let server = Server::start();
    server.put(pod("web", "Running", &running()));
    server.write_log("web", "app", "0.log", &["a"]);
    let client = Client::new(server.socket());
    let target = "/api/v1/namespaces/default/pods/web/log?follow=true";
    let mut follows = Vec::new();
    for n in 0..64 {
        follows.push(client.stream(target).await.unwrap_or_else(|e| panic!("follow {n}: {e}")));
    }
    let Err(refused) = client.stream(target).await else { panic!("one too many") };
    assert!(refused.to_string().contains("64 logs are followed"), "{refused}");
    assert!(client.stream(target.split('?').next().unwrap()).await.is_ok(), "a log is read beside them");
    drop(follows.pop());
    let begun = Instant::now();
    while client.stream(target).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "a follow that ended makes room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
