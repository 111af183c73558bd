//! What a pod gets without asking is the pod's own, and bounded: no container writes the host's files or fills its memory through it.
//!
//! The agent runs with a directory of decoys in place of `/etc`: an attack that succeeds harms nothing but them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use node::Node;

mod node;

/// Writes to all that a pod gets without asking, in every way that a file can be changed, and leaves a mark in a volume.
/// Called by containers, hooks and probes alike; its argument says by whom.
const ATTACK: &str = r#"#!/bin/busybox sh
for file in /etc/hosts /etc/hostname /etc/resolv.conf /dev/termination-log; do
    echo "pwned by $1" >>$file
    busybox chmod 0606 $file
    busybox chown 7:7 $file
    busybox touch -t 200001010000 $file
    busybox mount -o remount,bind,rw $file $file && echo "pwned by $1 again" >>$file
done
echo pwned >/dev/shm/podwright-$POD
busybox touch /mark/$1
exit 0
"#;
const WAYS: [&str; 7] = ["init", "sidecar", "startup", "main", "post-start", "liveness", "readiness"];
const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// A pod that attacks from every kind of container, and through probes and hooks.
fn attacker(name: &str, pod: &str, security: &str, volumes: &str, mounts: &str) -> String {
    let common = format!(
        "image: box, env: [{{name: PATH, value: /bin}}, {{name: POD, value: {name}}}], securityContext: {{{security}}}, \
         volumeMounts: [{{name: mark, mountPath: /mark}}{mounts}]"
    );
    let call = |way: &str| format!("exec: {{command: [/bin/attack, {way}]}}");
    let marks = WAYS.map(|way| format!("-e /mark/{way}")).join(" -a ");
    let wait = "trap 'exit 0' TERM; while :; do busybox sleep 1 & wait $!; done";
    let main = format!(
        "attack main; until busybox [ {marks} ]; do busybox sleep 0.1; done; echo wrote $(busybox grep -c pwned /etc/hosts); \
         echo all; {wait}"
    );
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 5\n{pod}\
         \x20 volumes: [{{name: mark, emptyDir: {{}}}}{volumes}]\n  initContainers:\n\
         \x20 - {{name: first, args: [\"attack init\"], {common}}}\n\
         \x20 - {{name: beside, restartPolicy: Always, args: [\"attack sidecar; {wait}\"], \
         startupProbe: {{{startup}, {often}}}, {common}}}\n\
         \x20 containers:\n\
         \x20 - {{name: app, args: [\"{main}\"], livenessProbe: {{{liveness}, {often}}}, \
         readinessProbe: {{{readiness}, {often}}}, lifecycle: {{postStart: {{{post}}}, preStop: {{{pre}}}}}, {common}}}\n",
        // A slow machine takes more than the default second for each.
        often = "periodSeconds: 1, timeoutSeconds: 20",
        startup = call("startup"),
        liveness = call("liveness"),
        readiness = call("readiness"),
        post = call("post-start"),
        pre = call("pre-stop"),
    )
}

/// A node whose agent has decoys for `/etc`.
struct Decoyed {
    node: Node,
    etc: PathBuf,
}

impl Decoyed {
    fn start(extra: &[&str]) -> Decoyed {
        let mut node = Node::new();
        let attack = node.path("bundles/box/rootfs/bin/attack");
        fs::write(&attack, ATTACK).unwrap();
        fs::set_permissions(&attack, fs::Permissions::from_mode(0o755)).unwrap();
        let etc = node.path("etc");
        fs::create_dir(&etc).unwrap();
        for (name, text) in
            NAMES.iter().zip(["127.0.0.1 localhost\n10.9.8.7 decoy\n", "decoy\n", "nameserver 10.9.8.6\n"])
        {
            fs::write(etc.join(name), text).unwrap();
        }
        let agent = node.command(extra);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", r#"mount --bind "$0" /etc && exec "$@""#]);
        command.arg(&etc).arg(agent.get_program()).args(agent.get_args());
        node.start_by(command);
        Decoyed { node, etc }
    }

    /// All that an attack could change: names, contents, owners, modes, times.
    fn state(&self) -> Vec<(PathBuf, Vec<u8>, [i64; 5])> {
        let entries = fs::read_dir(&self.etc).unwrap();
        let mut all: Vec<_> = entries
            .map(|entry| {
                let path = entry.unwrap().path();
                let stat = fs::metadata(&path).unwrap();
                let facts = [stat.mode().into(), stat.uid().into(), stat.gid().into(), stat.mtime(), stat.mtime_nsec()];
                (path.clone(), fs::read(&path).unwrap(), facts)
            })
            .collect();
        all.sort();
        all
    }

    /// Runs an attacker to its end. Returns how many of its writes to `/etc/hosts` it found in its own.
    fn attack(&self, name: &str, manifest: &str) -> u32 {
        let node = &self.node;
        node.write("attack.yaml", manifest);
        node.until(&format!("{name} has done all"), || node.lines(name, "app").contains(&"all".to_owned()));
        let wrote = node.lines(name, "app").iter().find_map(|line| line.strip_prefix("wrote ")?.parse().ok());
        node.remove("attack.yaml");
        node.until(&format!("{name} is gone"), || node.phase(name) == "absent");
        wrote.unwrap()
    }
}

#[test]
fn no_pod_writes_files_of_the_host_that_it_did_not_ask_for() {
    let decoyed = Decoyed::start(&[]);
    let before = decoyed.state();
    let hardened = "runAsUser: 1000, runAsNonRoot: true, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, \
                    capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}";
    let (network, all) = ("  hostNetwork: true\n", "  hostNetwork: true\n  hostPID: true\n");
    for (name, pod, security, writes) in [
        ("plain", "", "", true),
        ("hardened", "", hardened, false),
        ("network", network, "", true),
        ("network-hardened", network, hardened, false),
        ("privileged", "", "privileged: true", true),
        ("network-privileged", all, "privileged: true", true),
        ("pids", "  hostPID: true\n", "capabilities: {add: [SYS_PTRACE, SYS_ADMIN]}", true),
    ] {
        let wrote = decoyed.attack(name, &attacker(name, pod, security, "", ""));
        assert_eq!(wrote > 0, writes, "{name} wrote its own /etc/hosts {wrote} times");
        assert_eq!(decoyed.state(), before, "{name} has changed the host");
        assert!(!Path::new("/dev/shm").join(format!("podwright-{name}")).exists(), "{name} is in the host's /dev/shm");
    }
}

/// The control: the same payload, with the host's files and its `/dev/shm` asked for, reaches them in every way.
#[test]
fn what_is_asked_for_is_written() {
    let decoyed = Decoyed::start(&[]);
    let volumes = NAMES
        .map(|name| format!(", {{name: {}, hostPath: {{path: /etc/{name}, type: File}}}}", name.replace('.', "-")));
    let mounts = NAMES.map(|name| format!(", {{name: {}, mountPath: /etc/{name}}}", name.replace('.', "-")));
    let shared = format!("control-{}", std::process::id());
    let manifest = attacker(&shared, "  hostIPC: true\n", "", &volumes.concat(), &mounts.concat());
    decoyed.attack(&shared, &manifest);
    for name in NAMES {
        let text = fs::read_to_string(decoyed.etc.join(name)).unwrap();
        for way in WAYS.iter().chain(&["pre-stop"]) {
            assert!(text.contains(&format!("pwned by {way}\n")), "{way} in {name}: {text}");
        }
        let stat = fs::metadata(decoyed.etc.join(name)).unwrap();
        assert_eq!((stat.uid(), stat.mode() & 0o7777), (7, 0o606));
    }
    fs::remove_file(Path::new("/dev/shm").join(format!("podwright-{shared}"))).unwrap();
}

#[test]
fn a_pod_sees_what_the_node_says_of_names() {
    let decoyed = Decoyed::start(&[]);
    let node = &decoyed.node;
    let show = "for f in hosts hostname resolv.conf; do busybox sed s/^/$f:/ /etc/$f; done; busybox hostname";
    let pod = |name: &str, fields: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n{fields}  containers:\n  \
             - {{name: app, image: box, args: [\"{show}\"], env: [{{name: PATH, value: /bin}}]}}\n"
        )
    };
    node.write("own.yaml", &pod("own", "  hostname: shop\n"));
    node.write("shared.yaml", &pod("shared", "  hostNetwork: true\n"));
    node.until_phase("own", "Succeeded");
    node.until_phase("shared", "Succeeded");
    let own = node.lines("own", "app");
    for line in [
        "hosts:# Kubernetes-managed hosts file.",
        "hosts:127.0.0.1\tshop",
        "hostname:shop",
        "resolv.conf:nameserver 10.9.8.6",
        "shop",
    ] {
        assert!(own.contains(&line.to_owned()), "{line} in {own:?}");
    }
    assert!(!own.contains(&"hosts:10.9.8.7 decoy".to_owned()));
    let shared = node.lines("shared", "app");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim();
    for line in [
        "hosts:# Kubernetes-managed hosts file (host network).",
        "hosts:10.9.8.7 decoy",
        &format!("hostname:{host}"),
        "resolv.conf:nameserver 10.9.8.6",
        host,
    ] {
        assert!(shared.contains(&line.to_owned()), "{line} in {shared:?}");
    }
}

/// Fills what it can, then says how large each file has become.
const FILL: &str = "for f in /etc/hosts /etc/hostname /etc/resolv.conf /dev/termination-log; do \
                    busybox yes 0123456789abcde 2>/dev/null | busybox head -c 4194304 2>/dev/null >>$f; busybox stat -c %s $f; done";

/// Bytes on disk and in memory below a directory of the host.
fn usage(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(stat) if stat.is_dir() => usage(&entry.path()),
            Ok(stat) => stat.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn the_run_directory_is_not_filled_from_inside() {
    let decoyed = Decoyed::start(&[]);
    let node = &decoyed.node;
    let container = |name: &str, script: &str, more: &str| {
        format!("  - {{name: {name}, image: box, args: [\"{script}\"], env: [{{name: PATH, value: /bin}}], {more}}}\n")
    };
    let head =
        |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n");
    // The first fills all, and goes on for as long as the other needs what is its own.
    let greedy = format!("{FILL}; echo filled; until busybox [ -e /v/done ]; do busybox sleep 0.1; done; exit 3");
    let modest = "until busybox [ $(busybox stat -c %s /etc/hosts) -gt 60000 ]; do busybox sleep 0.1; done; \
                  echo mine >/dev/termination-log; busybox touch /v/done; exit 4";
    let mounts = "volumeMounts: [{name: v, mountPath: /v}]";
    let manifest = format!(
        "{}  volumes: [{{name: v, emptyDir: {{}}}}]\n  initContainers:\n{}  containers:\n{}{}",
        head("fill"),
        container("first", FILL, ""),
        container("greedy", &greedy, mounts),
        container("modest", modest, mounts),
    );
    node.write("fill.yaml", &manifest);
    node.until("all is filled", || node.lines("fill", "greedy").contains(&"filled".to_owned()));
    let used = usage(&node.path("run"));
    node.until_phase("fill", "Failed");
    for name in ["first", "greedy"] {
        let sizes: Vec<u64> = node.lines("fill", name).iter().filter_map(|line| line.parse().ok()).collect();
        assert_eq!(sizes.len(), 4, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 128 << 10), "{name}: {sizes:?}");
        assert_eq!(sizes[3], 64 << 10, "{name} has the bound of its message to itself: {sizes:?}");
    }
    assert!(used < 1 << 20, "{used} bytes in the run directory");
    let status = node.pod("fill")["status"]["containerStatuses"].clone();
    let message = |name: &str| {
        let of = |status: &&serde_json::Value| status["name"] == name;
        let found = status.as_array().unwrap().iter().find(of).unwrap();
        found["state"]["terminated"]["message"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(message("modest"), "mine\n");
    assert_eq!(message("greedy"), "0123456789abcde\n".repeat(256));

    // The control: the same, in a file of the host that was asked for, has no bound.
    let volume = "  volumes: [{name: h, hostPath: {path: /etc/hosts, type: File}}]\n  containers:\n";
    let main = container("app", FILL, "volumeMounts: [{name: h, mountPath: /etc/hosts}]");
    node.write("control.yaml", &format!("{}{volume}{main}", head("control")));
    node.until_phase("control", "Succeeded");
    assert!(fs::metadata(decoyed.etc.join("hosts")).unwrap().len() > 4 << 20);
}

/// What is written to a pod's `/etc/hosts` stays for its next containers; a termination message is one instance's.
#[test]
fn files_last_as_long_as_what_they_belong_to() {
    let decoyed = Decoyed::start(&["--crash-loop-back-off-initial", "1s", "--crash-loop-back-off-max", "1s"]);
    let node = &decoyed.node;
    let script = "n=$(busybox grep -c run /etc/hosts); echo run >>/etc/hosts; busybox stat -c size=%s /dev/termination-log; \
                  echo message $n >/dev/termination-log; echo runs $n; busybox [ $n = 2 ]";
    node.write(
        "again.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: again}}\nspec:\n  restartPolicy: OnFailure\n  containers:\n  \
             - {{name: app, image: box, args: [\"{script}\"], env: [{{name: PATH, value: /bin}}]}}\n"
        ),
    );
    node.until_phase("again", "Succeeded");
    assert_eq!(node.lines("again", "app"), ["size=0", "runs 0", "size=0", "runs 1", "size=0", "runs 2"]);
    assert_eq!(node.pod("again")["status"]["containerStatuses"][0]["state"]["terminated"]["message"], "message 2\n");
}

/// A container's root may give its programs root's rights; whoever has a login must not get at them.
#[test]
fn users_of_the_node_cannot_reach_what_containers_make() {
    use std::os::unix::process::CommandExt as _;
    let mut node = Node::new();
    let open = fs::Permissions::from_mode(0o755);
    // As an administrator, or an earlier version, may have made them.
    fs::create_dir_all(node.path("state/pods")).unwrap();
    for directory in [".", "state", "state/pods"] {
        fs::set_permissions(node.path(directory), open.clone()).unwrap();
    }
    node.start(&[]);
    let make = "for to in /v/busybox /busybox; do busybox cp /bin/busybox $to; busybox chmod 4755 $to; done; echo made; busybox sleep 100";
    node.write(
        "suid.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: suid}}\nspec:\n  terminationGracePeriodSeconds: 0\n\
             \x20 volumes: [{{name: v, emptyDir: {{}}}}]\n  containers:\n\
             \x20 - {{name: app, image: box, args: [\"{make}\"], env: [{{name: PATH, value: /bin}}], \
             volumeMounts: [{{name: v, mountPath: /v}}]}}\n"
        ),
    );
    node.until("it is made", || node.lines("suid", "app").iter().any(|line| line == "made"));
    let uid = node.pod("suid")["metadata"]["uid"].as_str().unwrap().to_owned();
    let made =
        ["volumes/v/busybox", "layers/app/0/upper/busybox"].map(|name| node.path("state/pods").join(&uid).join(name));
    for program in &made {
        assert_eq!(fs::metadata(program).unwrap().mode() & 0o7777, 0o4755, "{}", program.display());
        let run = || Command::new(program).arg("true").uid(65534).gid(65534).status();
        assert_eq!(run().unwrap_err().kind(), std::io::ErrorKind::PermissionDenied, "{}", program.display());
        // The control: it is these directories that keep them out.
        let kept = [node.path("state/pods"), node.path("state/pods").join(&uid)];
        kept.iter().for_each(|directory| fs::set_permissions(directory, open.clone()).unwrap());
        assert!(run().unwrap().success(), "{}", program.display());
        kept.iter().for_each(|directory| fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap());
    }
    node.remove("suid.yaml");
    node.until("it is gone", || node.pod("suid").is_null());
}
