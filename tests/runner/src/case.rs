//! Case files: read, checked, parsed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::grammar::{self, ContainerRef, Expect, Until};
use crate::scope::{Scope, act_problems};
use crate::shape::{CASE, CONTAINER, FILE, OPTIONAL, POD, STEP_MAPS, STEP_WORDS};
use crate::yaml;

/// What is wrong with a file or a case, a line each.
pub type Problems = Vec<String>;

/// A case by its id, or what is wrong with it.
pub type Named = (String, Result<Case, Problems>);

/// One behaviour case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Letters, then digits.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// `spine` or `lifecycle`.
    pub stage: String,
    /// What the host has to have.
    pub needs: Vec<String>,
    /// Seconds for the whole case on an idle machine.
    pub max: f64,
    /// Keys of the manifests whose values grow with the machine's slowness.
    pub stretch: Vec<String>,
    /// Configuration of this case's agent.
    pub agent: Map<String, Value>,
    /// The manifests; the first is "the pod".
    pub manifests: Vec<Value>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The expectations: as they are written, and parsed.
    pub expect: Vec<(String, Expect)>,
    /// The names that the case brings.
    pub scope: Scope,
}

impl Case {
    /// The manifests for a machine that is so many times slower than an idle one.
    pub fn stretched(&self, slow: f64) -> Vec<Value> {
        let mut manifests = self.manifests.clone();
        manifests.iter_mut().for_each(|manifest| stretch(manifest, &self.stretch, slow));
        manifests
    }

    /// Whether the kernel of the VM may make a difference: it needs what hosts may lack, or has limits in it.
    pub fn is_kernels(&self) -> bool {
        let api = |need: &String| need == "api";
        !self.needs.iter().all(api) || self.manifests.iter().any(limits) || self.agent.contains_key("podPidsLimit")
    }

    /// Whether the case is in the tenth that `seed` draws.
    pub fn is_drawn(&self, seed: u64) -> bool {
        // FNV-1a, whose answers do not change with the standard library's.
        let bytes = seed.to_le_bytes().into_iter().chain(self.id.bytes());
        let hash = bytes
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        // And MurmurHash3's last step, without which ids that differ in their last digit have the same upper bits.
        let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (mixed >> 33).is_multiple_of(10)
    }
}

/// How a file's content gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Truncated and written.
    #[default]
    Write,
    /// Written elsewhere, renamed into place.
    Move,
    /// 40 bytes, and 1 s later the rest.
    Slow,
    /// A symlink to a file outside.
    Symlink,
}

/// The form of a manifest file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// YAML, a document per pod.
    #[default]
    Yaml,
    /// JSON.
    Json,
    /// A `v1` List, YAML.
    List,
}

/// What the runner does.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the words of the steps")]
pub enum Step {
    Start {
        pod: Option<String>,
        file: Option<String>,
        form: Form,
        by: Way,
    },
    Delete(String),
    Wait(f64),
    Until(String, Until),
    Edit {
        pod: String,
        container: Option<String>,
        merge: Option<Value>,
        comment: Option<String>,
        json: bool,
        raw: Option<String>,
        by: Way,
    },
    Restore,
    Touch,
    Rewrite,
    Rename(String),
    Copy(String),
    WriteFile {
        file: String,
        raw: String,
    },
    Mkfifo(String),
    Symlink {
        file: String,
        to: String,
    },
    Remove(String),
    ClearDir,
    HideDir,
    ShowDir,
    MakeDir,
    AgentKill,
    AgentStop,
    AgentStart,
    LoseSandbox,
    Reboot,
    Signal {
        container: ContainerRef,
        signal: String,
    },
    ApiDelete {
        grace: i64,
    },
    Restart,
    Cli {
        args: Vec<String>,
        rc: i64,
        matches: Option<String>,
    },
}

/// Reads every case of files and of the `*.yaml` of folders. Every problem of every case is reported.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Case>, Vec<String>> {
    let mut problems = Vec::new();
    let mut cases: Vec<Case> = Vec::new();
    for path in files(paths).map_err(|e| vec![e])? {
        let name = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) => {
                problems.push(format!("{name}: {e}"));
                continue;
            }
        };
        match read_file(&text) {
            Ok(found) => {
                for (title, case) in found {
                    match case {
                        Ok(case) if cases.iter().any(|other| other.id == case.id) => {
                            problems.push(format!("{name} {title}: id used before"));
                        }
                        Ok(case) => cases.push(case),
                        Err(wrong) => problems.extend(wrong.iter().map(|w| format!("{name} {title}: {w}"))),
                    }
                }
            }
            Err(wrong) => problems.extend(wrong.iter().map(|w| format!("{name}: {w}"))),
        }
    }
    if problems.is_empty() && cases.is_empty() {
        problems.push("no case found".to_owned());
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "yaml") && Path::is_file(path))
            .collect();
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// The cases of a file by their ids, each parsed or with its problems.
pub fn read_file(text: &str) -> Result<Vec<Named>, Problems> {
    let documents = yaml::read(text).map_err(|e| vec![e])?;
    let [document] = &documents[..] else { return Err(vec!["expected one document".to_owned()]) };
    let wrong = FILE.misfits(document, "file");
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let cases = document["cases"].as_array().cloned().unwrap_or_default();
    Ok(cases
        .iter()
        .enumerate()
        .map(|(i, data)| (data["id"].as_str().map_or(format!("case {i}"), str::to_owned), parse(data)))
        .collect())
}

/// A case out of its data, or what is wrong with it.
pub fn parse(data: &Value) -> Result<Case, Vec<String>> {
    let mut problems = CASE.misfits(data, "case");
    if let (crate::shape::Shape::Map(keys), Some(map)) = (&CASE, data.as_object()) {
        let lacking = keys.iter().filter(|(key, _)| !OPTIONAL.contains(key) && !map.contains_key(*key));
        problems.extend(lacking.map(|(key, _)| format!("lacks {key}")));
    }
    if problems.is_empty() {
        let incomplete = list(&data["manifests"]).iter().any(|manifest| !complete(manifest));
        problems.extend(incomplete.then(|| "a manifest lacks metadata, spec or a name".to_owned()));
    }
    if problems.is_empty() { parse_shaped(data) } else { Err(problems) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn complete(manifest: &Value) -> bool {
    let spec = &manifest["spec"];
    manifest["metadata"]["name"].is_string()
        && spec.as_object().is_some_and(|spec| !spec.is_empty())
        && ["initContainers", "containers"].iter().all(|k| list(&spec[*k]).iter().all(|c| c["name"].is_string()))
}

fn parse_shaped(data: &Value) -> Result<Case, Vec<String>> {
    let manifests = list(&data["manifests"]).to_vec();
    let raw_steps: Vec<(String, Value)> = list(&data["steps"]).iter().map(split_step).collect();
    let scope = Scope::new(&manifests, &raw_steps);
    let mut problems = problems_of_data(data, &manifests, &scope);
    let mut steps = Vec::new();
    if problems.is_empty() {
        for (word, value) in &raw_steps {
            match step(word, value, &scope) {
                Ok(step) => steps.push(step),
                Err(wrong) => problems.extend(wrong),
            }
        }
    }
    let mut expect = Vec::new();
    for line in list(&data["expect"]).iter().filter_map(Value::as_str) {
        match grammar::expectation(line, &scope) {
            Ok(parsed) => expect.push((line.to_owned(), parsed)),
            Err(wrong) => problems.push(format!("{line:?}: {wrong}")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Case {
        id: text(&data["id"]).unwrap_or_default(),
        title: text(&data["title"]).unwrap_or_default(),
        stage: text(&data["stage"]).unwrap_or_default(),
        needs: list(&data["needs"]).iter().filter_map(text).collect(),
        stretch: list(&data["stretch"]).iter().filter_map(text).collect(),
        max: data["max"].as_f64().unwrap_or_default(),
        agent: data["agent"].as_object().cloned().unwrap_or_default(),
        manifests,
        steps,
        expect,
        scope,
    })
}

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(map) => map.contains_key(key) || map.values().any(|value| has_key(value, key)),
        Value::Array(items) => items.iter().any(|item| has_key(item, key)),
        _ => false,
    }
}

fn stretch(value: &mut Value, keys: &[String], slow: f64) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_f64().filter(|_| keys.contains(key)) {
                    // Whole seconds and counts, far below what a double holds exactly.
                    Some(number) => *value = ((number * slow).ceil() as i64).into(),
                    None => stretch(value, keys, slow),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| stretch(item, keys, slow)),
        _ => {}
    }
}

/// Whether a value anywhere below speaks of what the kernel limits or accounts.
fn limits(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| match key.as_str() {
            "limits" | "requests" | "sizeLimit" | "medium" | "podPidsLimit" => true,
            _ => limits(value),
        }),
        Value::Array(items) => items.iter().any(limits),
        _ => false,
    }
}

/// A step as its word and its value; a map that has not exactly one key gets a word that no step has.
fn split_step(step: &Value) -> (String, Value) {
    match step {
        Value::String(word) => (word.clone(), Value::Null),
        Value::Object(map) if map.len() == 1 => {
            map.iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap_or_default()
        }
        other => (other.to_string(), Value::Null),
    }
}

fn problems_of_data(data: &Value, manifests: &[Value], scope: &Scope) -> Vec<String> {
    let mut problems = Vec::new();
    let id = data["id"].as_str().unwrap_or_default();
    let digits = id.trim_start_matches(|c: char| c.is_ascii_uppercase());
    if digits.len() == id.len() || digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        problems.push(format!("id {id:?}: letters, then digits"));
    }
    for key in ["manifests", "steps", "expect"] {
        if list(&data[key]).is_empty() {
            problems.push(format!("{key} is empty"));
        }
    }
    for key in list(&data["stretch"]).iter().filter_map(Value::as_str) {
        if !manifests.iter().any(|manifest| has_key(manifest, key)) {
            problems.push(format!("stretch: no manifest has {key}"));
        }
    }
    if scope.pods.iter().collect::<BTreeSet<_>>().len() < scope.pods.len() {
        problems.push("two pods of one name".to_owned());
    }
    for (manifest, pod) in manifests.iter().zip(&scope.pods) {
        let volumes: Vec<&Value> = list(&manifest["spec"]["volumes"]).iter().map(|v| &v["name"]).collect();
        for (of, container) in scope.containers().filter(|(of, _)| of.pod == *pod) {
            let unknown = list(&container["volumeMounts"]).iter().filter(|m| !volumes.contains(&&m["name"]));
            problems.extend(unknown.map(|m| format!("{}: no volume {}", of.name, m["name"])));
            problems.extend(act_problems(container).iter().map(|p| format!("{}: {p}", of.name)));
        }
    }
    let needs: Vec<&str> = list(&data["needs"]).iter().filter_map(Value::as_str).collect();
    let uses_cgroup = list(&data["expect"]).iter().any(|e| e.as_str().is_some_and(|e| e.contains("cgroup(")));
    for (need, used) in [("api", scope.uses_one_of(&["api_delete", "cli", "restart"])), ("cgroup", uses_cgroup)] {
        if used && !needs.contains(&need) {
            problems.push(format!("needs: lacks {need}"));
        }
    }
    let waits: f64 = list(&data["steps"]).iter().filter_map(|s| s["wait"].as_f64()).sum();
    let max = data["max"].as_f64().unwrap_or_default();
    if waits >= max {
        problems.push(format!("max: {max} does not hold the waits of {waits} s"));
    }
    problems
}

fn step(word: &str, value: &Value, scope: &Scope) -> Result<Step, Vec<String>> {
    if value.is_null() && STEP_WORDS.contains(&word) {
        return Ok(plain_step(word, scope));
    }
    let Some((_, shape)) = STEP_MAPS.iter().find(|(name, _)| *name == word) else {
        return Err(vec![format!("step {word} is not known")]);
    };
    let mut problems = shape.misfits(value, word);
    if problems.is_empty()
        && let Some(merge) = value.get("merge")
    {
        let shape = if value.get("container").is_some() { &CONTAINER } else { &POD };
        problems.extend(shape.misfits(merge, "edit.merge"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    map_step(word, value, scope).map_err(|e| vec![format!("{word}: {e}")])
}

fn plain_step(word: &str, scope: &Scope) -> Step {
    match word {
        "start" => Step::Start { pod: None, file: None, form: Form::Yaml, by: Way::Write },
        "delete" => Step::Delete(scope.pods[0].clone()),
        "restore" => Step::Restore,
        "touch" => Step::Touch,
        "rewrite" => Step::Rewrite,
        "clear_dir" => Step::ClearDir,
        "hide_dir" => Step::HideDir,
        "show_dir" => Step::ShowDir,
        "make_dir" => Step::MakeDir,
        "agent_kill" => Step::AgentKill,
        "agent_stop" => Step::AgentStop,
        "agent_start" => Step::AgentStart,
        "lose_sandbox" => Step::LoseSandbox,
        "reboot" => Step::Reboot,
        _ => Step::Restart,
    }
}

fn map_step(word: &str, value: &Value, scope: &Scope) -> Result<Step, String> {
    let of = |key: &str| text(&value[key]);
    let whole = text(value).unwrap_or_default();
    let pod = |name: String| scope.pod(&name).ok_or_else(|| format!("no pod {name:?}"));
    let by = match value["by"].as_str() {
        Some("move") => Way::Move,
        Some("slow") => Way::Slow,
        Some("symlink") => Way::Symlink,
        _ => Way::Write,
    };
    let needed = |key: &str| of(key).ok_or_else(|| format!("lacks {key}"));
    Ok(match word {
        "start" => Step::Start {
            pod: of("pod").map(pod).transpose()?,
            file: of("file"),
            form: match value["form"].as_str() {
                Some("json") => Form::Json,
                Some("list") => Form::List,
                _ => Form::Yaml,
            },
            by,
        },
        "edit" => {
            let pod = pod(of("pod").unwrap_or_else(|| scope.pods[0].clone()))?;
            if let Some(name) = of("container") {
                let named = ContainerRef { pod: pod.clone(), name };
                scope.container(&named).ok_or_else(|| format!("no container {:?}", named.name))?;
            }
            let merge = value.get("merge").cloned();
            Step::Edit {
                pod,
                container: of("container"),
                merge,
                comment: of("comment"),
                json: of("form").is_some(),
                raw: of("raw"),
                by,
            }
        }
        "delete" => Step::Delete(pod(whole)?),
        "wait" => Step::Wait(value.as_f64().unwrap_or_default()),
        "until" => {
            let parsed = grammar::until(&whole, scope).map_err(|e| format!("{whole:?}: {e}"))?;
            Step::Until(whole, parsed)
        }
        "rename" => Step::Rename(whole),
        "copy" => Step::Copy(whole),
        "mkfifo" => Step::Mkfifo(whole),
        "remove" => Step::Remove(whole),
        "write" => Step::WriteFile { file: needed("file")?, raw: needed("raw")? },
        "symlink" => Step::Symlink { file: needed("file")?, to: needed("to")? },
        "signal" => {
            Step::Signal { container: grammar::container(&needed("container")?, scope)?, signal: needed("signal")? }
        }
        "api_delete" => Step::ApiDelete { grace: value["grace"].as_i64().ok_or("lacks grace")? },
        _ => {
            let matches = of("matches");
            if let Some(pattern) = &matches {
                regex::Regex::new(pattern).map_err(|e| format!("matches: {e}"))?;
            }
            let args = list(&value["args"]).iter().filter_map(text).collect();
            Step::Cli { args, rc: value["rc"].as_i64().unwrap_or(0), matches }
        }
    })
}
