//! Reads config.json and files with a `process`: text that anyone may have written, to the specification's types. What does not
//! fit is told by its path, such as `linux.resources.memory.limit`.

mod strict;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use oci_spec::runtime::{Capability, LinuxResources, Process, Spec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::{Map, Value};

use strict::Strict;

/// Largest file that is read, in bytes. Real ones have some ten thousand.
pub const MAX_SIZE: u64 = 16 << 20;

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot be read")]
    Read(#[from] io::Error),
    /// What is there is a directory, a pipe or a device.
    #[error("is {0}; a regular file is accepted")]
    NotAFile(&'static str),
    /// It is too long.
    #[error("is longer than {} MiB", MAX_SIZE >> 20)]
    TooLong,
    /// It is no JSON.
    #[error("is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// A part of it is not what the specification says.
    #[error("{field}: {problem}")]
    Field {
        /// Its path, such as `mounts[0].destination`.
        field: String,
        /// What was found, and what is accepted instead.
        problem: String,
    },
}

impl ConfigError {
    /// Without line and column, which are those of another text than the file's.
    fn without_place(mut self) -> ConfigError {
        if let ConfigError::Field { problem, .. } = &mut self
            && let Some(end) = problem.rfind(" at line ")
        {
            problem.truncate(end);
        }
        self
    }
}

/// What can be read: oci-spec's types, and what is wrong with them.
pub trait Document: DeserializeOwned {
    /// Takes back what the type says and the text does not.
    fn correct(&mut self, text: &[u8]);

    /// The process in a text of this type.
    fn process(top: &mut Map<String, Value>) -> Option<&mut Map<String, Value>>;
}

impl Document for Spec {
    fn correct(&mut self, text: &[u8]) {
        #[derive(Deserialize)]
        struct Top {
            linux: Option<Linux>,
        }
        #[derive(Deserialize)]
        struct Linux {
            resources: Option<Limits>,
        }
        if let Some(resources) = self.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut()) {
            forget_missing_limit(resources, || serde_json::from_slice::<Top>(text).ok()?.linux?.resources);
        }
    }

    fn process(top: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
        top.get_mut("process")?.as_object_mut()
    }
}

impl Document for LinuxResources {
    fn correct(&mut self, text: &[u8]) {
        forget_missing_limit(self, || serde_json::from_slice(text).ok());
    }

    fn process(_top: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
        None
    }
}

impl Document for Process {
    fn correct(&mut self, _text: &[u8]) {}

    fn process(top: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
        Some(top)
    }
}

/// `linux.resources`, as far as it tells whether there is a limit of tasks.
#[derive(Deserialize)]
struct Limits {
    pids: Option<Tasks>,
}

#[derive(Deserialize)]
struct Tasks {
    limit: Option<i64>,
}

/// Where `pids.limit` is missing, oci-spec 0.10 says 0, which is a limit (runtime-spec 1.3, config-linux.md, "PIDs"). Without one
/// `pids` says nothing, and goes.
fn forget_missing_limit(resources: &mut LinuxResources, given: impl FnOnce() -> Option<Limits>) {
    let is_zero = resources.pids().is_some_and(|pids| pids.limit() == 0);
    if is_zero && given().and_then(|limits| limits.pids).is_some_and(|tasks| tasks.limit.is_none()) {
        resources.set_pids(None);
    }
}

/// The text of a file.
///
/// # Errors
/// `Read` and `NotAFile` of [`ConfigError`].
pub(crate) fn text(path: &Path) -> Result<Vec<u8>, ConfigError> {
    // Opening a pipe must not wait for its other end.
    let file = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if let Some(kind) = irregular(&file)? {
        return Err(ConfigError::NotAFile(kind));
    }
    let mut text = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn irregular(file: &File) -> io::Result<Option<&'static str>> {
    let kind = file.metadata()?.file_type();
    Ok(match kind {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some("a directory"),
        kind if kind.is_fifo() => Some("a pipe"),
        _ => Some("a device"),
    })
}

/// Understands a configuration.
///
/// # Errors
/// [`ConfigError`] but for `Read` and `NotAFile`.
pub fn parse<T: Document>(text: &[u8]) -> Result<T, ConfigError> {
    understand(text).map(|(parsed, _)| parsed)
}

/// As [`parse`]. Also gives the capabilities that the text names and nobody knows, which are left out (runtime-spec, config.md,
/// "Linux Process": they are worth a warning, not an error).
///
/// # Errors
/// As [`parse`].
pub(crate) fn understand<T: Document>(text: &[u8]) -> Result<(T, Vec<String>), ConfigError> {
    if text.len() as u64 > MAX_SIZE {
        return Err(ConfigError::TooLong);
    }
    let mut parsed = match from_slice::<T>(text) {
        Ok(parsed) => (parsed, Vec::new()),
        Err(err) => mended(text).unwrap_or_else(|| Err(explain::<T>(text, err)))?,
    };
    if let Some(field) = nul_byte(text) {
        return Err(ConfigError::Field { field, problem: "holds a NUL byte".into() });
    }
    if is_for_freebsd(text) {
        return Err(ConfigError::Field { field: "freebsd".into(), problem: FOREIGN.into() });
    }
    parsed.0.correct(text);
    Ok(parsed)
}

/// What is wrong with a section of the configuration that is not about Linux.
pub(crate) const FOREIGN: &str = "is for another platform; this runtime makes Linux containers";

/// Whether there is a section that runtime-spec 1.3 has and oci-spec 0.10 does not know.
fn is_for_freebsd(text: &[u8]) -> bool {
    const KEY: &[u8] = b"\"freebsd\"";
    text.windows(KEY.len()).any(|window| window == KEY)
        && serde_json::from_slice::<Value>(text).is_ok_and(|value| !value["freebsd"].is_null())
}

/// As serde_json has it, but strictly.
pub(crate) fn from_slice<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let parsed = T::deserialize(Strict(&mut reader))?;
    reader.end()?;
    Ok(parsed)
}

/// Understands what the types of oci-spec do not take and the specification allows: other spellings, unknown capabilities, and a process
/// without a `user`, which is root's with runc and crun. `None`: there is none of that.
fn mended<T: Document>(text: &[u8]) -> Option<Result<(T, Vec<String>), ConfigError>> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    let process = T::process(value.as_object_mut()?)?;
    let respelled = respell_flags(process.get_mut("scheduler"));
    let unknown = without_unknown(process.get_mut("capabilities"));
    let nobodys = !process.contains_key("user");
    if !respelled && unknown.is_empty() && !nobodys {
        return None;
    }
    if nobodys {
        process.insert("user".into(), Map::new().into());
    }
    // A value has each key once, whatever the text has.
    let parsed = from_slice::<Value>(text).map_err(|err| explain::<Value>(text, err)).and_then(|_| {
        let mended = value.to_string();
        from_slice(mended.as_bytes()).map_err(|err| explain::<T>(mended.as_bytes(), err).without_place())
    });
    Some(parsed.map(|parsed| (parsed, unknown)))
}

/// Two flags of `scheduler` that oci-spec 0.10 spells otherwise than the specification. Whether there was one.
fn respell_flags(scheduler: Option<&mut Value>) -> bool {
    const SPELLINGS: [(&str, &str); 2] =
        [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];
    let flags = scheduler.and_then(|scheduler| scheduler.get_mut("flags")?.as_array_mut());
    let mut found = false;
    for flag in flags.into_iter().flatten() {
        if let Some((_, theirs)) = SPELLINGS.iter().find(|(ours, _)| flag.as_str() == Some(ours)) {
            *flag = (*theirs).into();
            found = true;
        }
    }
    found
}

/// Takes names that are no capability's out of the sets, and gives each of them once.
fn without_unknown(capabilities: Option<&mut Value>) -> Vec<String> {
    let mut unknown = BTreeSet::new();
    let sets = capabilities.and_then(Value::as_object_mut).into_iter().flat_map(|sets| sets.values_mut());
    for set in sets.filter_map(Value::as_array_mut) {
        set.retain(|name| match name.as_str() {
            Some(text) if Capability::deserialize(name).is_err() => {
                unknown.insert(text.to_owned());
                false
            }
            _ => true,
        });
    }
    unknown.into_iter().collect()
}

/// Reads it again to find out where it goes wrong: keeping track of the path would cost every good configuration something.
fn explain<T: DeserializeOwned>(text: &[u8], error: serde_json::Error) -> ConfigError {
    if error.classify() != Category::Data {
        return ConfigError::Syntax(error);
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = serde_path_to_error::deserialize::<_, T>(Strict(&mut reader));
    let Err(error) = read else { return ConfigError::Syntax(error) };
    let path = error.path().to_string();
    // A key is not part of the path before it is taken.
    let path = path.strip_suffix(".?").unwrap_or(&path);
    let problem = error.into_inner().to_string();
    // serde names the missing one in its text only.
    let (name, problem) = match problem.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        Some((name, place)) => (name.to_owned(), format!("is missing{place}")),
        None => (String::new(), problem),
    };
    let field = match (path, name.as_str()) {
        (".", "") => "the top level".to_owned(),
        (".", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    };
    ConfigError::Field { field, problem }
}

/// The first string with a NUL byte, which no system call takes. Annotations go to nobody but readers of the state.
fn nul_byte(text: &[u8]) -> Option<String> {
    // JSON can only write it like this; nearly no text has it.
    const ESCAPE: &[u8] = b"\\u0000";
    text.windows(ESCAPE.len()).any(|window| window == ESCAPE).then_some(())?;
    let value: Value = serde_json::from_slice(text).ok()?;
    let top = value.as_object()?.iter().filter(|(key, _)| *key != "annotations");
    top.into_iter().find_map(|(key, value)| nul_in(key, value, String::new()))
}

fn nul_in(key: &str, value: &Value, parent: String) -> Option<String> {
    let path = if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
    let place = || if parent.is_empty() { "the top level".to_owned() } else { parent.clone() };
    if key.contains('\0') {
        return Some(place());
    }
    let found = nul_below(value, path)?;
    // Below a key without a name, the nearest place that has one.
    Some(if key.is_empty() { place() } else { found })
}

fn nul_below(value: &Value, path: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then_some(path),
        Value::Array(list) => {
            list.iter().enumerate().find_map(|(index, item)| nul_below(item, format!("{path}[{index}]")))
        }
        Value::Object(map) => map.iter().find_map(|(key, value)| nul_in(key, value, path.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        podwright_sys::error::chain(&parse::<Spec>(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn problems_have_a_path() {
        for (text, expected) in [
            (
                r#"{"ociVersion": "1.2.0", "linux": {"resources": {"memory": {"limit": "1G"}}}}"#,
                "linux.resources.memory.limit: invalid type: string \"1G\", expected i64 at line 1 column 72",
            ),
            (r#"{"ociVersion": "1.2.0", "mounts": [{"source": "x"}]}"#, "mounts[0].destination: is missing at line 1"),
            (r#"{"ociVersion": 1}"#, "ociVersion: invalid type: integer `1`, expected a string at line 1"),
            ("[]", "the top level: invalid type: sequence"),
            ("{\"ociVersion\": ", "is not JSON: EOF while parsing"),
            (r#"{"ociVersion": "1.2.0", "hostname": "a\u0000b"}"#, "hostname: holds a NUL byte"),
            (r#"{"ociVersion": "1.2.0", "": {"args": ["\u0000"]}}"#, "the top level: holds a NUL byte"),
            (
                r#"{"ociVersion": "1.2.0", "annotations": {"a": "", "a": ""}}"#,
                "annotations: \"a\" is there twice at line 1",
            ),
            (
                r#"{"ociVersion": "1.2.0", "process": {"cwd": "/", "user": {}, "args": ["a", "\u0000"]}}"#,
                "process.args[1]: holds",
            ),
        ] {
            assert!(problem(text).starts_with(expected), "{text}: {}", problem(text));
        }
    }

    #[test]
    fn unknown_capabilities_are_left_out_and_named() {
        let spec = r#"{"ociVersion": "1.3.0", "process": {"cwd": "/", "user": {}, "capabilities":
            {"bounding": ["CAP_NEW", "CAP_KILL"], "permitted": ["CAP_NEW", "CAP_NEWER"], "ambient": ["CAP_CHOWN"]}}}"#;
        let (parsed, unknown) = understand::<Spec>(spec.as_bytes()).unwrap();
        assert_eq!(unknown, ["CAP_NEW", "CAP_NEWER"]);
        let caps = parsed.process().clone().unwrap().capabilities().clone().unwrap();
        assert_eq!(caps.bounding().clone().unwrap().len(), 1);
        assert_eq!(caps.permitted().clone().unwrap().len(), 0);
        let number = spec.replace("\"CAP_NEWER\"", "7");
        assert!(
            understand::<Spec>(number.as_bytes()).is_err(),
            "what is no name at all is no capability that may come"
        );
    }

    #[test]
    fn a_process_without_a_user_is_roots_and_the_rest_is_looked_at_all_the_same() {
        let alone = parse::<Process>(br#"{"cwd": "/"}"#).unwrap();
        let spec = parse::<Spec>(br#"{"ociVersion": "1.2.0", "process": {"cwd": "/"}}"#).unwrap();
        assert_eq!((alone.user().uid(), spec.process().as_ref().unwrap().user().gid()), (0, 0));
        for (text, expected) in [
            (r#"{"ociVersion": "1.2.0", "process": {"args": ["a"]}}"#, "process.cwd: is missing"),
            (
                r#"{"ociVersion": "1.2.0", "process": {"cwd": "/"}, "hostname": 7}"#,
                "hostname: invalid type: integer `7`",
            ),
            (r#"{"ociVersion": "1.2.0", "process": {"cwd": "/", "cwd": "/x"}}"#, "process: \"cwd\" is there twice"),
            (
                r#"{"ociVersion": "1.2.0", "process": {"cwd": "/"}, "annotations": {"a": "", "a": ""}}"#,
                "annotations: \"a\" is there twice",
            ),
        ] {
            assert!(problem(text).starts_with(expected), "{text}: {}", problem(text));
        }
        let lines = "{\"ociVersion\": \"1.2.0\",\n\"process\": {\"cwd\": \"/\"},\n\"hostname\": 7}";
        assert!(!problem(lines).contains("line 1"), "{}", problem(lines));
    }

    #[test]
    fn no_limit_of_tasks_is_told_from_a_limit_of_none() {
        for (pids, expected) in
            [(r#"{"limit": 0}"#, Some(0)), ("{}", None), (r#"{"other": 0}"#, None), (r#"{"limit": -1}"#, Some(-1))]
        {
            let resources = format!(r#"{{"pids": {pids}, "memory": {{"limit": 5}}}}"#);
            let spec = format!(r#"{{"ociVersion": "1.3.0", "linux": {{"resources": {resources}}}}}"#);
            let mut alone: LinuxResources = serde_json::from_str(&resources).unwrap();
            alone.correct(resources.as_bytes());
            let spec: Spec = parse(spec.as_bytes()).unwrap();
            let within = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
            let limit = |resources: &LinuxResources| resources.pids().as_ref().map(|pids| pids.limit());
            assert_eq!((limit(&alone), limit(within)), (expected, expected), "{pids}");
        }
    }

    #[test]
    fn an_escaped_backslash_is_no_nul_byte() {
        let spec = r#"{"ociVersion": "1.2.0", "hostname": "a\\u0000", "annotations": {"x": "\u0000"}}"#;
        assert_eq!(parse::<Spec>(spec.as_bytes()).unwrap().hostname().as_deref(), Some("a\\u0000"));
    }

    #[test]
    fn only_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(text(dir.path()), Err(ConfigError::NotAFile("a directory"))));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(text(&pipe), Err(ConfigError::NotAFile("a pipe"))));
        assert!(matches!(text(Path::new("/dev/zero")), Err(ConfigError::NotAFile("a device"))));
        let long = dir.path().join("long");
        File::create(&long).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(matches!(parse::<Process>(&text(&long).unwrap()), Err(ConfigError::TooLong)));
        assert!(matches!(text(&dir.path().join("none")), Err(ConfigError::Read(_))));
    }
}
