//! Volumes and where containers mount them.

use std::collections::HashMap;

use super::super::names;
use super::super::problem::{At, Problems};
use super::super::quantity::Quantity;
use super::super::quote::shown;
use super::super::suggest::nearest;
use super::fields::named;
use crate::pod::spec::{HostPathType, Volume, VolumeMount, VolumeSource};

/// `spec.volumes`.
pub(super) fn volumes(spec: &At<'_>, problems: &mut Problems) -> Vec<Volume> {
    let mut seen = HashMap::new();
    let mut made = Vec::new();
    for at in spec.items("volumes") {
        let name = named(&at, "name", names::label, problems);
        if let Some(other) = seen.insert(name.clone(), at.path.clone()) {
            problems.at(&at, format!("{} is the name of {other} already; names are unique in a pod", shown(&name)));
        }
        if let Some(source) = source(&at, problems) {
            made.push(Volume { name, source });
        }
    }
    made
}

fn source(at: &At<'_>, problems: &mut Problems) -> Option<VolumeSource> {
    let kinds: Vec<&str> =
        at.fields().map(|(key, _)| key).filter(|key| *key != "name" && at.get(key).is_some()).collect();
    if kinds.is_empty() {
        // As in Kubernetes, which takes a volume without a source for an emptyDir only in old clients.
        problems.at(at, "no kind of volume; accepted: emptyDir: {}, hostPath: {path: PATH}");
    }
    if let [first, second, ..] = kinds[..] {
        problems.at(at, format!("found {first} and {second}, accepted: one kind of volume"));
    }
    if let Some(empty) = at.get("emptyDir") {
        let memory = empty.str("medium") == Some("Memory");
        return Some(VolumeSource::EmptyDir { memory, size_limit: bytes(&empty, "sizeLimit", problems) });
    }
    let host = at.get("hostPath")?;
    let path = host.str("path").unwrap_or_default().to_owned();
    if let Some(field) = host.get("path") {
        if !path.starts_with('/') {
            problems.at(&field, format!("found {}, accepted: an absolute path", shown(&path)));
        } else if has_dot_dot(&path) {
            problems.at(&field, format!("found {}, accepted: a path without ..", shown(&path)));
        }
    }
    Some(VolumeSource::HostPath { path, kind: host_path_type(host.str("type").unwrap_or_default()) })
}

fn host_path_type(word: &str) -> HostPathType {
    match word {
        "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
        "Directory" => HostPathType::Directory,
        "FileOrCreate" => HostPathType::FileOrCreate,
        "File" => HostPathType::File,
        "Socket" => HostPathType::Socket,
        "CharDevice" => HostPathType::CharDevice,
        "BlockDevice" => HostPathType::BlockDevice,
        _ => HostPathType::Unset,
    }
}

/// A quantity in bytes.
pub(super) fn bytes(at: &At<'_>, key: &str, problems: &mut Problems) -> Option<u64> {
    amount(at, key, problems, |quantity| quantity.units())
}

/// A quantity, in the unit that `unit` chooses.
pub(super) fn amount<E: std::fmt::Display + From<super::super::quantity::QuantityError>>(
    at: &At<'_>,
    key: &str,
    problems: &mut Problems,
    unit: impl Fn(Quantity) -> Result<u64, E>,
) -> Option<u64> {
    let field = at.get(key)?;
    let text = field.node.as_quantity()?;
    match Quantity::parse(&text).map_err(E::from).and_then(unit) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.at(&field, format!("found {}, {error}", field.node.describe()));
            None
        }
    }
}

/// `volumeMounts` of a container.
pub(super) fn mounts(container: &At<'_>, volumes: &[&str], problems: &mut Problems) -> Vec<VolumeMount> {
    let mut seen: HashMap<String, String> = HashMap::new();
    container.items("volumeMounts").iter().map(|at| mount(at, volumes, &mut seen, problems)).collect()
}

fn mount(at: &At<'_>, volumes: &[&str], seen: &mut HashMap<String, String>, problems: &mut Problems) -> VolumeMount {
    let name = at.str("name").unwrap_or_default();
    if let Some(field) = at.get("name").filter(|_| !volumes.contains(&name)) {
        let hint = match nearest(name, volumes.iter().copied()) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None if volumes.is_empty() => "; spec.volumes has none".to_owned(),
            None => format!("; accepted: {}", volumes.join(", ")),
        };
        problems.at(&field, format!("no volume is named {}{hint}", shown(name)));
    }
    let path = at.str("mountPath").unwrap_or_default().to_owned();
    if let Some(field) = at.get("mountPath") {
        let plain = path.trim_end_matches('/').to_owned();
        if !path.starts_with('/') || plain.is_empty() || path.contains(':') || has_dot_dot(&path) {
            let accepted = "an absolute path other than / and without : and ..";
            problems.at(&field, format!("found {}, accepted: {accepted}", shown(&path)));
        } else if let Some(other) = seen.insert(plain, at.path.clone()) {
            problems.at(&field, format!("{} is the path of {other} already; paths are unique", shown(&path)));
        }
    }
    let sub_path = at.str("subPath").filter(|s| !s.is_empty()).map(str::to_owned);
    if let (Some(field), Some(text)) = (at.get("subPath"), &sub_path)
        && (text.starts_with('/') || has_dot_dot(text))
    {
        problems.at(&field, format!("found {}, accepted: a relative path without ..", shown(text)));
    }
    VolumeMount { name: name.to_owned(), path, read_only: at.bool("readOnly").unwrap_or(false), sub_path }
}

fn has_dot_dot(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}
