//! State that is not given when an agent starts: nothing that runs is taken for gone, and nothing is held for what passes. The faults
//! are made from outside, by strace (which has to be there), in one call of an agent that is started anew.

mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use node::Node;
use serde_json::Value;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: keep}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  \
                   - {name: app, image: box, args: [exec busybox sleep 1000], env: [{name: PATH, value: /bin}]}\n";

/// A node with one pod that runs, its uid, and the id of its container.
fn running() -> (Node, String, Value) {
    let mut node = Node::new();
    node.start(&[]);
    node.write("keep.yaml", POD);
    node.until_phase("keep", "Running");
    let pod = node.pod("keep");
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    (node, uid, pod["status"]["containerStatuses"][0]["containerID"].clone())
}

impl Node {
    /// Starts the agent anew; the first call on each of `paths` in each of its threads fails with `error`.
    fn again_with(&mut self, call: &str, error: &str, paths: &[PathBuf]) {
        self.kill();
        let agent = self.command(&[]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.path("strace"));
        command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error={error}:when=1")]);
        for path in paths {
            command.arg("-P").arg(path);
        }
        command.arg(agent.get_program()).args(agent.get_args());
        self.start_by(command);
    }

    fn injected(&self) -> bool {
        fs::read_to_string(self.path("strace")).unwrap_or_default().contains("(INJECTED)")
    }
}

/// strace ends without its agent when it is killed itself: the agent goes first.
fn end(node: &mut Node) {
    let mut strace = node.agent.take().unwrap();
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", strace.id())).unwrap();
    for pid in children.split_whitespace() {
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
    }
    strace.wait().unwrap();
}

fn goes_on(call: &str, error: &str, paths: impl Fn(&Node, &str) -> Vec<PathBuf>, before: impl Fn(&Path)) {
    let (mut node, uid, container) = running();
    before(&node.path("run/pods").join(&uid));
    let paths = paths(&node, &uid);
    node.again_with(call, error, &paths);
    node.until("the pod is shown as it is", || node.phase("keep") == "Running");
    // What would be removed is removed by now.
    std::thread::sleep(Duration::from_millis(500));
    assert!(node.injected(), "the control: a call has failed");
    let status = &node.pod("keep")["status"]["containerStatuses"][0];
    assert_eq!(status["containerID"], container, "{}", node.log());
    assert_eq!(status["restartCount"], 0, "{}", node.log());
    end(&mut node);
}

fn nothing(_: &Path) {}

#[test]
fn state_that_is_given_at_the_second_try_is_not_held() {
    let below = |names: &'static [&'static str]| {
        move |node: &Node, uid: &str| names.iter().map(|name| node.path("state/pods").join(uid).join(name)).collect()
    };
    goes_on("openat", "EMFILE", below(&["object.json"]), nothing);
    goes_on("read", "EIO", below(&["object.json"]), nothing);
    goes_on("openat", "EIO", below(&["records/app/0.json"]), nothing);
    goes_on("openat", "ENOMEM", below(&["records"]), nothing);
}

#[test]
fn a_shim_that_cannot_be_reached_is_not_dead() {
    for error in ["EIO", "EACCES", "ESTALE"] {
        goes_on("openat", error, |node, uid| vec![node.path("run/pods").join(uid)], nothing);
    }
}

#[test]
fn a_sandbox_whose_file_is_not_given_is_asked_for_until_it_answers() {
    let both = |node: &Node, uid: &str| {
        let run = node.path("run/pods").join(uid);
        vec![run.join("sandbox.json"), run]
    };
    for error in ["EMFILE", "EIO"] {
        goes_on("openat", error, both, nothing);
    }
    let run = |node: &Node, uid: &str| vec![node.path("run/pods").join(uid)];
    goes_on("openat", "EMFILE", run, |run| fs::write(run.join("sandbox.json"), "").unwrap());
}

/// What is below a cgroup root and belongs to no pod of an agent is killed by it.
#[test]
fn two_agents_do_not_share_a_cgroup_root() {
    let (node, _, container) = running();
    let mut second = node.command(&[]);
    for (flag, name) in [("--state-dir", "state2"), ("--run-dir", "run2"), ("--manifest-dir", "manifests2")] {
        let args: Vec<_> = second.get_args().map(ToOwned::to_owned).collect();
        let mut other = Command::new(second.get_program());
        let at = args.iter().position(|arg| arg == flag).unwrap();
        other.args(&args[..=at]).arg(node.path(name)).args(&args[at + 2..]);
        second = other;
    }
    let output = second.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cgroupRoot: another podwrightd") && said.contains("--cgroup-root"), "{said}");
    assert_eq!(node.pod("keep")["status"]["containerStatuses"][0]["containerID"], container);
    assert_eq!(node.phase("keep"), "Running");
}
