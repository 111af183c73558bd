//! The API over a real Unix socket: lists, watches, commands, errors, and logs with real files.

use std::time::Duration;

use podwright_api_tests::{Server, after, ended, job, key, pod, running};
use podwright_cli::client::{Client, ClientError, Pieces};
use podwright_core::objects::Kind;
use serde_json::{Value, json};

async fn refusal(client: &Client, method: &str, target: &str) -> (u16, String, String) {
    match client.json(method.parse().unwrap(), target).await {
        Err(ClientError::Refused { code, reason, message }) => (code, reason, message),
        other => panic!("{target}: {other:?}"),
    }
}

/// The next pieces of a log until `text` is complete.
async fn expect(stream: &mut Pieces, text: &str) {
    let mut seen = String::new();
    while seen.len() < text.len() {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.bytes()).await;
        match next.unwrap_or_else(|_| panic!("no more after {seen:?}, expected {text:?}")).unwrap() {
            Some(bytes) => seen.push_str(std::str::from_utf8(&bytes).unwrap()),
            None => panic!("ends after {seen:?}, expected {text:?}"),
        }
    }
    assert_eq!(seen, text);
}

async fn line(stream: &mut Pieces) -> Value {
    let next = tokio::time::timeout(Duration::from_secs(10), stream.json_line()).await;
    next.expect("a line within 10 s").unwrap().expect("a line")
}

#[tokio::test]
async fn lists_and_single_pods() {
    let server = Server::start();
    server.put(pod("web", "Running", &running()));
    server.put(pod("job", "Succeeded", &ended(0)));
    server.put(pod("old", "Failed", &ended(7)));
    server.store.archive_pod(&key("old"), after(30));
    let client = Client::new(server.socket());

    let names = async |target: &str| -> Vec<String> {
        let list = client.get(target).await.unwrap();
        assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("PodList"), Some("v1")));
        assert!(list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 0);
        list["items"].as_array().unwrap().iter().map(|p| p["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/api/v1/pods").await, ["job", "web"]);
    assert_eq!(names("/api/v1/pods?all=true").await, ["job", "old", "web"]);
    assert_eq!(names("/api/v1/namespaces/default/pods?labelSelector=app+in+(web,old)").await, ["web"]);
    assert_eq!(names("/api/v1/pods?fieldSelector=status.phase%3DSucceeded").await, ["job"]);
    assert_eq!(names("/api/v1/namespaces/other/pods").await, Vec::<String>::new());

    assert_eq!(client.get("/api/v1/namespaces/default/pods/web").await.unwrap()["status"]["podIP"], "10.1.2.3");
    let old = client.get("/api/v1/namespaces/default/pods/old?all=true").await.unwrap();
    assert_eq!(old["metadata"]["annotations"]["podwright.dev/ended-at"], "2026-11-23T12:00:30Z");
    assert_eq!(refusal(&client, "GET", "/api/v1/namespaces/default/pods/old").await.0, 404);
    assert_eq!(client.get("/version").await.unwrap()["gitVersion"], concat!("v", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn jobs_are_listed_watched_and_removed() {
    let server = Server::start();
    let client = Client::new(server.socket());
    server.put_job(job("parts", None));
    let list = client.get("/apis/batch/v1/jobs?labelSelector=team%3Dshop").await.unwrap();
    assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("JobList"), Some("batch/v1")));
    assert_eq!(list["items"][0]["metadata"]["name"], "parts");
    assert_eq!(client.get("/apis/batch/v1/cronjobs").await.unwrap()["items"], json!([]));
    let target = "/apis/batch/v1/namespaces/default/jobs/parts";
    assert_eq!(client.get(target).await.unwrap()["spec"]["completions"], 3);
    let mut changes = client.stream("/apis/batch/v1/namespaces/default/jobs?watch=true").await.unwrap();
    assert_eq!(line(&mut changes).await["type"], "ADDED");
    server.put_job(job("parts", Some("Complete")));
    assert_eq!(line(&mut changes).await["object"]["status"]["conditions"][0]["type"], "Complete");
    server.store.remove_object(Kind::Job, "default", "parts");
    assert_eq!(line(&mut changes).await["type"], "DELETED");
    assert_eq!(
        refusal(&client, "GET", target).await,
        (404, "NotFound".into(), "jobs.batch \"parts\" not found".into())
    );
    client.json("DELETE".parse().unwrap(), target).await.unwrap();
    let path = "/apis/podwright.dev/v1/namespaces/default/cronjobs/nightly/instantiate";
    assert_eq!(refusal(&client, "POST", path).await.0, 400);
    assert_eq!(refusal(&client, "POST", &format!("{path}?job=now")).await.0, 404);
    assert_eq!(*server.asked.lock().unwrap(), ["delete Job default/parts", "instantiate default/nightly now"]);
}

#[tokio::test]
async fn errors_are_statuses() {
    let server = Server::start();
    server.put(pod("web", "Running", &running()));
    let client = Client::new(server.socket());
    let mut gone = pod("going", "Running", &running());
    gone["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:09Z");
    server.put(gone);
    for (method, target, code, reason, text) in [
        ("GET", "/api/v1/namespaces/default/pods/none", 404, "NotFound", "pods \"none\" not found"),
        ("GET", "/api/v1/nodes", 404, "NotFound", "could not find the requested resource: /api/v1/nodes"),
        ("GET", "/api/v1/namespaces/%ff/pods", 400, "BadRequest", "Bad Request"),
        ("POST", "/api/v1/pods", 405, "MethodNotAllowed", "POST is not supported on /api/v1/pods"),
        ("GET", "/api/v1/pods?lablSelector=x", 400, "BadRequest", "unknown query parameter \"lablSelector\""),
        ("GET", "/api/v1/pods?labelSelector=a+b", 400, "BadRequest", "found \"a b\""),
        ("GET", "/api/v1/events?fieldSelector=x%3Dy", 400, "BadRequest", "field \"x\" is not supported"),
        ("GET", "/api/v1/pods?watch=true&resourceVersion=x", 400, "BadRequest", "found \"x\""),
        ("DELETE", "/api/v1/namespaces/default/pods/none", 404, "NotFound", "not found"),
        ("DELETE", "/api/v1/namespaces/default/pods/web?gracePeriodSeconds=-1", 400, "BadRequest", "found \"-1\""),
        ("POST", "/apis/podwright.dev/v1/namespaces/default/pods/going/restart", 409, "Conflict", "being removed"),
        ("GET", "/api/v1/namespaces/default/pods/web/log?container=x", 400, "BadRequest", "choose one of: [app]"),
        ("GET", "/api/v1/namespaces/default/pods/web/log?container=app", 404, "NotFound", "has left no log"),
        ("GET", "/api/v1/namespaces/default/pods/web/log?previous=true", 400, "BadRequest", "previous terminated"),
        ("GET", "/api/v1/namespaces/default/pods/web/log?previous=1&follow=1", 400, "BadRequest", "exclude each other"),
    ] {
        let (found_code, found_reason, message) = refusal(&client, method, target).await;
        assert_eq!((found_code, found_reason.as_str()), (code, reason), "{method} {target}: {message}");
        assert!(message.contains(text), "{method} {target}: {message}");
    }
}

#[tokio::test]
async fn commands_reach_the_agent_and_its_answer_comes_back() {
    let server = Server::start();
    server.put(pod("web", "Running", &running()));
    let client = Client::new(server.socket());
    let target = "/api/v1/namespaces/default/pods/web";
    let status = client.json("DELETE".parse().unwrap(), &format!("{target}?gracePeriodSeconds=25")).await.unwrap();
    assert_eq!((status["status"].as_str(), status["details"]["uid"].as_str()), (Some("Success"), Some("uid-web")));
    assert_eq!(status["message"], "web.yaml is left alone: the pod stays away until that file changes");
    client.json("DELETE".parse().unwrap(), target).await.unwrap();
    let restart = "/apis/podwright.dev/v1/namespaces/default/pods/web/restart";
    client.json("POST".parse().unwrap(), restart).await.unwrap();
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked, ["delete Some(25s) default/web", "delete None default/web", "restart default/web"]);
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_shows_every_change() {
    let server = Server::start();
    server.put(pod("web", "Pending", &json!({"waiting": {}})));
    let client = Client::new(server.socket());
    let mut all = client.stream("/api/v1/pods?watch=true&all=true").await.unwrap();
    let mut running_only = client.stream("/api/v1/pods?watch=true&fieldSelector=status.phase%3DRunning").await.unwrap();
    let kind_and_phase = |v: &Value| (v["type"].as_str().unwrap().to_owned(), v["object"]["status"]["phase"].clone());
    assert_eq!(kind_and_phase(&line(&mut all).await), ("ADDED".into(), json!("Pending")));
    server.put(pod("web", "Running", &running()));
    assert_eq!(kind_and_phase(&line(&mut all).await), ("MODIFIED".into(), json!("Running")));
    assert_eq!(kind_and_phase(&line(&mut running_only).await), ("ADDED".into(), json!("Running")));
    server.put(pod("web", "Succeeded", &ended(0)));
    assert_eq!(kind_and_phase(&line(&mut all).await), ("MODIFIED".into(), json!("Succeeded")));
    assert_eq!(kind_and_phase(&line(&mut running_only).await), ("DELETED".into(), json!("Succeeded")));
    server.store.archive_pod(&key("web"), after(30));
    assert_eq!(kind_and_phase(&line(&mut all).await), ("MODIFIED".into(), json!("Succeeded")));
    server.store.forget_pod(&key("web"));
    assert_eq!(kind_and_phase(&line(&mut all).await), ("DELETED".into(), json!("Succeeded")));
    server.close();
    assert!(all.json_line().await.unwrap().is_none());
}

#[tokio::test]
async fn a_watch_goes_on_from_a_list_and_a_late_one_is_told_to_list_again() {
    let server = Server::start();
    let client = Client::new(server.socket());
    server.put(pod("web", "Pending", &json!({"waiting": {}})));
    let version = client.get("/api/v1/pods").await.unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    server.put(pod("web", "Running", &running()));
    let target = format!("/api/v1/pods?watch=true&resourceVersion={version}");
    let first = line(&mut client.stream(&target).await.unwrap()).await;
    assert_eq!(
        (first["type"].as_str(), first["object"]["status"]["phase"].as_str()),
        (Some("MODIFIED"), Some("Running"))
    );
    for i in 0..3000 {
        server.put(pod("web", &format!("phase {i}"), &running()));
    }
    let mut late = client.stream(&target).await.unwrap();
    let error = line(&mut late).await;
    assert_eq!((error["type"].as_str(), error["object"]["code"].as_u64()), (Some("ERROR"), Some(410)));
    assert!(late.json_line().await.unwrap().is_none());
    let mut timed = client.stream("/api/v1/events?watch=true&timeoutSeconds=1").await.unwrap();
    assert!(timed.json_line().await.unwrap().is_none());
}

#[tokio::test]
async fn events_are_listed_and_watched() {
    let server = Server::start();
    server.event("web", "Started", "Started container app", 2);
    server.event("web", "BackOff", "Back-off restarting", 3);
    server.event("web", "BackOff", "Back-off restarting", 13);
    let client = Client::new(server.socket());
    let list =
        client.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.uid%3Duid-web").await.unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!((items[1]["reason"].as_str(), items[1]["count"].as_u64()), (Some("BackOff"), Some(2)));
    let mut watch = client.stream("/api/v1/events?watch=true").await.unwrap();
    line(&mut watch).await;
    line(&mut watch).await;
    server.event("web", "Started", "Started container app", 20);
    let change = line(&mut watch).await;
    assert_eq!((change["type"].as_str(), change["object"]["count"].as_u64()), (Some("MODIFIED"), Some(2)));
}

const LOG: &str = "/api/v1/namespaces/default/pods/web/log";

#[tokio::test]
async fn logs_of_the_present_and_the_previous_instance() {
    let server = Server::start();
    let mut web = pod("web", "Running", &running());
    let statuses = web["status"]["containerStatuses"].as_array_mut().unwrap();
    let app = statuses.iter_mut().find(|status| status["name"] == "app").unwrap();
    app["lastState"] = json!({"terminated": {"exitCode": 1, "containerID": "podwright://uid-web-app-3"}});
    server.put(web);
    server.write_log("web", "app", "3.log", &["old"]);
    server.write_log("web", "app", "4.log.1", &["one"]);
    server.write_log("web", "app", "4.log", &["two", "three"]);
    server.write_log("web", "proxy", "0.log", &["p"]);
    let client = Client::new(server.socket());
    for (query, text) in [
        ("", "one\ntwo\nthree\n"),
        ("?tailLines=2", "two\nthree\n"),
        ("?previous=true", "old\n"),
        ("?container=proxy&timestamps=true", "2026-11-23T12:00:00.123456789Z p\n"),
    ] {
        let mut stream = client.stream(&format!("{LOG}{query}")).await.unwrap();
        expect(&mut stream, text).await;
        assert!(stream.bytes().await.unwrap().is_none(), "{query}");
    }
    server.put(pod("web", "Failed", &ended(1)));
    server.store.archive_pod(&key("web"), after(9));
    expect(&mut client.stream(LOG).await.unwrap(), "one\ntwo\nthree\n").await;
    server.put(pod("new", "Pending", &json!({"waiting": {"reason": "PodInitializing"}})));
    let (code, _, message) = refusal(&client, "GET", "/api/v1/namespaces/default/pods/new/log").await;
    assert_eq!(
        (code, message.as_str()),
        (400, "container \"app\" in pod \"new\" is waiting to start: PodInitializing")
    );
}

#[tokio::test]
async fn a_follow_survives_rotation_and_restarts_and_ends_with_the_pod() {
    let server = Server::start();
    server.put(pod("web", "Pending", &json!({"waiting": {"reason": "PodInitializing"}})));
    let mut stream = Client::new(server.socket()).stream(&format!("{LOG}?follow=true")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.write_log("web", "app", "0.log", &["first"]);
    expect(&mut stream, "first\n").await;
    server.put(pod("web", "Running", &running()));
    server.write_log("web", "app", "0.log", &["before"]);
    std::fs::rename(server.log("web", "app", "0.log"), server.log("web", "app", "0.log.1")).unwrap();
    server.write_log("web", "app", "0.log", &["rotated"]);
    expect(&mut stream, "before\nrotated\n").await;
    server.put(pod("web", "Running", &ended(1)));
    server.write_log("web", "app", "1.log", &["again"]);
    expect(&mut stream, "again\n").await;
    server.write_log("web", "app", "1.log", &["last"]);
    server.put(pod("web", "Failed", &ended(1)));
    expect(&mut stream, "last\n").await;
    assert!(stream.bytes().await.unwrap().is_none());
}

#[tokio::test]
async fn a_follow_ends_when_the_pod_is_replaced_or_the_agent_stops() {
    let server = Server::start();
    server.put(pod("web", "Running", &running()));
    server.write_log("web", "app", "0.log", &["a", "b"]);
    let client = Client::new(server.socket());
    let mut replaced = client.stream(&format!("{LOG}?follow=true&tailLines=1")).await.unwrap();
    expect(&mut replaced, "b\n").await;
    let mut new = pod("web", "Running", &running());
    new["metadata"]["uid"] = json!("another");
    server.put(new);
    let end = tokio::time::timeout(Duration::from_secs(10), replaced.bytes()).await.expect("ends");
    assert!(end.unwrap().is_none());
    let mut stopped = client.stream(&format!("{LOG}?follow=true")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.close();
    let end = tokio::time::timeout(Duration::from_secs(10), stopped.bytes()).await.expect("ends");
    assert!(end.unwrap().is_none());
}
