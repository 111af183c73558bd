//! Where a container's cgroup is: `linux.cgroupsPath`, for either driver.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Spec};

use super::namespaces::is_plain;
use super::{Context, PlanError, Result};
use crate::systemd::{Property, check_annotations};

const FIELD: &str = "linux.cgroupsPath";

/// Longest path in bytes: with the mount's and a file's name it has to be a path that the kernel takes.
const MAX_LENGTH: usize = 3500;

/// The slice where the configuration names none, as runc and crun have it.
const DEFAULT_SLICE: &str = "system.slice";

/// The container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Below the cgroup v2 mount, relative. With a unit, where systemd is expected to put it.
    pub path: PathBuf,
    /// The scope that systemd makes it by.
    pub unit: Option<Unit>,
}

/// A transient unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, which ends in `.scope`.
    pub name: String,
    /// The slice that it is in.
    pub slice: String,
    /// The container's id.
    pub container: String,
    /// What the configuration's annotations say of it.
    pub(crate) properties: Vec<Property>,
}

pub(super) fn of(spec: &Spec, linux: &Linux, context: &Context<'_>) -> Result<Place> {
    let path = linux.cgroups_path().as_deref().filter(|path| !path.as_os_str().is_empty());
    if context.systemd {
        let mut place = scope(path, context.id)?;
        if let (Some(unit), Some(annotations)) = (&mut place.unit, spec.annotations()) {
            unit.properties = check_annotations(annotations)?;
        }
        return Ok(place);
    }
    path.map_or_else(|| Ok(context.id.into()), directory).map(|path| Place { path, unit: None })
}

fn problem(path: &Path, text: &str) -> PlanError {
    PlanError::new(FIELD, format!("{}: {text}", path.display()))
}

/// Relative paths of the configuration start at the v2 mount too.
fn directory(path: &Path) -> Result<PathBuf> {
    if path.to_string_lossy().matches(':').count() == 2 {
        return Err(problem(
            path,
            "looks like slice:prefix:name, which takes --systemd-cgroup; without it, give a path",
        ));
    }
    if path.as_os_str().len() > MAX_LENGTH {
        let problem = format!("has {} bytes, at most {MAX_LENGTH} are accepted", path.as_os_str().len());
        return Err(PlanError::new(FIELD, problem));
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() || !is_plain(relative) {
        return Err(problem(path, "has to name a cgroup below the cgroup v2 mount, without . or .."));
    }
    Ok(relative.to_owned())
}

/// `slice:prefix:name` stands for the scope `prefix-name.scope` in the slice.
fn scope(path: Option<&Path>, id: &str) -> Result<Place> {
    let text = path.map(Path::to_string_lossy).unwrap_or_default();
    let parts: Vec<&str> = if text.is_empty() { vec!["", "podwright", id] } else { text.split(':').collect() };
    let shown = Path::new(text.as_ref());
    let &[slice, prefix, name] = &parts[..] else {
        return Err(problem(shown, "with --systemd-cgroup slice:prefix:name is accepted"));
    };
    let slice = if slice.is_empty() { DEFAULT_SLICE } else { slice };
    let stem = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.is_empty() || name.ends_with(".slice") || !stem.chars().all(valid) {
        return Err(problem(shown, "its name has to be one of a scope: letters, digits and - _ . @ are accepted"));
    }
    let name = format!("{stem}.scope");
    let path = expand(slice).ok_or_else(|| problem(shown, "begins with a slice such as user-app.slice"))?.join(&name);
    let unit = Unit { name, slice: slice.to_owned(), container: id.to_owned(), properties: Vec::new() };
    Ok(Place { path, unit: Some(unit) })
}

/// The path of a slice: a dash in its name is a step down (systemd.slice(5)).
fn expand(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice").filter(|stem| !stem.contains('/'))?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    let (mut path, mut name) = (PathBuf::new(), String::new());
    for part in stem.split('-') {
        if part.is_empty() {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path.push(format!("{name}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_mount() {
        let directory = |path: &str| directory(Path::new(path));
        assert_eq!(directory("/a/b").unwrap(), Path::new("a/b"));
        assert_eq!(directory("a").unwrap(), Path::new("a"));
        for bad in ["/", "/a/../b", "..", "system.slice:podwright:c1", &"/a".repeat(2000)] {
            assert_eq!(directory(bad).unwrap_err().field, FIELD, "{bad}");
        }
    }

    #[test]
    fn scopes_are_in_their_slices() {
        let of = |text: &str| scope(Some(Path::new(text)), "c1").map(|place| (place.path, place.unit.unwrap().name));
        for (text, path, name) in [
            ("", "system.slice/podwright-c1.scope", "podwright-c1.scope"),
            ("a-b.slice:cri:x1", "a.slice/a-b.slice/cri-x1.scope", "cri-x1.scope"),
            (":libpod:x1", "system.slice/libpod-x1.scope", "libpod-x1.scope"),
            ("-.slice::x1", "x1.scope", "x1.scope"),
        ] {
            assert_eq!(of(text).unwrap(), (path.into(), name.to_owned()), "{text}");
        }
        for bad in [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "a.slice:b:",
            "a:b:c",
            "a--b.slice:b:c",
            "/x/a.slice:b:c",
            "a.slice:b:c/d",
            "a.slice:b:c.slice",
        ] {
            assert_eq!(of(bad).unwrap_err().field, FIELD, "{bad}");
        }
    }
}
