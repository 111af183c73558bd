//! What a plain pod gets does not depend on what the agent happens to have.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use node::Node;

mod node;

/// Shows what a process has inherited.
const SHOW: &str = "#!/bin/busybox sh
busybox grep -E '^(SigBlk|SigIgn|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp|Umask):' /proc/self/status
busybox cat /proc/self/limits /proc/self/oom_score_adj
";

/// As seen by a container's program, a hook and a probe under an agent that was started by this shell command.
fn seen(setup: &str) -> Vec<String> {
    let mut node = Node::new();
    let show = node.path("bundles/box/rootfs/bin/show");
    fs::write(&show, SHOW).unwrap();
    fs::set_permissions(&show, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = node.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{setup}exec \"$0\" \"$@\"")]).arg(agent.get_program()).args(agent.get_args());
    node.start_by(command);
    let write = |name: &str| {
        format!("exec: {{command: [/bin/busybox, sh, -c, show >/out/.{name}; busybox mv /out/.{name} /out/{name}]}}")
    };
    node.write(
        "p.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  \
             volumes: [{{name: out, emptyDir: {{}}}}]\n  containers:\n  \
             - {{name: app, image: box, env: [{{name: PATH, value: /bin}}], volumeMounts: [{{name: out, mountPath: /out}}], \
             lifecycle: {{postStart: {{{hook}}}}}, readinessProbe: {{{probe}, periodSeconds: 1}}, \
             args: [\"show >/out/main; until busybox [ -e /out/hook -a -e /out/probe ]; do busybox sleep 0.1; done; \
             busybox cmp /out/main /out/hook && busybox cmp /out/main /out/probe && busybox cat /out/main && echo same\"]}}\n",
            hook = write("hook"),
            probe = write("probe"),
        ),
    );
    node.until_phase("p", "Succeeded");
    node.lines("p", "app")
}

/// A line of proc_pid_limits(5): soft, hard, and what the caller's own hard limit leaves of them where nobody may raise it.
fn limit(name: &str, number: usize, soft: u64, hard: u64, unit: &str) -> String {
    let own = if may_raise() { u64::MAX } else { podwright_sys::process::hard_limits().unwrap()[number] };
    let show = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    let hard = hard.min(own);
    format!("Max {name} {} {} {unit}", show(soft.min(hard)), show(hard)).trim_end().to_owned()
}

/// Whether we have CAP_SYS_RESOURCE: then the agent may exceed its own hard limits. Always so in the VM.
fn may_raise() -> bool {
    let may = podwright_sys::caps::permitted().unwrap().has(24);
    assert!(may || std::env::var_os("IN_VM").is_none());
    may
}

#[test]
fn what_a_plain_pod_gets_is_the_same_under_every_agent() {
    let plain = seen("");
    assert_eq!(plain.last().map(String::as_str), Some("same"));
    let mut odd =
        "ulimit -Sn 700; ulimit -Sc 9; ulimit -Ss 1024; ulimit -Sl 8; umask 077; trap '' HUP USR1 TTOU; ".to_owned();
    if may_raise() {
        odd += "ulimit -Hn 3000; ulimit -Hc 9; ulimit -Hs 1024; ";
    }
    assert_eq!(seen(&odd), plain);
    let lines: Vec<String> = plain.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let fixed = [
        "Umask: 0022",
        "SigBlk: 0000000000000000",
        "SigIgn: 0000000000000000",
        "CapInh: 0000000000000000",
        "CapBnd: 00000000a80425fb",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 0",
        "1000",
    ];
    let limits = [
        limit("cpu time", 0, u64::MAX, u64::MAX, "seconds"),
        limit("stack size", 3, 8 << 20, u64::MAX, "bytes"),
        limit("core file size", 4, 0, u64::MAX, "bytes"),
        limit("processes", 6, u64::MAX, u64::MAX, "processes"),
        limit("open files", 7, 1024, 524_288, "files"),
        limit("locked memory", 8, 8 << 20, 8 << 20, "bytes"),
        limit("msgqueue size", 12, 819_200, 819_200, "bytes"),
        limit("nice priority", 13, 0, 0, ""),
        limit("realtime priority", 14, 0, 0, ""),
    ];
    for expected in fixed.map(str::to_owned).iter().chain(&limits) {
        assert!(lines.contains(expected), "{expected} in {lines:#?}");
    }
}
