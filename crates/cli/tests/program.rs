//! The program `podwright` against a server over a real socket: output, exit statuses, and what it asks for.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use podwright_agent::status::{FileReport, FileState};
use podwright_api_tests::{Server, after, ended, job, key, pod, running};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

fn podwright(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwright"));
    command.env("PODWRIGHT_SOCKET", server.socket()).env_remove("NO_COLOR").args(args).stdin(Stdio::null());
    command.kill_on_drop(true);
    command
}

async fn run(server: &Server, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = podwright(server, args).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// What it prints; it has to succeed.
async fn ok(server: &Server, args: &[&str]) -> String {
    let (status, stdout, stderr) = run(server, args).await;
    assert_eq!(status, 0, "{args:?}: {stdout}{stderr}");
    stdout
}

fn start(server: &Server, args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = podwright(server, args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let next = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
    next.expect("a line within 20 s").unwrap().expect("a line")
}

/// `web` runs, `old` has failed and was removed.
fn two_pods() -> Server {
    let server = Server::start();
    server.put(pod("web", "Running", &running()));
    server.put(pod("old", "Failed", &ended(7)));
    server.store.archive_pod(&key("old"), after(30));
    server
}

#[tokio::test]
async fn get_jobs_and_describe_one() {
    let server = Server::start();
    server.put_job(job("parts", None));
    server.put_job(job("bad", Some("Failed")));
    let table = ok(&server, &["get", "jobs"]).await;
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]);
    assert_eq!(rows[1][..4], ["bad", "Failed", "1/3", "29s"]);
    assert_eq!(rows[2][..3], ["parts", "Running", "1/3"]);
    assert_eq!(ok(&server, &["get", "job/parts", "-o", "name"]).await, "job/parts\n");
    assert!(ok(&server, &["describe", "job", "parts"]).await.contains("Completions:      3"));
    assert_eq!(run(&server, &["get", "job", "none"]).await.0, 3);
    assert_eq!(run(&server, &["get", "jobs", "--all"]).await.0, 2);
    assert_eq!(run(&server, &["delete", "job", "parts", "--now"]).await.0, 2);
    assert!(ok(&server, &["delete", "job", "parts"]).await.contains("job \"parts\" is being removed"));
    assert_eq!(run(&server, &["create", "job", "now", "--from=cronjob/nightly"]).await.0, 3);
}

#[tokio::test]
async fn waiting_ends_with_the_condition_with_its_opposite_or_with_time() {
    let server = Server::start();
    server.put_job(job("parts", None));
    server.put_job(job("bad", Some("Failed")));
    let wait = async |args: &[&str]| run(&server, &[&["wait"], args].concat()).await.0;
    assert_eq!(wait(&["job/bad", "--for=condition=failed"]).await, 0);
    assert_eq!(wait(&["job/bad", "--for=condition=complete"]).await, 1);
    assert_eq!(wait(&["job/parts", "--for=condition=complete", "--timeout=1s"]).await, 6);
    assert_eq!(wait(&["job/none", "--for=condition=complete", "--timeout=1s"]).await, 3);
    assert_eq!(wait(&["job/none", "--for=delete", "--timeout=1s"]).await, 0);
    assert_eq!(wait(&["job/parts", "--for=luck"]).await, 2);
    let (mut child, _lines) = start(&server, &["wait", "job/parts", "--for=condition=complete", "--timeout=30s"]);
    server.put_job(job("parts", Some("Complete")));
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn get_pods() {
    let server = two_pods();
    let table = ok(&server, &["get", "pods"]).await;
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(rows[1][..4], ["web", "2/2", "Running", "0"]);
    assert_eq!(rows.len(), 2);
    let all = ok(&server, &["get", "pods", "--all"]).await;
    let old = all.lines().find(|l| l.starts_with("old")).unwrap();
    assert!(
        all.lines().next().unwrap().ends_with("REMOVED") && old.contains(" Error ") && old.ends_with(" ago"),
        "{all}"
    );
    assert!(ok(&server, &["get", "pods", "-A"]).await.starts_with("NAMESPACE   NAME"));
    assert!(ok(&server, &["get", "pod/web", "-o", "wide"]).await.contains("10.1.2.3"));
    assert!(ok(&server, &["get", "pods", "--color", "always"]).await.contains("\x1b[32mRunning\x1b[0m"));
    let json: Value = serde_json::from_str(&ok(&server, &["get", "pod", "web", "-o", "json"]).await).unwrap();
    assert_eq!((json["kind"].as_str(), json["status"]["podIP"].as_str()), (Some("Pod"), Some("10.1.2.3")));
    let list: Value = serde_json::from_str(&ok(&server, &["get", "pods", "-o", "json"]).await).unwrap();
    assert_eq!((list["kind"].as_str(), list["items"][0]["metadata"]["name"].as_str()), (Some("PodList"), Some("web")));
    let yaml = ok(&server, &["get", "pods", "web", "-o", "yaml"]).await;
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: \"2026-"), "{yaml}");
    assert_eq!(ok(&server, &["get", "pods", "-l", "app=web", "-o", "name"]).await, "pod/web\n");
    assert_eq!(ok(&server, &["get", "pods", "--field-selector", "status.phase!=Running"]).await, "");
    let (status, _, stderr) = run(&server, &["get", "pods", "-n", "none"]).await;
    assert_eq!((status, stderr.as_str()), (0, "No resources found in none namespace.\n"));
}

#[tokio::test]
async fn exit_statuses_tell_what_went_wrong() {
    let server = two_pods();
    let mut going = pod("going", "Running", &running());
    going["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:09Z");
    server.put(going);
    for (args, expected, text) in [
        (vec!["get", "pod", "none"], 3, "error: pods \"none\" not found in namespace \"default\"; if it has ended"),
        (vec!["get", "pods", "old"], 3, "--all shows it"),
        (vec!["get", "nodes"], 2, "cannot get \"nodes\"; accepted: pods"),
        (vec!["get", "files", "-w"], 2, "files cannot be watched"),
        (vec!["get", "events", "--all"], 2, "--all is for pods only"),
        (vec!["get", "pods", "web", "-A"], 2, "across all namespaces"),
        (vec!["get"], 2, "required arguments"),
        (vec!["describe", "pod", "none"], 3, "pods \"none\" not found"),
        (vec!["logs", "none"], 3, "pods \"none\" not found"),
        (vec!["logs", "web", "-c", "x"], 1, "choose one of: [app] or one of the init containers: [proxy]"),
        (vec!["logs", "web", "-p", "-f"], 2, "cannot be used with"),
        (vec!["delete", "pod", "none"], 3, "not found"),
        (vec!["delete", "deployment/web"], 2, "cannot do this with \"deployment\""),
        (vec!["delete", "web", "--now", "--grace-period", "3"], 2, "cannot be used with"),
        (vec!["restart", "going"], 5, "pod \"going\" is being removed"),
        (vec!["get", "pods", "-l", "a b"], 1, "labelSelector: found \"a b\""),
        (
            vec!["--socket", "/proc/nonexistent/x.sock", "get", "pods"],
            4,
            "cannot reach the agent at /proc/nonexistent/x.sock: ",
        ),
        (
            vec!["--socket", "/proc/nonexistent/x.sock", "version"],
            4,
            "is podwrightd running? See: systemctl status podwright",
        ),
    ] {
        let (status, _, stderr) = run(&server, &args).await;
        assert_eq!(status, expected, "{args:?}: {stderr}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
        assert_eq!(stderr.matches("No such file").count(), usize::from(expected == 4), "{stderr}");
    }
}

#[tokio::test]
async fn get_pods_watches() {
    let server = Server::start();
    let (mut child, mut lines) = start(&server, &["get", "pods", "-w"]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.put(pod("web", "Pending", &json!({"waiting": {"reason": "PodInitializing"}})));
    assert!(line(&mut lines).await.starts_with("NAME"));
    assert!(line(&mut lines).await.contains("Init:0/1"));
    server.put(pod("web", "Running", &running()));
    assert!(line(&mut lines).await.contains("2/2     Running"));
    server.put(pod("web", "Succeeded", &ended(0)));
    assert!(line(&mut lines).await.contains("Completed"));
    server.store.archive_pod(&key("web"), after(9));
    assert!(line(&mut lines).await.contains("Completed"));
    server.close();
    assert_eq!(child.wait().await.unwrap().code(), Some(4));
}

#[tokio::test]
async fn describe_and_events() {
    let server = two_pods();
    server.event("web", "BackOff", "Back-off restarting", 3);
    server.event("old", "Started", "Started container app", 4);
    let text = ok(&server, &["describe", "pod", "web"]).await;
    assert!(text.starts_with("Name:             web\n") && text.contains("proxy (sidecar):"), "{text}");
    assert!(text.contains("Back-off restarting") && !text.contains("Started container"), "{text}");
    let old = ok(&server, &["describe", "pod/old"]).await;
    assert!(old.contains("Exit Code:      7") && old.contains("Failed (removed "), "{old}");
    let events = ok(&server, &["events"]).await;
    assert!(events.starts_with("LAST SEEN") && events.lines().count() == 3, "{events}");
    assert_eq!(ok(&server, &["events", "--for", "pod/old"]).await.lines().count(), 2);
    assert_eq!(ok(&server, &["get", "events", "-A"]).await.lines().count(), 3);
    let (_child, mut lines) = start(&server, &["events", "-w", "-n", "default"]);
    for _ in 0..3 {
        line(&mut lines).await;
    }
    server.event("web", "Killing", "Stopping container app", 5);
    assert!(line(&mut lines).await.contains("Killing"));
}

#[tokio::test]
async fn get_files() {
    let server = Server::start();
    assert_eq!(run(&server, &["get", "files"]).await, (0, String::new(), "No manifest files found.\n".to_owned()));
    let bad = FileReport {
        file: "/m/b.yaml".into(),
        state: FileState::Rejected,
        pods: vec!["default/b".into()],
        problems: vec!["b.yaml:3: spec.containers[0].imag: unknown field; accepted: image, …".into()],
    };
    let good = FileReport { file: "/m/a.yaml".into(), state: FileState::Ok, pods: vec![], problems: vec![] };
    server.store.set_files(vec![bad, good]);
    let expected = "\
FILE        STATE      PODS
/m/a.yaml   ok         <none>
/m/b.yaml   rejected   default/b
  b.yaml:3: spec.containers[0].imag: unknown field; accepted: image, …
";
    assert_eq!(ok(&server, &["get", "files"]).await, expected);
    let json: Value = serde_json::from_str(&ok(&server, &["get", "files", "-o", "json"]).await).unwrap();
    assert_eq!(json["items"][1]["state"], "rejected");
}

#[tokio::test]
async fn logs() {
    let server = two_pods();
    server.write_log("web", "app", "0.log", &["one", "two"]);
    server.write_log("web", "proxy", "0.log", &["p"]);
    server.write_log("old", "app", "0.log", &["remembered"]);
    let (status, stdout, stderr) = run(&server, &["logs", "web"]).await;
    assert_eq!((status, stdout.as_str()), (0, "one\ntwo\n"));
    assert_eq!(stderr, "Defaulted container \"app\" out of: app, proxy (init)\n");
    assert_eq!(run(&server, &["logs", "pod/web", "-c", "proxy"]).await, (0, "p\n".to_owned(), String::new()));
    assert_eq!(
        ok(&server, &["logs", "web", "--tail", "1", "--timestamps"]).await,
        "2026-11-23T12:00:00.123456789Z two\n"
    );
    assert_eq!(ok(&server, &["logs", "web", "--tail=-1"]).await, "one\ntwo\n");
    assert_eq!(ok(&server, &["logs", "old", "-c", "app"]).await, "remembered\n");

    let (mut child, mut lines) = start(&server, &["logs", "-f", "web", "-c", "app"]);
    assert_eq!((line(&mut lines).await, line(&mut lines).await), ("one".into(), "two".into()));
    std::fs::rename(server.log("web", "app", "0.log"), server.log("web", "app", "0.log.20261123-120000")).unwrap();
    server.write_log("web", "app", "0.log", &["rotated"]);
    assert_eq!(line(&mut lines).await, "rotated");
    server.write_log("web", "app", "1.log", &["restarted"]);
    assert_eq!(line(&mut lines).await, "restarted");
    server.put(pod("web", "Succeeded", &ended(0)));
    let over = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.expect("ends with the pod");
    assert_eq!(over.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let server = two_pods();
    let many: Vec<String> = (0..100_000).map(|i| format!("line {i}")).collect();
    server.write_log("web", "app", "0.log", &many.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut child, mut lines) = start(&server, &["logs", "web", "-c", "app"]);
    assert_eq!(line(&mut lines).await, "line 0");
    drop(lines);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn delete_and_restart() {
    let server = two_pods();
    let said = ok(&server, &["delete", "pod", "web", "--grace-period", "25"]).await;
    let expected = "pod \"web\" is being removed from default namespace\nweb.yaml is left alone: the pod stays away until that file changes\n";
    assert_eq!(said, expected);
    ok(&server, &["delete", "pod/web", "--now"]).await;
    assert_eq!(ok(&server, &["restart", "web"]).await, "pod \"web\" is being restarted\n");
    let (mut child, mut lines) = start(&server, &["delete", "web", "--wait"]);
    assert!(line(&mut lines).await.contains("is being removed"));
    assert!(line(&mut lines).await.contains("stays away"));
    server.put(pod("web", "Succeeded", &ended(0)));
    let early = tokio::time::timeout(Duration::from_millis(300), child.wait()).await;
    assert!(early.is_err(), "it waits until the pod is gone");
    server.store.archive_pod(&key("web"), after(9));
    assert_eq!(line(&mut lines).await, "pod \"web\" is gone");
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "delete Some(25s) default/web",
            "delete Some(1s) default/web",
            "restart default/web",
            "delete None default/web"
        ]
    );
}

#[tokio::test]
async fn without_an_agent() {
    let server = Server::start();
    assert_eq!(
        ok(&server, &["version", "--client"]).await,
        concat!("Client Version: v", env!("CARGO_PKG_VERSION"), "\n")
    );
    assert!(ok(&server, &["version"]).await.contains("Agent Version: v"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(ok(&server, &["completion", shell]).await.contains("podwright"), "{shell}");
    }
    assert!(ok(&server, &["--help"]).await.contains("4  the agent cannot be reached"));
}

const GOOD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Never
  initContainers:
  - {name: proxy, image: busybox, restartPolicy: Always}
  containers:
  - {name: app, image: busybox}
";

#[tokio::test]
async fn validate_names_every_problem() {
    let server = Server::start();
    let dir = server.dir.path();
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good.yaml", GOOD);
    assert_eq!(ok(&server, &["validate", &good]).await, format!("{good}: ok (pod default/web)\n"));
    let bad = write("bad.yaml", &GOOD.replace("image: busybox}", "imag: busybox}").replace("Never", "Sometimes"));
    let (status, stdout, _) = run(&server, &["validate", &good, &bad]).await;
    assert_eq!(status, 1);
    assert!(
        stdout.contains(&format!("{bad}:5: spec.restartPolicy")) && stdout.contains(&format!("{bad}:9:")),
        "{stdout}"
    );
    let twin = write("twin.yml", GOOD);
    let (status, stdout, _) = run(&server, &["validate", &good, &twin]).await;
    // The words of the agent.
    let conflict =
        format!("{twin}: pod default/web is described by {good} already; remove it from one of the two files");
    assert_eq!((status, stdout), (1, format!("{good}: ok (pod default/web)\n{conflict}\n")));
    let other = write("good.bak", GOOD);
    assert_eq!(run(&server, &["validate", &other]).await.0, 1);
    assert_eq!(run(&server, &["validate", "/proc/nonexistent.yaml"]).await.0, 1);

    let mut child =
        podwright(&server, &["validate", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap().into_owned_fd().unwrap();
    std::fs::File::from(stdin).write_all(GOOD.as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().await.unwrap().stdout, b"stdin: ok (pod default/web)\n");
}

#[tokio::test]
async fn plan_shows_the_order_of_start_and_stop() {
    let server = Server::start();
    let path = server.dir.path().join("web.yaml");
    std::fs::write(&path, GOOD).unwrap();
    let path = path.to_str().unwrap();
    let plan = ok(&server, &["plan", path, "--main-takes", "3s"]).await;
    let at = |text: &str| plan.find(text).unwrap_or_else(|| panic!("{text} in\n{plan}"));
    assert!(at("pod default/web") < at("sidecar proxy starts"));
    assert!(at("sidecar proxy starts") < at("container app starts"));
    assert!(at("container app starts") < at("container app ends with 0"));
    assert!(at("container app ends with 0") < at("sidecar proxy gets its stop signal"));
    assert!(plan.contains("a main that may end runs 3 s"), "{plan}");
    assert!(plan.contains("\n  proxy  sidecar; what follows waits until it runs\n"), "{plan}");
    let (status, _, stderr) = run(&server, &["plan", "/proc/nonexistent.yaml"]).await;
    assert!(status == 1 && stderr.contains("/proc/nonexistent.yaml: cannot be read"), "{stderr}");
    let ignored = ok(&server, &["plan", path, "--stop-takes", "never"]).await;
    assert!(ignored.contains("gets SIGKILL"), "{ignored}");
}
