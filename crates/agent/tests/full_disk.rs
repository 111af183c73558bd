//! A full disk, with the real daemon, shims and processes: the agent's state is on a tmpfs of 10 MiB that the test fills and
//! empties. Needs what `tests/daemon.rs` needs, and mounts below its temporary directory only.

mod node;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use node::Node;
use serde_json::Value;

/// A file system that goes before its node does.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf) -> Mount {
        fs::create_dir(&path).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=10m,mode=700", "tmpfs", path.to_str().unwrap()]);
        Mount(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Detached at once: the agent may still have files open there.
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

#[track_caller]
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A node whose state is on a small disk. The mount is dropped first.
struct Bed {
    state: Mount,
    node: Node,
}

impl Bed {
    fn new() -> Bed {
        let node = Node::new();
        let state = Mount::new(node.path("state"));
        let mut bed = Bed { state, node };
        bed.node.start(&[]);
        bed
    }

    /// Fills the disk to the last byte. The control: nobody else can write there either.
    fn fill(&self) {
        let mut file = fs::File::create(self.state.0.join("filler")).unwrap();
        // More than once: a file that was being replaced leaves room.
        for _ in 0..4 {
            for size in [1 << 20, 1 << 12, 1] {
                while file.write_all(&vec![0; size]).is_ok() {}
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        let refused = fs::write(self.state.0.join("control"), "x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::errno::Errno::ENOSPC as i32));
        fs::remove_file(self.state.0.join("control")).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.state.0.join("filler")).unwrap();
    }

    fn again(&mut self) {
        self.node.kill();
        self.node.start(&[]);
    }

    /// What the first main of a pod shows of its end: exit code, reason and restart count.
    fn end(&self, name: &str) -> (Option<i64>, String, i64) {
        let pod = self.node.pod(name);
        let status = &pod["status"]["containerStatuses"][0];
        let end = [&status["state"], &status["lastState"]].into_iter().find(|s| !s["terminated"].is_null());
        let end = end.map(|s| s["terminated"].clone()).unwrap_or_default();
        let reason = end["reason"].as_str().unwrap_or_default().to_owned();
        (end["exitCode"].as_i64(), reason, status["restartCount"].as_i64().unwrap_or(-1))
    }

    /// The record of an attempt as it is on disk.
    fn record(&self, name: &str, attempt: u32) -> Value {
        let uid = self.node.pod(name)["metadata"]["uid"].as_str().unwrap().to_owned();
        self.record_of(&uid, attempt)
    }

    fn record_of(&self, uid: &str, attempt: u32) -> Value {
        let path = self.state.0.join(format!("pods/{uid}/records/app/{attempt}.json"));
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn uid(&self, name: &str) -> String {
        self.node.pod(name)["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    fn condition(&self, name: &str) -> bool {
        let node: Value = serde_json::from_str(&self.node.ok(&["status", "-o", "json"])).unwrap();
        let conditions = node["conditions"].as_array().unwrap();
        let condition = conditions.iter().find(|c| c["type"] == name).unwrap();
        condition["status"] == "True"
    }

    /// What was found wrong with a node's disk is told everywhere, and no more once it is over.
    fn disk_pressure_is_told(&self, on: bool) {
        self.node.until(&format!("DiskPressure is {on}"), || self.condition("DiskPressure") == on);
        let text = self.node.ok(&["status"]);
        assert_eq!(text.contains("No space left on device"), on, "{text}");
        let health = self.healthz();
        let line = if on { "[-]DiskPressure failed: since " } else { "[+]DiskPressure ok" };
        assert!(health.contains(line), "{health}");
        let events = self.node.ok(&["events"]);
        let reason = if on { "NodeHasDiskPressure" } else { "NodeHasNoDiskPressure" };
        assert!(events.contains(reason), "{events}");
    }

    fn healthz(&self) -> String {
        use std::io::Read as _;
        let mut stream = std::os::unix::net::UnixStream::connect(self.node.path("run/podwright.sock")).unwrap();
        stream.write_all(b"GET /healthz?verbose HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn shims(&self) -> usize {
        fs::read_dir(self.node.path("run/pods")).into_iter().flatten().count()
    }

    /// Lets a container that waits for `go` in its hostPath go on.
    fn go(&self, name: &str) {
        fs::write(self.node.path("go").join(name), "").unwrap();
    }
}

/// A pod that says `ran`, then ends with `code` once `go/NAME` is there; and `go/NAME` is gone.
fn waiting(bed: &Bed, name: &str, policy: &str, code: i32) -> String {
    fs::create_dir_all(bed.node.path("go")).unwrap();
    let script = format!("echo ran; until busybox rm /go/{name}; do busybox sleep 0.1; done 2>/dev/null; exit {code}");
    let go = bed.node.path("go");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: {policy}\n  \
         volumes: [{{name: go, hostPath: {{path: {}}}}}]\n  containers:\n  - {{name: app, image: box, args: [\"{script}\"], \
         env: [{{name: PATH, value: /bin}}], volumeMounts: [{{name: go, mountPath: /go}}]}}\n",
        go.display()
    )
}

/// A pod with an `emptyDir` at `/e`.
fn with_volume(name: &str, script: &str, extra: &str, volume: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{extra}  \
         volumes: [{{name: e, emptyDir: {volume}}}]\n  containers:\n  - {{name: app, image: box, args: [\"{script}\"], \
         env: [{{name: PATH, value: /bin}}], volumeMounts: [{{name: e, mountPath: /e}}]}}\n"
    )
}

fn exited(record: &Value) -> Option<i64> {
    record["exit"]["outcome"]["code"].as_i64()
}

#[test]
fn an_exit_that_was_seen_stays_what_it_was() {
    let mut bed = Bed::new();
    bed.node.write("never.yaml", &waiting(&bed, "never", "Never", 6));
    bed.node.until("it runs", || bed.node.lines("never", "app") == ["ran"]);
    bed.fill();
    bed.go("never");
    bed.node.until("it has failed", || bed.node.phase("never") == "Failed");
    assert_eq!(bed.end("never"), (Some(6), "Error".into(), 0));
    assert_eq!(bed.record("never", 0)["exit"], Value::Null, "the control: the disk has refused the end");
    bed.disk_pressure_is_told(true);
    let why = bed.node.ok(&["why", "never"]);
    assert!(why.contains("left with 6") && why.contains("No space left on device"), "{why}");
    // Its shim stays, which knows: the next agent hears it from there.
    for _ in 0..2 {
        bed.again();
        assert_eq!(bed.end("never"), (Some(6), "Error".into(), 0));
        bed.node.until_phase("never", "Failed");
        bed.disk_pressure_is_told(true);
        let why = bed.node.ok(&["why", "never"]);
        assert!(why.contains("left with 6") && !why.contains("lost"), "{why}");
    }
    assert_eq!((bed.shims(), &bed.record("never", 0)["exit"]), (1, &Value::Null));
    bed.free();
    bed.node.until("the end is on disk", || exited(&bed.record("never", 0)) == Some(6));
    bed.node.until("the shim has left", || bed.shims() == 0);
    bed.disk_pressure_is_told(false);
    for _ in 0..2 {
        assert_eq!((bed.end("never"), bed.node.phase("never")), ((Some(6), "Error".into(), 0), "Failed".into()));
        bed.again();
    }
    assert_eq!(bed.node.lines("never", "app"), ["ran"]);
}

#[test]
fn an_exit_outlives_its_shim_when_the_agent_was_told() {
    let mut bed = Bed::new();
    bed.node.write("never.yaml", &waiting(&bed, "never", "Never", 6));
    bed.node.until("it runs", || bed.node.lines("never", "app") == ["ran"]);
    bed.fill();
    bed.go("never");
    bed.node.until("it has failed", || bed.node.phase("never") == "Failed");
    let cgroup = bed.node.cgroup.path().join(format!("besteffort/pod{}", bed.uid("never")));
    fs::write(cgroup.join("cgroup.kill"), "1").unwrap();
    bed.node.until("the shim is gone", || bed.shims() == 0);
    assert_eq!(bed.record("never", 0)["exit"], Value::Null, "the control: the disk has refused the end");
    assert_eq!((bed.end("never"), bed.node.phase("never")), ((Some(6), "Error".into(), 0), "Failed".into()));
    assert!(bed.node.ok(&["why", "never"]).contains("left with 6"));
    bed.free();
    bed.node.until("the agent has written it", || exited(&bed.record("never", 0)) == Some(6));
    bed.again();
    assert_eq!((bed.end("never"), bed.node.phase("never")), ((Some(6), "Error".into(), 0), "Failed".into()));
    assert_eq!(bed.node.lines("never", "app"), ["ran"]);
}

#[test]
fn restarts_are_counted_on_and_none_begins_that_cannot_be_written_down() {
    let mut bed = Bed::new();
    bed.node.write("always.yaml", &waiting(&bed, "always", "Always", 7));
    bed.node.until("it runs", || bed.node.lines("always", "app").len() == 1);
    bed.go("always");
    bed.node.until("it runs again", || bed.node.lines("always", "app").len() == 2);
    bed.fill();
    bed.go("always");
    bed.node
        .until("it has ended again", || exited(&bed.record("always", 0)) == Some(7) && bed.end("always").0 == Some(7));
    bed.node.until("the next start is refused", || bed.node.ok(&["events"]).contains("cannot write"));
    for _ in 0..2 {
        // A start that is being asked for counts until it is refused.
        bed.node.until("one restart is counted", || bed.end("always") == (Some(7), "Error".to_owned(), 1));
        assert_eq!(bed.node.lines("always", "app").len(), 2, "nothing was started that is not on disk");
        bed.again();
    }
    bed.free();
    bed.node.until("it goes on by itself", || bed.node.lines("always", "app").len() == 3);
    bed.node.until("the restarts are counted on", || bed.end("always").2 == 2);
    let ends = || [0, 1].map(|attempt| exited(&bed.record("always", attempt)));
    bed.node.until("both ends are on disk", || ends() == [Some(7), Some(7)]);
}

#[test]
fn a_pod_waits_until_it_can_be_saved_and_runs_once() {
    let mut bed = Bed::new();
    bed.fill();
    bed.node.write("never.yaml", &waiting(&bed, "never", "Never", 0));
    bed.node.until("it says why it waits", || {
        bed.node.podwright(&["why", "never"]).status.success()
            && bed.node.ok(&["why", "never"]).contains("No space left")
    });
    for _ in 0..2 {
        bed.disk_pressure_is_told(true);
        let told: Value = serde_json::from_str(&bed.node.ok(&["why", "never", "-o", "json"])).unwrap();
        assert_eq!(told["situation"], "NotSaved", "{told}");
        let waits = bed.node.pod("never")["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        assert!(waits["message"].as_str().unwrap().contains("No space left on device"), "{waits}");
        assert!(bed.node.ok(&["events"]).contains("The pod waits until it can be saved"));
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!((bed.shims(), bed.node.phase("never")), (0, "Pending".to_owned()));
        bed.again();
        bed.node.until_told(&["why", "never"], &["No space left"]);
    }
    let uid = bed.uid("never");
    bed.free();
    bed.node.until("it runs by itself", || bed.node.lines("never", "app") == ["ran"]);
    assert!(bed.state.0.join(format!("pods/{uid}/object.json")).exists());
    bed.disk_pressure_is_told(false);
    // It outlives the agent, since it was on disk before it was begun.
    let id = |bed: &Bed| bed.node.pod("never")["status"]["containerStatuses"][0]["containerID"].clone();
    let before = id(&bed);
    bed.again();
    assert_eq!((id(&bed), bed.node.phase("never")), (before, "Running".to_owned()));
    // Its end cannot be saved, and it is not run again for that.
    bed.fill();
    bed.go("never");
    bed.node.until_phase("never", "Succeeded");
    bed.again();
    bed.node.until_phase("never", "Succeeded");
    bed.free();
    bed.node.until("its shim has left", || bed.shims() == 0);
    bed.again();
    assert_eq!(
        (bed.node.phase("never"), bed.node.lines("never", "app")),
        ("Succeeded".to_owned(), vec!["ran".to_owned()])
    );
}

#[test]
fn a_job_waits_until_it_can_be_saved_and_can_be_removed_all_the_same() {
    let mut bed = Bed::new();
    let job = |name: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{template: {{spec: {{restartPolicy: Never, \
             terminationGracePeriodSeconds: 1, containers: [{{name: app, image: box, args: ['echo ran; \
             exec busybox sleep 1000'], env: [{{name: PATH, value: /bin}}]}}]}}}}}}\n"
        )
    };
    bed.node.write("first.yaml", &job("first"));
    bed.node.until("its pod runs", || bed.node.ok(&["get", "pods"]).contains("Running"));
    bed.fill();
    bed.node.write("second.yaml", &job("second"));
    bed.node.until("it says why it waits", || {
        String::from_utf8_lossy(&bed.node.podwright(&["why", "job/second"]).stdout).contains("No space left")
    });
    bed.disk_pressure_is_told(true);
    assert!(bed.node.ok(&["get", "jobs"]).contains("second"));
    assert!(bed.node.ok(&["events"]).contains("The job waits until it can be saved"));
    assert_eq!(bed.shims(), 1, "nothing was started that cannot be saved");
    bed.node.remove("first.yaml");
    bed.node.until("the job is gone with its pod", || {
        !bed.node.ok(&["get", "pods"]).contains("first-")
            && bed.node.podwright(&["get", "job", "first"]).status.code() == Some(3)
    });
    bed.again();
    // What the disk did not take of the end of its pod is made up for: its job is gone.
    bed.node.until("its pod is gone again", || !bed.node.ok(&["get", "pods"]).contains("first-"));
    bed.free();
    bed.node.until("the other one goes on", || bed.node.ok(&["get", "pods"]).contains("Running"));
}

#[test]
fn removal_frees_the_disk_that_its_pod_has_filled() {
    let bed = Bed::new();
    let script = "busybox dd if=/dev/zero of=/e/big bs=64k 2>/dev/null; echo full; exec busybox sleep 1000";
    bed.node.write("fills.yaml", &with_volume("fills", script, "", "{}"));
    bed.node.until("the disk is full", || bed.node.lines("fills", "app") == ["full"]);
    let uid = bed.uid("fills");
    bed.node.remove("fills.yaml");
    let begun = Instant::now();
    bed.node.ok(&["wait", "--for=delete", "pod/fills", "--timeout", "30s"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!bed.state.0.join(format!("pods/{uid}/volumes")).exists());
    bed.node.until("the end is on disk", || !bed.record_of(&uid, 0)["exit"].is_null());
    assert_eq!(bed.record_of(&uid, 0)["cause"]["kind"], "manifest-removed");
}

#[test]
fn removal_ends_on_a_disk_that_stays_full() {
    let mut bed = Bed::new();
    bed.node.write("never.yaml", &waiting(&bed, "never", "Never", 6));
    bed.node.write("runs.yaml", &waiting(&bed, "runs", "Always", 7));
    bed.node.until("they run", || ["never", "runs"].iter().all(|name| bed.node.lines(name, "app") == ["ran"]));
    let uid = bed.uid("never");
    bed.fill();
    bed.go("never");
    bed.node.until_phase("never", "Failed");
    // One by its manifest, one by hand: whose answer says that it is not on disk.
    bed.node.remove("never.yaml");
    let said = bed.node.ok(&["delete", "pod", "runs"]);
    assert!(said.contains("it is not on disk yet") && said.contains("No space left"), "{said}");
    bed.node.ok(&["wait", "--for=delete", "pod/never", "pod/runs", "--timeout", "30s"]);
    assert_eq!(bed.shims(), 0);
    let all = bed.node.ok(&["get", "pods", "--all", "-o", "json"]);
    let all: Value = serde_json::from_str(&all).unwrap();
    let shown = all["items"].as_array().unwrap().iter().find(|pod| pod["metadata"]["name"] == "never").unwrap();
    assert_eq!(shown["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 6);
    bed.free();
    bed.node.until("its end is on disk", || exited(&bed.record_of(&uid, 0)) == Some(6));
    bed.disk_pressure_is_told(false);
    bed.again();
    assert!(bed.node.ok(&["get", "pods", "-o", "name"]).is_empty(), "what was deleted by hand stays away");
    assert!(bed.node.ok(&["why", "never"]).contains("left with 6"));
}

#[test]
fn an_eviction_frees_the_disk_that_was_filled() {
    let bed = Bed::new();
    let script = "busybox dd if=/dev/zero of=/e/big bs=64k 2>/dev/null; echo full; exec busybox sleep 1000";
    bed.node.write("fills.yaml", &with_volume("fills", script, "", "{sizeLimit: 1Mi}"));
    bed.node.until("the disk is full", || bed.node.lines("fills", "app") == ["full"]);
    bed.node.until("it is evicted", || bed.node.pod("fills")["status"]["reason"] == "Evicted");
    bed.node.until("nothing is left", || bed.shims() == 0);
    assert!(!bed.state.0.join(format!("pods/{}/volumes", bed.uid("fills"))).exists());
    fs::write(bed.state.0.join("room"), vec![0; 4 << 20]).unwrap();
}

#[test]
fn what_cannot_be_removed_is_tried_again_and_no_later_run_sees_it() {
    let mut bed = Bed::new();
    let script = "echo has $(busybox ls /e); echo x >/e/old; exec busybox sleep 1000";
    let text = with_volume("keeps", script, "  restartPolicy: Never\n", "{}");
    bed.node.write("keeps.yaml", &text);
    let runs = |bed: &Bed, n: usize| bed.node.until("it runs", || bed.node.lines("keeps", "app").len() == n);
    runs(&bed, 1);
    let old = bed.state.0.join(format!("pods/{}/volumes/e/old", bed.uid("keeps")));
    bed.node.until("it has written", || old.exists());
    run("chattr", &["+i", old.to_str().unwrap()]);
    assert!(fs::remove_file(&old).is_err(), "the control: it cannot be removed");
    bed.node.remove("keeps.yaml");
    bed.node.ok(&["wait", "--for=delete", "pod/keeps", "--timeout", "30s"]);
    let status = bed.node.ok(&["status"]);
    assert!(status.contains(".removing-volumes-") && status.contains("cannot be removed"), "{status}");
    assert!(bed.node.ok(&["events"]).contains("FailedCleanUp"));
    bed.node.write("keeps.yaml", &text);
    runs(&bed, 2);
    assert_eq!(bed.node.lines("keeps", "app"), ["has", "has"], "an empty volume is empty");
    // The next agent goes on with it, and leaves the present run alone.
    bed.again();
    bed.node.until("it is told again", || bed.node.ok(&["status"]).contains("cannot be removed"));
    let present = old.exists();
    run("chattr", &["-i", aside(old.parent().unwrap().parent().unwrap().parent().unwrap()).to_str().unwrap()]);
    bed.node.until("it is gone", || !bed.node.ok(&["status"]).contains("cannot be removed"));
    assert!(present && old.exists(), "of the present run nothing is removed");
}

/// The immutable file, wherever it was moved to.
fn aside(pod: &Path) -> PathBuf {
    let entries = fs::read_dir(pod).unwrap().flatten().map(|entry| entry.path());
    let mut moved = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".removing-"));
    moved.next().unwrap().join("e/old")
}
