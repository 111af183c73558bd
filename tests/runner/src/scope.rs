//! What the lines of a case may refer to: its pods, containers, files and steps, and what its containers write.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use crate::grammar::{ContainerRef, PROBES};

const SECONDS: &str = r"(inf|\d+(\.\d+)?)";
const CODE: &str = r"\d{1,3}";

/// The names that a case brings.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The pods in the order of the manifests.
    pub pods: Vec<String>,
    containers: BTreeMap<ContainerRef, Value>,
    files: BTreeSet<String>,
    steps: BTreeSet<String>,
}

/// One command that runs in a container: what for, which kind, its words.
struct Call<'a> {
    mode: &'static str,
    kind: &'static str,
    words: Vec<&'a str>,
}

impl Scope {
    /// Of manifests and steps whose shapes are right.
    pub fn new(manifests: &[Value], steps: &[(String, Value)]) -> Scope {
        let mut scope = Scope::default();
        for manifest in manifests {
            let pod = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            for list in ["initContainers", "containers"] {
                for container in manifest["spec"][list].as_array().into_iter().flatten() {
                    let name = container["name"].as_str().unwrap_or_default().to_owned();
                    scope.containers.insert(ContainerRef { pod: pod.clone(), name }, container.clone());
                }
            }
            scope.files.insert(format!("{pod}.yaml"));
            scope.pods.push(pod);
        }
        for (word, value) in steps {
            scope.steps.insert(word.clone());
            scope.files.extend(value["file"].as_str().map(str::to_owned));
            if word == "rename" || word == "copy" {
                scope.files.extend(value.as_str().map(str::to_owned));
            }
        }
        scope
    }

    /// The pod of this name; `pod` is the first.
    pub fn pod(&self, name: &str) -> Option<String> {
        if name == "pod" {
            return self.pods.first().cloned();
        }
        self.pods.iter().find(|pod| *pod == name).cloned()
    }

    /// A container's part of the manifest.
    pub fn container(&self, of: &ContainerRef) -> Option<&Value> {
        self.containers.get(of)
    }

    /// Every container of the case.
    pub fn containers(&self) -> impl Iterator<Item = (&ContainerRef, &Value)> {
        self.containers.iter()
    }

    /// What `rejected` names: a pod by its name (`pod/NAME` is returned), or a file that a step writes.
    pub fn file_of(&self, source: &str) -> Option<String> {
        match self.pod(source) {
            Some(pod) => Some(format!("pod/{pod}")),
            None => self.files.get(source).cloned(),
        }
    }

    /// Whether one of these steps is there.
    pub fn uses_one_of(&self, steps: &[&str]) -> bool {
        steps.iter().any(|step| self.steps.contains(*step))
    }

    /// Whether the container has an HTTP server.
    pub fn serves_http(&self, of: &ContainerRef) -> bool {
        let args = self.containers.get(of).and_then(|c| c["args"].as_array());
        args.into_iter().flatten().any(|word| word.as_str().is_some_and(|word| word.starts_with("serve=http:")))
    }

    /// Whether the container calls `act` in this mode, be it from a shell.
    pub fn writes(&self, of: &ContainerRef, mode: &str, kind: &str) -> bool {
        let Some(container) = self.containers.get(of) else { return false };
        calls(container).iter().filter(|call| call.mode == mode && call.kind == kind).any(|call| {
            let name = if mode == "run" { "act".to_owned() } else { format!("act {mode} {kind}") };
            call.words.first() == Some(&"act")
                || Regex::new(&format!(r"\b{name}\b")).is_ok_and(|name| name.is_match(&call.words.join(" ")))
        })
    }

    /// Whether `act` is process 1 of the container, so that it writes `started` exactly once.
    pub fn is_act(&self, of: &ContainerRef) -> bool {
        self.containers.get(of).is_some_and(|c| c.get("command").is_none() && c["image"] == "actor")
    }
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Everything a container runs in itself: its own command, exec probes, exec hooks.
fn calls(container: &Value) -> Vec<Call<'_>> {
    let mut calls = Vec::new();
    if let Some(command) = container.get("command") {
        calls.push(Call { mode: "run", kind: "", words: words(command) });
    } else if container["image"] == "actor" {
        let words = [vec!["act"], words(&container["args"])].concat();
        calls.push(Call { mode: "run", kind: "", words });
    }
    for kind in PROBES {
        if let Some(exec) = container[format!("{kind}Probe").as_str()].get("exec") {
            calls.push(Call { mode: "probe", kind, words: words(&exec["command"]) });
        }
    }
    for (kind, field) in [("pre", "preStop"), ("post", "postStart")] {
        if let Some(exec) = container["lifecycle"][field].get("exec") {
            calls.push(Call { mode: "hook", kind, words: words(&exec["command"]) });
        }
    }
    calls
}

/// The values that an argument of `act` accepts; `None` for one that it does not know.
fn accepted(mode: &str, key: &str) -> Option<String> {
    Some(match (mode, key) {
        ("run" | "hook" | "probe", "run") | ("run", "listen") | ("probe", "up" | "until") => SECONDS.to_owned(),
        ("run" | "hook", "exit") | ("run", "code") => CODE.to_owned(),
        ("run", "term") => format!("({SECONDS}|ignore|none)"),
        ("run", "sig") => r"[A-Z]+[A-Z0-9+-]*".to_owned(),
        ("run", "mem") => r"\d+(Ki|Mi|Gi)".to_owned(),
        ("run", "serve") => r"(http|tcp|garbage|grpc):\d+".to_owned(),
        _ => return None,
    })
}

/// Calls of `act` that it would refuse, and lists without the volume that they need.
pub fn act_problems(container: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut lists = false;
    for call in calls(container) {
        if call.words.first() != Some(&"act") {
            continue;
        }
        let head = if call.mode == "run" { vec!["act"] } else { vec!["act", call.mode, call.kind] };
        if !call.words.starts_with(&head) {
            problems.push(format!("expected `{} ...`, found {:?}", head.join(" "), call.words));
            continue;
        }
        let arguments = &call.words[head.len()..];
        let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
        for word in arguments {
            let values: Vec<&str> = word.split_once('=').map_or(vec![""], |(_, values)| values.split(',').collect());
            lists |= values.len() > 1;
            let twice = arguments.iter().filter(|other| key(other) == key(word)).count() > 1;
            let pattern = accepted(call.mode, &key(word)).and_then(|p| Regex::new(&format!("^{p}$")).ok());
            if twice || !pattern.is_some_and(|pattern| values.iter().all(|v| pattern.is_match(v))) {
                problems.push(format!("{word:?} is no argument of `{}`", head.join(" ")));
            }
        }
    }
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    if lists && !mounts.into_iter().any(|mount| mount["mountPath"] == "/ev") {
        problems.push("a value per instance needs a volume at /ev".to_owned());
    }
    problems
}
