//! Users, capabilities, filters, descriptors.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Container, is_ours, program};

#[test]
fn the_user_is_the_configured_one() {
    let container = Container::script("id; umask; touch /tmp/f; stat -c '%u:%g %a' /tmp/f; echo $HOME")
        .with("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o027}))
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "options": ["mode=1777"]}));
    fs::create_dir(container.rootfs().join("etc")).unwrap();
    fs::write(container.rootfs().join("etc/passwd"), "u:x:1000:1001::/home/u:/bin/sh\n").unwrap();
    let text = container.stdout();
    assert_eq!(text, "uid=1000(u) gid=1001 groups=7,8\n0027\n1000:1001 640\n/home/u\n");
}

#[test]
fn the_number_that_is_nobodys_does_not_make_root() {
    let nobody = u32::MAX;
    let error = Container::new(&["id"]).with("/process/user", json!({"uid": nobody, "gid": nobody})).refused();
    assert!(error.contains("process.user.uid: 4294967295 found"), "{error}");
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    for user in ["4294967295", "1:4294967295"] {
        let error = container.fails_with(255, &["exec", "--user", user, &container.id, "id"]);
        assert!(error.contains(": 4294967295 found, which stands for no id"), "{error}");
    }
}

#[test]
fn a_user_can_open_its_own_stdio_again() {
    let container = Container::script("echo again > /proc/1/fd/1; echo and > /dev/stderr")
        .with("/process/user", json!({"uid": 1000, "gid": 1000}));
    let output = container.run();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"again\n"[..], &b"and\n"[..]), "{output:?}");
}

fn status_of(container: &Container) -> Vec<(String, u64)> {
    let text = container.stdout();
    let parse = |line: &str| {
        let (key, value) = line.split_once(":\t")?;
        Some((key.to_owned(), u64::from_str_radix(value, 16).ok()?))
    };
    text.lines().filter_map(parse).collect()
}

fn pairs(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|&(key, value)| (key.to_owned(), value)).collect()
}

const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;

#[test]
fn capabilities_are_the_configured_ones() {
    let caps = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN", "CAP_KILL"]});
    let root = Container::script("grep Cap /proc/self/status").with("/process/capabilities", caps);
    let both = CHOWN | KILL;
    let expected = [("CapInh", 0), ("CapPrm", both), ("CapEff", both), ("CapBnd", both), ("CapAmb", 0)];
    assert_eq!(status_of(&root), pairs(&expected));

    let caps = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]
    });
    let user = Container::script("grep Cap /proc/self/status")
        .with("/process/capabilities", caps)
        .with("/process/user", json!({"uid": 1000, "gid": 1000}));
    let expected = [("CapInh", KILL), ("CapPrm", KILL), ("CapEff", KILL), ("CapBnd", both), ("CapAmb", KILL)];
    assert_eq!(status_of(&user), pairs(&expected));
}

#[test]
fn capabilities_that_nobody_knows_are_a_warning() {
    let caps = json!({"bounding": ["CAP_KILL", "CAP_TO_COME"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    let container = Container::script("grep CapEff /proc/self/status").with("/process/capabilities", caps);
    let output = container.run();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("CapEff:\t{KILL:016x}\n"), "{output:?}");
    let words = "ignoring unknown or unavailable capabilities: [CAP_TO_COME]";
    assert!(!is_ours() || String::from_utf8_lossy(&output.stderr).contains(words), "{output:?}");
}

#[test]
fn capabilities_that_the_runtime_has_not_are_a_warning() {
    let caps = json!(["CAP_KILL", "CAP_SYSLOG"]);
    let container = Container::script("grep CapEff /proc/self/status")
        .with("/process/capabilities", json!({"bounding": caps, "permitted": caps, "effective": caps}));
    let inner = container.runtime();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-syslog"]).arg(inner.get_program()).args(inner.get_args());
    let bundle = container.bundle().display().to_string();
    let output = command.args(["run", "--bundle", &bundle, &container.id]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("CapEff:\t{KILL:016x}\n"), "{output:?}");
    let words = "ignoring unknown or unavailable capabilities: [CAP_SYSLOG]";
    assert!(!is_ours() || String::from_utf8_lossy(&output.stderr).contains(words), "{output:?}");
}

#[test]
fn without_capabilities_root_has_none() {
    let expected = [("CapInh", 0), ("CapPrm", 0), ("CapEff", 0), ("CapBnd", 0), ("CapAmb", 0)];
    assert_eq!(status_of(&Container::script("grep Cap /proc/self/status")), pairs(&expected));
}

#[test]
fn filters_hold_with_and_without_new_privileges() {
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}
        ]
    });
    let script = "mkdir /d; kill -USR1 $$ || echo kept; kill -0 $$ && echo kill; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status";
    for (no_new_privileges, uid) in [(true, 0), (false, 0), (false, 1000), (true, 1000)] {
        let container = Container::script(script)
            .with("/linux/seccomp", seccomp.clone())
            .with("/process/user", json!({"uid": uid, "gid": uid}))
            .with("/process/noNewPrivileges", json!(no_new_privileges));
        let output = container.run();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains("mkdir: can't create directory '/d': No space left on device"), "{output:?}");
        let expected = format!("kept\nkill\nNoNewPrivs:\t{}\nSeccomp:\t2\n", u8::from(no_new_privileges));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn an_exec_is_under_the_containers_filter() {
    let seccomp =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    let container = Container::new(&["sleep", "1000"]).with("/linux/seccomp", seccomp);
    container.detach();
    let output = container.exec("grep Seccomp: /proc/self/status; grep CapEff /proc/self/status");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Seccomp:\t2\nCapEff:\t0000000000000000\n", "{output:?}");
}

#[test]
fn limits_and_scores_are_set() {
    let container = Container::script("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj")
        .with("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]))
        .with("/process/oomScoreAdj", json!(321));
    assert_eq!(container.stdout(), "100\n200\n321\n");
}

#[test]
fn who_names_no_user_is_root() {
    let mut container = Container::new(&["sleep", "1000"]);
    container.config["process"].as_object_mut().unwrap().remove("user");
    container.detach();
    let file = container.bundle().join("process.json");
    fs::write(&file, r#"{"args": ["id", "-u"], "cwd": "/", "env": ["PATH=/bin"]}"#).unwrap();
    assert_eq!(container.ok(&["exec", "--process", file.to_str().unwrap(), &container.id]), "0\n");
}

#[test]
fn a_limit_that_cannot_be_had_is_an_error_of_create() {
    // Above /proc/sys/fs/nr_open.
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": u64::MAX}]);
    let container = Container::new(&["true"]).with("/process/rlimits", limits);
    let bundle = container.bundle().display().to_string();
    let error = container.fails(&["create", "--bundle", &bundle, &container.id]);
    assert!(error.contains("process.rlimits: RLIMIT_NOFILE: Operation not permitted"), "{error}");
    container.assert_nothing_left();
}

/// Runs the container from a shell that has set this up.
fn run_from_shell(container: &Container, setup: &str) -> String {
    let runtime = container.runtime();
    let script = format!(
        "{setup}; exec {} --root {} run --bundle {} {}",
        runtime.get_program().display(),
        container.state_root().display(),
        container.bundle().display(),
        container.id
    );
    let output = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_descriptor_is_inherited() {
    let text = run_from_shell(&Container::new(&["ls", "/proc/self/fd"]), "exec 7</etc/passwd 9</proc");
    // 3 is the directory that ls reads.
    assert_eq!(text, "0\n1\n2\n3\n");
}

#[test]
fn no_signal_setting_is_inherited() {
    let container = Container::new(&["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]);
    let text = run_from_shell(&container, "trap '' PIPE USR1 TERM RTMIN+1");
    let (blocked, ignored) = text.trim_end().rsplit_once('\t').unwrap();
    assert_eq!(blocked, "SigBlk:\t0000000000000000\nSigIgn:");
    // The C library keeps signals 32 and 33 to itself; nobody can set them through it.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !(0b11 << 31), 0, "{text}");
}

#[test]
fn descriptors_are_preserved_on_request() {
    let container = Container::script("cat <&3");
    let file = container.bundle().join("given");
    fs::write(&file, "given").unwrap();
    let runtime = container.runtime();
    let script = format!(
        "exec 3<{}; exec {} --root {} run --preserve-fds 1 --bundle {} {}",
        file.display(),
        runtime.get_program().display(),
        container.state_root().display(),
        container.bundle().display(),
        container.id
    );
    let output = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "given", "{output:?}");
}

/// CVE-2019-5736: a created container's first process still is the runtime.
#[test]
fn the_runtimes_binary_cannot_be_written() {
    let caps = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]);
    let sets = json!({"bounding": caps, "effective": caps, "permitted": caps});
    let container = Container::new(&["sleep", "1000"]).with("/process/capabilities", sets);
    container.create();
    let output = container.exec(": > /proc/1/exe");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Read-only file system"), "{output:?}");
    let weak = Container::new(&["sleep", "1000"]);
    weak.create();
    let output = weak.exec("readlink /proc/1/exe && echo seen");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "without CAP_SYS_PTRACE it cannot even be looked at");
}

/// A runtime whose own mount is in another mount namespace cannot copy it.
#[test]
fn a_foreign_binary_is_copied() {
    let container = Container::new(&["sleep", "1000"]);
    let runtime = container.runtime();
    let script = format!(
        "exec 9<{}; exec unshare -m /proc/self/fd/9 --root {} create --bundle {} {} >/dev/null 2>&1",
        runtime.get_program().display(),
        container.state_root().display(),
        container.bundle().display(),
        container.id
    );
    assert!(Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).status().unwrap().success());
    let exe = fs::read_link(format!("/proc/{}/exe", container.state()["pid"])).unwrap();
    assert_eq!(exe.to_str(), Some("/memfd:podwright-oci (deleted)"));
    container.ok(&["start", &container.id]);
}

/// The same through the kernel: the runtime executed as the container's own program, or as its interpreter.
#[test]
fn the_runtime_executed_inside_is_read_only() {
    let binary = program();
    let before = fs::metadata(&binary).unwrap().modified().unwrap();
    let container = Container::new(&["/script"]);
    let script = container.rootfs().join("script");
    fs::write(&script, "#!/proc/self/exe --version\n").unwrap();
    assert!(Command::new("chmod").arg("755").arg(&script).status().unwrap().success());
    let output = container.run();
    assert!(String::from_utf8_lossy(&output.stdout).contains("podwright-oci"), "it runs, harmlessly: {output:?}");
    assert_eq!(fs::metadata(&binary).unwrap().modified().unwrap(), before);
}
