//! Shapes of the data in case files. What a shape does not know is an error, never passed over.

use serde_json::Value;

/// What a value has to look like.
#[derive(Debug)]
pub enum Shape {
    /// A string.
    Str,
    /// A whole number.
    Int,
    /// A number.
    Num,
    /// True or false.
    Bool,
    /// A string or a whole number, as ports and quantities are.
    StrOrInt,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A list of one shape.
    List(&'static Shape),
    /// A map of one shape under any keys.
    Free(&'static Shape),
    /// A map with these keys, each of them optional.
    Map(&'static [(&'static str, &'static Shape)]),
    /// Any map.
    AnyMap,
    /// A string or any map.
    StrOrMap,
}

use Shape::{AnyMap, Bool, Free, Int, List, Map, Num, OneOf, Str, StrOrInt, StrOrMap};

impl Shape {
    /// What is wrong with `value`, each as `path: what`.
    pub fn misfits(&self, value: &Value, at: &str) -> Vec<String> {
        match (self, value) {
            (Free(shape), Value::Object(map)) => {
                map.iter().flat_map(|(k, v)| shape.misfits(v, &format!("{at}.{k}"))).collect()
            }
            (Map(known), Value::Object(map)) => map
                .iter()
                .flat_map(|(k, v)| match known.iter().find(|(name, _)| name == k) {
                    Some((_, shape)) => shape.misfits(v, &format!("{at}.{k}")),
                    None => vec![format!("{at}.{k}: unknown key")],
                })
                .collect(),
            (List(shape), Value::Array(items)) => {
                items.iter().enumerate().flat_map(|(i, v)| shape.misfits(v, &format!("{at}[{i}]"))).collect()
            }
            (OneOf(words), Value::String(text)) if words.contains(&text.as_str()) => Vec::new(),
            (OneOf(words), other) => vec![format!("{at}: {other} is none of {words:?}")],
            (AnyMap | StrOrMap, Value::Object(_)) | (Str | StrOrInt | StrOrMap, Value::String(_)) => Vec::new(),
            (Bool, Value::Bool(_)) | (Num, Value::Number(_)) => Vec::new(),
            (Int | StrOrInt, Value::Number(n)) if n.is_i64() => Vec::new(),
            (Free(_) | Map(_) | AnyMap, _) => vec![format!("{at}: not a map")],
            (List(_), _) => vec![format!("{at}: not a list")],
            (_, other) => vec![format!("{at}: {other} has the wrong type")],
        }
    }
}

const STRINGS: Shape = List(&Str);
const EXEC: Shape = Map(&[("command", &STRINGS)]);
const HEADERS: Shape = List(&Map(&[("name", &Str), ("value", &Str)]));
const HTTP_GET: Shape = Map(&[
    ("path", &Str),
    ("port", &StrOrInt),
    ("host", &Str),
    ("scheme", &OneOf(&["HTTP", "HTTPS"])),
    ("httpHeaders", &HEADERS),
]);
const TCP: Shape = Map(&[("port", &StrOrInt), ("host", &Str)]);
const PROBE: Shape = Map(&[
    ("exec", &EXEC),
    ("httpGet", &HTTP_GET),
    ("tcpSocket", &TCP),
    ("grpc", &Map(&[("port", &Int), ("service", &Str)])),
    ("initialDelaySeconds", &Int),
    ("periodSeconds", &Int),
    ("timeoutSeconds", &Int),
    ("successThreshold", &Int),
    ("failureThreshold", &Int),
    ("terminationGracePeriodSeconds", &Int),
]);
const HOOK: Shape =
    Map(&[("exec", &EXEC), ("httpGet", &HTTP_GET), ("tcpSocket", &TCP), ("sleep", &Map(&[("seconds", &Int)]))]);
const CAPABILITIES: Shape = Map(&[("add", &STRINGS), ("drop", &STRINGS)]);
const SECCOMP: Shape = Map(&[("type", &Str)]);
const SECURITY: Shape = Map(&[
    ("runAsUser", &Int),
    ("runAsGroup", &Int),
    ("runAsNonRoot", &Bool),
    ("privileged", &Bool),
    ("allowPrivilegeEscalation", &Bool),
    ("readOnlyRootFilesystem", &Bool),
    ("capabilities", &CAPABILITIES),
    ("seccompProfile", &SECCOMP),
]);
const POD_SECURITY: Shape = Map(&[
    ("runAsUser", &Int),
    ("runAsGroup", &Int),
    ("runAsNonRoot", &Bool),
    ("privileged", &Bool),
    ("allowPrivilegeEscalation", &Bool),
    ("readOnlyRootFilesystem", &Bool),
    ("capabilities", &CAPABILITIES),
    ("seccompProfile", &SECCOMP),
    ("supplementalGroups", &List(&Int)),
    ("fsGroup", &Int),
]);
const POLICY: Shape = OneOf(&["Always", "OnFailure", "Never"]);
const RULES: Shape = List(&Map(&[
    ("action", &OneOf(&["Restart", "RestartAllContainers"])),
    ("exitCodes", &Map(&[("operator", &OneOf(&["In", "NotIn"])), ("values", &List(&Int))])),
]));
const LIFECYCLE: Shape = Map(&[("postStart", &HOOK), ("preStop", &HOOK), ("stopSignal", &Str)]);
const PORTS: Shape =
    List(&Map(&[("name", &Str), ("containerPort", &Int), ("hostPort", &Int), ("protocol", &OneOf(&["TCP", "UDP"]))]));
const VOLUME_MOUNTS: Shape = List(&Map(&[("name", &Str), ("mountPath", &Str), ("readOnly", &Bool), ("subPath", &Str)]));

/// A container of a manifest.
pub const CONTAINER: Shape = Map(&[
    ("name", &Str),
    ("image", &Str),
    ("imagePullPolicy", &OneOf(&["Always", "IfNotPresent", "Never"])),
    ("command", &STRINGS),
    ("args", &STRINGS),
    ("workingDir", &Str),
    ("env", &HEADERS),
    ("ports", &PORTS),
    ("resources", &Map(&[("requests", &Free(&StrOrInt)), ("limits", &Free(&StrOrInt))])),
    ("volumeMounts", &VOLUME_MOUNTS),
    ("restartPolicy", &POLICY),
    ("restartPolicyRules", &RULES),
    ("startupProbe", &PROBE),
    ("readinessProbe", &PROBE),
    ("livenessProbe", &PROBE),
    ("lifecycle", &LIFECYCLE),
    ("terminationMessagePath", &Str),
    ("terminationMessagePolicy", &OneOf(&["File", "FallbackToLogsOnError"])),
    ("securityContext", &SECURITY),
]);

const EMPTY_DIR: Shape = Map(&[("medium", &OneOf(&["", "Memory"])), ("sizeLimit", &StrOrInt)]);
const VOLUMES: Shape =
    List(&Map(&[("name", &Str), ("emptyDir", &EMPTY_DIR), ("hostPath", &Map(&[("path", &Str), ("type", &Str)]))]));

/// A manifest, or a merge patch on one.
pub const POD: Shape = Map(&[
    ("apiVersion", &OneOf(&["v1"])),
    ("kind", &OneOf(&["Pod"])),
    ("metadata", &Map(&[("name", &Str), ("namespace", &Str), ("labels", &Free(&Str)), ("annotations", &Free(&Str))])),
    (
        "spec",
        &Map(&[
            ("restartPolicy", &POLICY),
            ("terminationGracePeriodSeconds", &Int),
            ("activeDeadlineSeconds", &Int),
            ("initContainers", &List(&CONTAINER)),
            ("containers", &List(&CONTAINER)),
            ("hostNetwork", &Bool),
            ("hostPID", &Bool),
            ("os", &Map(&[("name", &OneOf(&["linux"]))])),
            ("securityContext", &POD_SECURITY),
            ("volumes", &VOLUMES),
        ]),
    ),
]);

const AGENT: Shape = Map(&[
    ("crashLoopBackOff", &Map(&[("initial", &Num), ("max", &Num)])),
    ("fileCheckFrequency", &Num),
    ("sidecarStartGate", &OneOf(&["Ready", "Started"])),
    ("podPidsLimit", &Int),
]);

/// The words of `needs`.
pub const NEEDS: &[&str] = &["cgroup", "oom", "netns", "api", "image"];

/// Keys of manifests that a case may have grow with the machine's slowness.
pub const STRETCHABLE: &[&str] =
    &["activeDeadlineSeconds", "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"];

/// A case.
pub const CASE: Shape = Map(&[
    ("id", &Str),
    ("title", &Str),
    ("from", &Str),
    ("stage", &OneOf(&["spine", "lifecycle"])),
    ("needs", &List(&OneOf(NEEDS))),
    ("soft", &Bool),
    ("max", &Num),
    ("stretch", &List(&OneOf(STRETCHABLE))),
    ("agent", &AGENT),
    ("manifests", &List(&POD)),
    ("steps", &List(&StrOrMap)),
    ("expect", &STRINGS),
]);

/// Keys that a case may leave out.
pub const OPTIONAL: &[&str] = &["needs", "soft", "stretch", "agent"];

/// A file of cases.
pub const FILE: Shape = Map(&[("cases", &List(&AnyMap))]);

/// Steps that are one word.
pub const STEP_WORDS: &[&str] = &[
    "start",
    "delete",
    "restore",
    "touch",
    "rewrite",
    "clear_dir",
    "hide_dir",
    "show_dir",
    "make_dir",
    "agent_kill",
    "agent_stop",
    "agent_start",
    "lose_sandbox",
    "reboot",
    "restart",
];

/// Steps that are a map with one key.
pub const STEP_MAPS: &[(&str, &Shape)] = &[
    (
        "start",
        &Map(&[
            ("pod", &Str),
            ("file", &Str),
            ("form", &OneOf(&["json", "list"])),
            ("by", &OneOf(&["move", "slow", "symlink"])),
        ]),
    ),
    (
        "edit",
        &Map(&[
            ("pod", &Str),
            ("container", &Str),
            ("merge", &AnyMap),
            ("comment", &Str),
            ("form", &OneOf(&["json"])),
            ("raw", &Str),
            ("by", &OneOf(&["move", "slow"])),
        ]),
    ),
    ("delete", &Str),
    ("wait", &Num),
    ("until", &Str),
    ("rename", &Str),
    ("copy", &Str),
    ("mkfifo", &Str),
    ("remove", &Str),
    ("write", &Map(&[("file", &Str), ("raw", &Str)])),
    ("symlink", &Map(&[("file", &Str), ("to", &Str)])),
    ("signal", &Map(&[("container", &Str), ("signal", &Str)])),
    ("api_delete", &Map(&[("grace", &Int)])),
    ("cli", &Map(&[("args", &STRINGS), ("rc", &Int), ("matches", &Str)])),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_what_does_not_fit() {
        let case = json!({"id": "T1", "max": "4", "stage": "later", "needs": ["luck"],
            "manifests": [{"spec": {"containers": [{"image": 1, "argz": []}]}}]});
        let wrong = CASE.misfits(&case, "case");
        assert_eq!(
            wrong,
            [
                "case.manifests[0].spec.containers[0].argz: unknown key",
                "case.manifests[0].spec.containers[0].image: 1 has the wrong type",
                "case.max: \"4\" has the wrong type",
                "case.needs[0]: \"luck\" is none of [\"cgroup\", \"oom\", \"netns\", \"api\", \"image\"]",
                "case.stage: \"later\" is none of [\"spine\", \"lifecycle\"]",
            ]
        );
    }
}
