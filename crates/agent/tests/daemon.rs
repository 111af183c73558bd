//! `podwrightd` as its users have it: real directory, shim, runtime and processes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use node::Node;

mod node;

/// A pod that runs until it is told to stop.
fn sleeper(name: &str, extra: &str) -> String {
    let script = "trap 'echo term; exit 0' TERM; echo started; while :; do busybox sleep 1 & wait $!; done";
    pod(name, script, extra)
}

fn pod(name: &str, script: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 5\n{extra}  \
         containers:\n  - {{name: app, image: box, args: [\"{script}\"], env: [{{name: PATH, value: /bin}}]}}\n"
    )
}

#[test]
fn a_wrong_configuration_is_told_in_full() {
    let node = Node::new();
    let file = node.path("config.yaml");
    fs::write(&file, "stateDir: relative\nfileCheckFrequency: soon\nnoSuchKey: 1\n").unwrap();
    let run = |text: &str| {
        fs::write(&file, text).unwrap();
        let program = env!("CARGO_BIN_EXE_podwrightd");
        Command::new(program).arg("--check-config").arg("--config").arg(&file).output().unwrap()
    };
    let bad = run("stateDir: relative\nfileCheckFrequency: soon\nnoSuchKey: 1\n");
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert_eq!(bad.status.code(), Some(1), "{said}");
    let file = file.display();
    for expected in [&format!("{file}:2: fileCheckFrequency"), &format!("{file}:3: noSuchKey: unknown key"), "stateDir"]
    {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    let good = run("fileCheckFrequency: 5s\n");
    assert_eq!((good.status.code(), good.stdout.as_slice()), (Some(0), b"OK\n".as_slice()));
}

#[test]
fn two_agents_do_not_share_directories() {
    let mut node = Node::new();
    node.start(&[]);
    let second = node.command(&[]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains(&format!("another podwrightd (pid {})", node.agent.as_ref().unwrap().id())), "{said}");
    assert!(node.podwright(&["get", "pods"]).status.success(), "the first one still answers");
}

#[test]
fn a_pod_outlives_its_agent_and_ends_in_order() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("web.yaml", &sleeper("web", ""));
    node.until_phase("web", "Running");
    let before = node.pod("web");
    node.kill();
    node.start(&[]);
    let after = node.pod("web");
    for path in ["/metadata/uid", "/status/containerStatuses/0", "/status/startTime", "/status/conditions"] {
        assert_eq!(before.pointer(path), after.pointer(path), "{path}");
    }
    assert_eq!(node.lines("web", "app"), ["started"]);
    node.signal("-TERM");
    assert!(node.agent.take().unwrap().wait().unwrap().success());
    assert!(!node.path("run/podwright.sock").exists());
    node.start(&[]);
    assert_eq!(node.phase("web"), "Running");
    node.remove("web.yaml");
    node.until_phase("web", "absent");
    assert_eq!(node.lines("web", "app"), ["started", "term"]);
    assert_eq!(fs::read_dir(node.path("run/pods")).unwrap().count(), 0);
    let all: Value = serde_json::from_str(&node.ok(&["get", "pods", "--all", "-o", "json"])).unwrap();
    assert_eq!(all["items"][0]["status"]["phase"], "Succeeded", "{all}");
}

#[test]
fn deleted_by_hand_it_stays_away_until_its_file_changes() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("web.yaml", &sleeper("web", ""));
    node.until_phase("web", "Running");
    let said = node.ok(&["delete", "pod", "web"]);
    assert!(said.contains("web.yaml"), "{said}");
    node.until_phase("web", "absent");
    node.kill();
    node.start(&[]);
    // The same bytes, another name: nothing has changed.
    fs::rename(node.path("manifests/web.yaml"), node.path("manifests/other.yaml")).unwrap();
    node.write("second.yaml", &sleeper("second", ""));
    node.until_phase("second", "Running");
    assert_eq!(node.phase("web"), "absent");
    node.write("other.yaml", &format!("# wanted again\n{}", sleeper("web", "")));
    node.until_phase("web", "Running");
    assert_eq!(node.lines("web", "app"), ["started", "term", "started"]);
}

#[test]
fn an_ended_pod_is_restarted_by_hand_and_forgotten_in_time() {
    let mut node = Node::new();
    node.start(&["--retention-pods", "0"]);
    node.write("job.yaml", &pod("job", "echo ran", "  restartPolicy: Never\n"));
    node.until_phase("job", "Succeeded");
    node.kill();
    node.start(&["--retention-pods", "0"]);
    assert_eq!(node.phase("job"), "Succeeded");
    node.ok(&["restart", "job"]);
    node.until("it ran twice and has ended", || {
        node.lines("job", "app").len() == 2 && node.phase("job") == "Succeeded"
    });
    node.remove("job.yaml");
    node.until("nothing is left of it", || {
        let left = |dir: &str| fs::read_dir(node.path(dir)).unwrap().count();
        left("state/pods") + left("run/pods") + left("logs") == 0
    });
}

#[test]
fn settings_are_read_again_and_the_fixed_ones_kept() {
    let mut node = Node::new();
    let file = node.path("config.yaml");
    fs::write(&file, "nodeName: one\n").unwrap();
    node.start(&["--config", file.to_str().unwrap()]);
    fs::write(&file, "nodeName: two\ncrashLoopBackOff: {initial: 1s, max: 1s}\n").unwrap();
    node.signal("-HUP");
    node.until("it says what it kept", || node.log().contains("nodeName"));
    node.until("it took the rest up", || node.log().contains("configuration read again"));
    fs::write(&file, "typo: 1\n").unwrap();
    node.signal("-HUP");
    node.until("it says what is wrong", || node.log().contains("typo: unknown key"));
    // With the default back-off of 10 s this would take far longer.
    node.write("crash.yaml", &pod("crash", "echo ran; exit 1", ""));
    let begun = Instant::now();
    node.until("four runs", || node.lines("crash", "app").len() >= 4);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A pod with a sidecar that is never ready and one that crashes, asked about while they live, after the agent's death,
/// and when one of them is gone.
#[test]
fn why_and_timeline_know_what_happened() {
    let mut node = Node::new();
    let gate = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gate"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "proxy", "image": "box", "restartPolicy": "Always", "args": ["exec /bin/busybox sleep 1000"],
            "readinessProbe": {"exec": {"command": ["/bin/busybox", "sh", "-c", "echo not yet; exit 7"]}, "periodSeconds": 1}}],
        "containers": [{"name": "app", "image": "box", "args": ["true"]}]}}"#;
    let crash = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "crash"}, "spec": {
        "containers": [{"name": "app", "image": "box", "args": ["echo cannot open /data/db; exit 3"]}]}}"#;
    fs::write(node.path("manifests/gate.json"), gate).unwrap();
    fs::write(node.path("manifests/crash.json"), crash).unwrap();
    node.start(&[]);
    let parts = ["it starts again", "run 1: it left with 3", "| cannot open /data/db", "podwright logs crash -c app"];
    node.until_told(&["why", "crash"], &[&["keeps ending: it left with 3"], &parts[..]].concat());
    node.until_told(&["why", "gate"], &["it said: command exited with 7: not yet"]);
    let text = node.until_told(&["why", "gate/app"], &["main app waits for proxy to become ready once (its gate)\n"]);
    assert!(text.starts_with("default/gate: main app waits for proxy"), "{text}");
    // Nothing of it was only in the agent's memory.
    let failures = |node: &Node| {
        let told: Value = serde_json::from_str(&node.ok(&["timeline", "gate", "-o", "json"])).unwrap();
        let marks = told["rows"][0]["marks"].as_array().unwrap().clone();
        marks.into_iter().find(|mark| mark["what"] == "probeFailed").unwrap()["at"].as_i64().unwrap()
    };
    let told = |node: &Node| node.until_told(&["timeline", "gate", "-o", "json"], &["probeFailed"]);
    told(&node);
    let first = failures(&node);
    node.kill();
    node.start(&[]);
    // An agent that answers has not yet read all of its pods.
    told(&node);
    assert!((failures(&node) - first).abs() <= 1, "the first failure is remembered");
    let chart = node.until_told(&["timeline", "crash", "--ascii", "--width", "60"], &["left with 3"]);
    assert!(chart.is_ascii(), "{chart}");
    let picture = node.path("crash.svg");
    node.ok(&["timeline", "crash", "--svg", picture.to_str().unwrap()]);
    assert!(fs::read_to_string(&picture).unwrap().ends_with("</svg>\n"));
    // Removed ones stay explained, and who asked is known.
    fs::remove_file(node.path("manifests/gate.json")).unwrap();
    node.until("the pod is gone", || node.pod("gate").is_null());
    node.until_told(&["why", "gate/proxy"], &["its manifest was removed from the directory"]);
    let records: Vec<PathBuf> = fs::read_dir(node.path("state/pods")).unwrap().flatten().map(|e| e.path()).collect();
    let record = records.iter().find_map(|pod| fs::read_to_string(pod.join("records/proxy/0.json")).ok()).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["cause"]["kind"], "manifest-removed", "{record}");
    assert_eq!(node.podwright(&["why", "crahs"]).status.code(), Some(3));
    let said = String::from_utf8(node.podwright(&["why", "crahs"]).stdout).unwrap();
    assert!(said.contains("did you mean crash?: podwright why crash"), "{said}");
    assert_eq!(node.podwright(&["timeline", "crahs"]).status.code(), Some(3));
    fs::remove_file(node.path("manifests/crash.json")).unwrap();
    node.until("no pod is left", || node.ok(&["get", "pods", "-o", "name"]).is_empty());
}

#[test]
fn why_explains_jobs_and_cron_jobs() {
    let mut node = Node::new();
    let job = r#"{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "import"}, "spec": {
        "completions": 2, "completionMode": "Indexed", "backoffLimit": 3,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [9]}}]},
        "template": {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [
            {"name": "main", "image": "box", "args": ["echo no such table; exit 3"]}]}}}}"#;
    let cron = r#"{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "yearly"}, "spec": {
        "schedule": "0 0 1 1 *", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [
            {"name": "main", "image": "box", "args": ["exec /bin/busybox sleep 1000"]}]}}}}}}"#;
    fs::write(node.path("manifests/import.json"), job).unwrap();
    fs::write(node.path("manifests/yearly.json"), cron).unwrap();
    node.start(&[]);
    node.until_told(&["why", "job/import"], &["back-off after 1 failure in a row"]);
    // There is no pod of that name.
    let text = node.ok(&["why", "import"]);
    for part in [
        "default/import has no pod at work: the next pod is made at",
        "(index 0), ",
        "no rule of podFailurePolicy is about that, so it counts",
        "Last end of main in pod import-0-",
        "run 0: it left with 3",
        "nobody asked: it left by itself",
        "| no such table",
        "0 of 2 done; 1 failed of 3 that it bears (backoffLimit)",
        "all that the failed pod wrote: podwright logs import-0-",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let told: Value = serde_json::from_str(&node.ok(&["why", "job", "import", "-o", "json"])).unwrap();
    assert_eq!(
        (&told["about"], &told["situation"], &told["phase"]),
        (&"Job".into(), &"BackOff".into(), &"Running".into())
    );
    let pod = told["lastEnd"]["pod"].as_str().unwrap();
    let text = node.ok(&["why", pod]);
    for part in ["  its job: default/import has no pod at work", "what that makes of it: podwright why job/import\n"] {
        assert!(text.contains(part) && !text.contains("podwright restart"), "{part} is missing in:\n{text}");
    }
    let text = node.ok(&["why", "yearly"]);
    assert!(text.starts_with("default/yearly waits for its next run: ") && text.contains("in Europe/Berlin"), "{text}");
    node.ok(&["create", "job", "once", "--from=cronjob/yearly"]);
    node.until_told(&["why", "cronjob/yearly"], &["default/yearly runs job once\n"]);
    assert!(node.ok(&["why", "job/once", "-o", "json"]).contains("\"owner\": \"cronjob/yearly\""));
    for (args, status) in [(["why", "job/once/main"], 2), (["why", "job/none"], 3), (["why", "cronjob/import"], 3)] {
        assert_eq!(node.podwright(&args).status.code(), Some(status), "{args:?}");
    }
    for file in ["import", "yearly"] {
        fs::remove_file(node.path(&format!("manifests/{file}.json"))).unwrap();
    }
    let shown = |node: &Node| node.podwright(&["get", "cronjob", "yearly", "-o", "json"]).stdout;
    node.until("its removal is shown", || String::from_utf8_lossy(&shown(&node)).contains("\"deletionTimestamp\""));
    node.until("no job is left", || node.ok(&["get", "jobs", "-o", "name"]).is_empty());
}

/// Starts the agent in a network of its own, whose only device has these addresses.
fn start_with_addresses(node: &mut Node, addresses: &[&str]) {
    let mut script = "ip link add va type veth peer name vb && ip link set lo up".to_owned();
    for address in addresses {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        script += &format!(" && ip addr add {address} dev va{nodad}");
    }
    script += " && ip link set va up && ip link set vb up && exec \"$0\" \"$@\"";
    let agent = node.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]).arg(agent.get_program()).args(agent.get_args());
    node.start_by(command);
}

#[test]
fn a_node_without_ipv4_has_addresses_and_is_probed_there() {
    for (addresses, expected) in
        [(&["fd00:7::1/64"][..], &["fd00:7::1"][..]), (&["fd00:7::1/64", "10.9.8.7/24"], &["10.9.8.7", "fd00:7::1"])]
    {
        let mut node = Node::new();
        start_with_addresses(&mut node, addresses);
        let first = expected[0];
        let listen = if first.contains(':') { format!("[{first}]") } else { first.to_owned() };
        let script = format!("busybox touch /data/ok; exec busybox httpd -f -p {listen}:8080 -h /data");
        let probe = "readinessProbe: {httpGet: {path: /ok, port: 8080}, periodSeconds: 1}, livenessProbe: {tcpSocket: {port: 8080}}";
        node.write(
            "web.yaml",
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  hostNetwork: true\n  terminationGracePeriodSeconds: 2\n  \
                 containers:\n  - {{name: app, image: box, args: [\"{script}\"], env: [{{name: PATH, value: /bin}}], {probe}}}\n"
            ),
        );
        node.until("the pod is ready", || node.pod("web")["status"]["containerStatuses"][0]["ready"] == true);
        let status = node.pod("web")["status"].clone();
        let list = |ips: &Value| -> Vec<String> {
            ips.as_array().unwrap().iter().map(|entry| entry["ip"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (list(&status["hostIPs"]), list(&status["podIPs"])),
            (expected.iter().map(|&a| a.into()).collect(), list(&status["hostIPs"]))
        );
        assert_eq!((&status["hostIP"], &status["podIP"]), (&first.into(), &first.into()));
    }
}

#[test]
fn shims_are_called_by_their_name() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("web.yaml", &sleeper("web", ""));
    node.until_phase("web", "Running");
    let uid = node.pod("web")["metadata"]["uid"].as_str().unwrap().to_owned();
    let supervisor = node.cgroup.child("besteffort").child(&format!("pod{uid}")).child("_supervisor");
    let pids = supervisor.procs().unwrap();
    assert_eq!(pids.len(), 1);
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", pids[0])).unwrap(), "podwright-shim\n");
}
