use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{Capabilities, Capability, LinuxDevice};

use super::*;
use crate::manifest::{Format, parse};

/// A bundle's config, as a recipe would write it.
const BUNDLE: &str = r#"{
    "ociVersion": "1.2.0", "hostname": "bundle",
    "root": {"path": "rootfs"},
    "process": {"terminal": true, "user": {"uid": 5, "gid": 6, "additionalGids": [7]}, "cwd": "/home",
                "args": ["init", "--default"], "env": ["PATH=/bin", "A=bundle", "HOSTNAME=x"]},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
               {"destination": "/opt/", "type": "bind", "source": "/host/opt", "options": ["rbind"]}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "user"}],
              "uidMappings": [{"hostID": 1, "containerID": 0, "size": 1}],
              "maskedPaths": ["/proc/kcore"]}
}"#;

const NODE: NodeFacts = NodeFacts {
    memory: 1 << 30,
    cpu_controller: true,
    memory_controller: true,
    swap_controller: true,
    lowest_oom_score_adj: -1000,
    limits: NodeLimits { open_files: 1 << 20, pending_signals: 4000, ceilings: None },
};

fn context(bundle: &str) -> Context {
    Context {
        bundle: serde_json::from_str(bundle).unwrap(),
        rootfs: "/run/root".into(),
        volumes: [("data".to_owned(), PathBuf::from("/vol/data"))].into(),
        sub_paths: [(1, PathBuf::from("/run/sub/1"))].into(),
        cgroups_path: "/podwright.slice/pod1/app".into(),
        node: NODE,
        hostname: "web".to_owned(),
        hosts: Some("/run/hosts".into()),
        hostname_file: None,
        resolv_conf: None,
        message: None,
        shm: Some("/run/shm".into()),
        sensors: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".to_owned()],
        host_devices: vec![LinuxDevice::default()],
    }
}

/// A pod whose only container has these fields.
fn pod(pod_fields: &str, container_fields: &str) -> PodSpec {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {{{pod_fields} volumes: [{{name: data, emptyDir: {{}}}}], \
         containers: [{{name: app, image: x, {container_fields}}}]}}}}"
    );
    parse(&text, Format::Yaml).unwrap().remove(0).spec
}

fn spec(pod_fields: &str, container_fields: &str) -> Result<Spec, ConfigError> {
    container_spec(&pod(pod_fields, container_fields), 0, &context(BUNDLE))
}

fn process_of(pod_fields: &str, container_fields: &str) -> Process {
    spec(pod_fields, container_fields).unwrap().process().clone().unwrap()
}

fn linux_of(pod_fields: &str, container_fields: &str) -> Linux {
    spec(pod_fields, container_fields).unwrap().linux().clone().unwrap()
}

fn mount_at<'a>(spec: &'a Spec, path: &str) -> &'a oci_spec::runtime::Mount {
    let mounts = spec.mounts().as_ref().unwrap();
    let found: Vec<_> = mounts.iter().filter(|m| m.destination() == Path::new(path)).collect();
    assert_eq!(found.len(), 1, "mounts at {path}");
    found[0]
}

#[test]
fn what_runs() {
    let args = |fields| process_of("", fields).args().clone().unwrap();
    assert_eq!(args(""), ["init", "--default"]);
    assert_eq!(args("args: [a]"), ["init", "--default", "a"]);
    assert_eq!(args("command: [c]"), ["c"]);
    assert_eq!(args("command: [c], args: [a]"), ["c", "a"]);
    assert_eq!(
        args("command: [sh, $(NAME)], args: [$(NAME)-$(M), $$(NAME)], env: [{name: NAME, value: it}]"),
        ["sh", "it", "it-$(M)", "$(NAME)"]
    );
}

#[test]
fn a_bundle_may_say_what_of_its_args_is_the_entrypoint() {
    let with = |length: &str, fields: &str| {
        let text = BUNDLE.replacen('{', &format!("{{\"annotations\": {{\"{ENTRYPOINT_LENGTH}\": \"{length}\"}},"), 1);
        container_spec(&pod("", fields), 0, &context(&text))
    };
    let args = |spec: Spec| spec.process().as_ref().unwrap().args().clone().unwrap();
    assert_eq!(args(with("1", "args: [a]").unwrap()), ["init", "a"]);
    assert_eq!(args(with("0", "args: [a]").unwrap()), ["a"]);
    assert_eq!(args(with("1", "").unwrap()), ["init", "--default"]);
    assert!(matches!(with("3", "args: [a]"), Err(ConfigError::EntrypointLength { args: 2, .. })));
    assert!(matches!(with("x", "args: [a]"), Err(ConfigError::EntrypointLength { .. })));
    let bare = container_spec(&pod("", ""), 0, &context(r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"}}"#));
    assert!(matches!(bare, Err(ConfigError::NoCommand { .. })));
}

#[test]
fn a_bundle_of_only_a_root_gets_defaults() {
    let made =
        container_spec(&pod("", "command: [a]"), 0, &context(r#"{"ociVersion": "1.2.0", "root": {"path": "r"}}"#));
    let process = made.unwrap().process().clone().unwrap();
    assert_eq!(process.env().as_deref().unwrap(), [defaults::PATH, "HOSTNAME=web"]);
    assert_eq!((process.user().uid(), process.cwd().as_path()), (0, Path::new("/")));
    let capabilities = process.capabilities().clone().unwrap();
    assert_eq!(capabilities.effective().as_ref().unwrap().len(), 14);
    assert_eq!(capabilities.inheritable().as_ref().unwrap().len(), 0);
}

#[test]
fn environment_and_directory() {
    let process = process_of("", "env: [{name: A, value: pod}, {name: B, value: $(A)2}, {name: B, value: last}]");
    assert_eq!(process.env().as_deref().unwrap(), ["PATH=/bin", "A=pod", "HOSTNAME=web", "B=last"]);
    assert_eq!(process.cwd(), Path::new("/home"));
    assert_eq!(process.terminal(), Some(false));
    assert_eq!(process_of("", "workingDir: /srv").cwd(), Path::new("/srv"));
    assert_eq!(process_of("", "env: [{name: HOSTNAME, value: mine}]").env().as_ref().unwrap()[2], "HOSTNAME=mine");
}

#[test]
fn users() {
    let user = |pod_security: &str, security: &str| {
        let pod_fields = format!("securityContext: {{{pod_security}}},");
        let user = process_of(&pod_fields, &format!("securityContext: {{{security}}}")).user().clone();
        (user.uid(), user.gid(), user.additional_gids().clone().unwrap_or_default())
    };
    assert_eq!(user("", ""), (5, 6, vec![7]));
    assert_eq!(user("runAsUser: 9", ""), (9, 0, vec![]));
    assert_eq!(user("runAsUser: 9, runAsGroup: 3", "runAsUser: 8"), (8, 3, vec![]));
    assert_eq!(user("supplementalGroups: [1, 7]", "runAsGroup: 2"), (5, 2, vec![7, 1]));
    assert_eq!(user("runAsNonRoot: true, runAsUser: 0", "runAsNonRoot: false"), (0, 0, vec![]));
}

#[test]
fn root_is_refused_where_it_must_not_be() {
    let refused = |bundle: &str, fields: &str| {
        container_spec(&pod("securityContext: {runAsNonRoot: true},", fields), 0, &context(bundle))
    };
    assert!(refused(BUNDLE, "").is_ok());
    let rootful = BUNDLE.replace("\"uid\": 5", "\"uid\": 0");
    assert!(matches!(refused(&rootful, ""), Err(ConfigError::NonRootImage { .. })));
    assert!(refused(&rootful, "securityContext: {runAsUser: 1}").is_ok());
    let contradiction = refused(BUNDLE, "securityContext: {runAsUser: 0}");
    assert!(matches!(contradiction, Err(ConfigError::NonRootContradicted { .. })));
}

#[test]
fn capabilities() {
    let sets = |fields: &str| {
        let process = process_of("", &format!("securityContext: {{runAsUser: 0, {fields}}}"));
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.bounding(), sets.effective(), "root holds what it may");
        assert_eq!(sets.bounding(), sets.permitted());
        assert!(sets.ambient().as_ref().unwrap().is_empty());
        sets.bounding().clone().unwrap()
    };
    assert_eq!(sets("").len(), 14);
    let changed = sets("capabilities: {add: [NET_ADMIN, CHOWN], drop: [MKNOD]}");
    assert!(changed.contains(&Capability::NetAdmin) && !changed.contains(&Capability::Mknod));
    assert_eq!(changed.len(), 14);
    let only: Capabilities = [Capability::NetBindService].into();
    assert_eq!(sets("capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}"), only);
    assert_eq!(sets("capabilities: {add: [ALL], drop: [SYS_ADMIN]}").len(), 40);
    assert_eq!(sets("privileged: true").len(), 41);

    let process = process_of("", "");
    let sets = process.capabilities().clone().unwrap();
    assert_eq!(sets.bounding().as_ref().unwrap().len(), 14);
    assert!(sets.effective().as_ref().unwrap().is_empty(), "a user other than root begins with none");
    assert!(sets.permitted().as_ref().unwrap().is_empty());
}

#[test]
fn a_bundle_may_have_fewer_capabilities() {
    let text = BUNDLE.replace("\"terminal\": true", "\"capabilities\": {\"bounding\": [\"CAP_KILL\"]}");
    let made = container_spec(&pod("", "securityContext: {capabilities: {add: [CHOWN]}}"), 0, &context(&text)).unwrap();
    let sets = made.process().as_ref().unwrap().capabilities().clone().unwrap();
    assert_eq!(sets.bounding().clone().unwrap(), [Capability::Kill, Capability::Chown].into());
}

#[test]
fn privileges_and_seccomp() {
    let privileges = |fields: &str| process_of("", &format!("securityContext: {{{fields}}}")).no_new_privileges();
    assert_eq!(privileges("allowPrivilegeEscalation: false"), Some(true));
    assert_eq!(privileges("allowPrivilegeEscalation: true"), Some(false));
    assert_ne!(privileges(""), Some(true));
    let seccomp = |pod: &str, own: &str| {
        linux_of(&format!("securityContext: {{{pod}}},"), &format!("securityContext: {{{own}}}")).seccomp().is_some()
    };
    assert!(!seccomp("", ""));
    assert!(seccomp("seccompProfile: {type: RuntimeDefault}", ""));
    assert!(!seccomp("seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}"));
    assert!(!seccomp("seccompProfile: {type: RuntimeDefault}", "privileged: true"));
}

#[test]
fn namespaces_mappings_and_paths() {
    let kinds =
        |linux: &Linux| linux.namespaces().as_ref().unwrap().iter().map(LinuxNamespace::typ).collect::<Vec<_>>();
    let linux = linux_of("", "");
    assert_eq!(kinds(&linux), [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]);
    assert_eq!(linux.uid_mappings(), &None);
    assert_eq!(linux.masked_paths().as_deref().unwrap(), ["/proc/kcore"]);
    assert_eq!(linux.readonly_paths().as_deref().unwrap(), defaults::READ_ONLY);
    assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/podwright.slice/pod1/app")));
    assert!(!linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0].allow());
    let host = linux_of("hostPID: true,", "");
    assert_eq!(kinds(&host), [LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]);
    let spec = spec("", "").unwrap();
    assert_eq!((spec.hostname(), spec.version().as_str()), (&None, "1.0.2"));
}

#[test]
fn privileged_sees_the_node() {
    let spec = spec("", "securityContext: {privileged: true}").unwrap();
    let linux = spec.linux().clone().unwrap();
    assert_eq!((linux.masked_paths(), linux.readonly_paths()), (&None, &None));
    assert_eq!(linux.devices().as_ref().unwrap().len(), 1);
    assert!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0].allow());
    assert!(mount_at(&spec, "/sys").options().as_ref().unwrap().contains(&"rw".to_owned()));
}

#[test]
fn mounts_come_in_order_and_once() {
    let fields = "volumeMounts: [{name: data, mountPath: /opt/deep/er}, {name: data, mountPath: /etc/hosts, subPath: h}, \
                  {name: data, mountPath: /dev/shm, readOnly: true}]";
    let spec = spec("", fields).unwrap();
    assert_eq!(mount_at(&spec, "/opt/deep/er").source().as_deref(), Some(Path::new("/vol/data")));
    assert_eq!(mount_at(&spec, "/etc/hosts").source().as_deref(), Some(Path::new("/run/sub/1")));
    let shm = mount_at(&spec, "/dev/shm");
    assert_eq!(shm.source().as_deref(), Some(Path::new("/vol/data")));
    assert_eq!(shm.options().as_deref().unwrap(), ["rbind", "rprivate", "ro"]);
    assert!(mount_at(&spec, "/proc").options().is_some(), "the kernel's file systems are not the bundle's");
    assert_eq!(mount_at(&spec, "/opt").source().as_deref(), Some(Path::new("/host/opt")));
    let paths: Vec<_> = spec.mounts().as_ref().unwrap().iter().map(|m| m.destination().clone()).collect();
    for (i, path) in paths.iter().enumerate() {
        assert!(!paths[i + 1..].iter().any(|later| path.starts_with(later)), "{} hides nothing", path.display());
    }
    let plain = container_spec(&pod("", ""), 0, &context(BUNDLE)).unwrap();
    assert_eq!(mount_at(&plain, "/dev/shm").source().as_deref(), Some(Path::new("/run/shm")));
    assert_eq!(mount_at(&plain, "/etc/hosts").source().as_deref(), Some(Path::new("/run/hosts")));
}

#[test]
fn a_volume_that_is_not_set_up_is_an_error() {
    let mut context = context(BUNDLE);
    context.volumes.clear();
    let made = container_spec(&pod("", "volumeMounts: [{name: data, mountPath: /a}]"), 0, &context);
    assert!(matches!(made, Err(ConfigError::NoVolume { .. })));
    assert!(matches!(container_spec(&pod("", ""), 1, &context), Err(ConfigError::NoContainer { index: 1 })));
}

#[test]
fn root_read_only() {
    let read_only = |fields: &str| spec("", fields).unwrap().root().as_ref().unwrap().readonly();
    assert_eq!(read_only(""), Some(false));
    assert_eq!(read_only("securityContext: {readOnlyRootFilesystem: true}"), Some(true));
    assert_eq!(spec("", "").unwrap().root().as_ref().unwrap().path(), Path::new("/run/root"));
}

#[test]
fn resources_of_the_container() {
    let fields = "resources: {requests: {cpu: 500m}, limits: {cpu: 250000m, memory: 64Mi}}";
    let made = spec("", fields).unwrap();
    let resources = made.linux().as_ref().unwrap().resources().clone().unwrap();
    let cpu = resources.cpu().clone().unwrap();
    assert_eq!((cpu.shares(), cpu.quota(), cpu.period()), (Some(512), Some(25_000_000), Some(100_000)));
    assert_eq!(resources.memory().unwrap().limit(), Some(64 << 20));
    let unified = resources.unified().clone().unwrap();
    let expected = [("cpu.weight", "59"), ("memory.oom.group", "1"), ("memory.swap.max", "0")];
    assert_eq!(unified, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(made.process().as_ref().unwrap().oom_score_adj(), Some(938));

    let free = linux_of("", "").resources().clone().unwrap();
    assert_eq!((free.cpu().clone().unwrap().shares(), free.cpu().clone().unwrap().quota()), (Some(2), None));
    assert_eq!(free.memory(), &None);
}

#[test]
fn an_oom_score_that_the_agent_may_not_give_is_the_lowest_that_it_may() {
    let guaranteed = pod("", "resources: {limits: {cpu: 1, memory: 64Mi}}");
    let score = |context: &Context| {
        let made = container_spec(&guaranteed, 0, context).unwrap();
        made.process().as_ref().unwrap().oom_score_adj().unwrap()
    };
    let mut context = context(BUNDLE);
    assert_eq!(score(&context), -997);
    context.node = NodeFacts { lowest_oom_score_adj: -5, ..NODE };
    assert_eq!(score(&context), -5);
}

#[test]
fn what_the_node_lacks_is_left_out() {
    let mut context = context(BUNDLE);
    context.node = NodeFacts { cpu_controller: false, memory_controller: false, swap_controller: false, ..NODE };
    let made = container_spec(&pod("", "resources: {limits: {cpu: 1, memory: 64Mi}}"), 0, &context).unwrap();
    let resources = made.linux().as_ref().unwrap().resources().clone().unwrap();
    assert_eq!((resources.cpu(), resources.memory(), resources.unified()), (&None, &None, &None));
}

#[test]
fn nothing_is_left_to_what_the_agent_has() {
    let config = r#"{"ociVersion": "1.2.0", "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["x"],
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 7, "hard": 8}]}}"#;
    let process = |context: &Context| container_spec(&pod("", ""), 0, context).unwrap().process().clone().unwrap();
    let limits = |node: NodeFacts| -> BTreeMap<String, (u64, u64)> {
        let process = process(&Context { node, ..context(config) });
        let limits = process.rlimits().clone().unwrap();
        assert_eq!(limits.len(), LIMIT_COUNT);
        limits.iter().map(|limit| (limit.typ().to_string(), (limit.soft(), limit.hard()))).collect()
    };
    let with = |limits: NodeLimits| NodeFacts { limits, ..NODE };
    let all = limits(NODE);
    assert_eq!(all.len(), LIMIT_COUNT, "each kind once");
    assert_eq!(all["RLIMIT_CORE"], (7, 8), "the bundle's own");
    assert_eq!(all["RLIMIT_NOFILE"], (1024, 524_288));
    assert_eq!(all["RLIMIT_SIGPENDING"], (4000, 4000));
    assert_eq!(all["RLIMIT_NPROC"], (u64::MAX, u64::MAX));
    // Where the agent may not raise limits, its own are as far as it goes.
    let mut ceilings = [u64::MAX; LIMIT_COUNT];
    (ceilings[7], ceilings[3], ceilings[4]) = (512, 4 << 20, 1);
    let less = limits(with(NodeLimits { ceilings: Some(ceilings), ..NODE.limits }));
    assert_eq!((less["RLIMIT_NOFILE"], less["RLIMIT_STACK"]), ((512, 512), (4 << 20, 4 << 20)));
    assert_eq!(less["RLIMIT_CORE"], (7, 8));
    let less = limits(with(NodeLimits { open_files: 4096, ..NODE.limits }));
    assert_eq!(less["RLIMIT_NOFILE"], (1024, 4096));
    let plain = process(&context(config));
    assert_eq!((plain.user().umask(), plain.no_new_privileges()), (Some(0o022), Some(false)));
    let linux = container_spec(&pod("", ""), 0, &context(config)).unwrap().linux().clone().unwrap();
    let masked = linux.masked_paths().clone().unwrap();
    for path in ["/proc/kcore", "/proc/interrupts", "/sys/devices/system/cpu/cpu0/thermal_throttle"] {
        assert!(masked.iter().any(|other| other == path), "{path} in {masked:?}");
    }
}
