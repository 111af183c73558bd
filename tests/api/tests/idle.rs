//! A waiting client costs nothing. In a binary of its own, so that the process does nothing else.

use std::time::Duration;

use podwright_api_tests::{Server, pod, running};
use podwright_cli::client::Client;

/// CPU time of this process so far, in clock ticks of 10 ms (proc(5), stat fields 14 and 15).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_waiting_follow_and_a_waiting_watch_use_no_cpu() {
    let server = Server::start();
    server.put(pod("web", "Running", &running()));
    server.write_log("web", "app", "0.log", &["a"]);
    let client = Client::new(server.socket());
    let mut log = client.stream("/api/v1/namespaces/default/pods/web/log?follow=true").await.unwrap();
    assert!(log.bytes().await.unwrap().is_some());
    let mut watch = client.stream("/api/v1/pods?watch=true").await.unwrap();
    assert!(watch.json_line().await.unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = cpu_ticks();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = cpu_ticks() - before;
    assert!(used <= 3, "{used} ticks in 2 s");
    server.write_log("web", "app", "0.log", &["b"]);
    let woken = tokio::time::timeout(Duration::from_secs(10), log.bytes()).await.expect("the follow wakes");
    assert_eq!(woken.unwrap().unwrap(), "b\n");
}
