//! No dependency needs a newer Rust than the workspace says that it does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Fewer would mean that something else was looked at.
const LEAST_PACKAGES: usize = 50;

/// Every package of the workspace's tree whose `rust-version` is newer than ours, and those of ours that have another one.
pub(crate) fn check(repository: &Path) -> anyhow::Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.current_dir(repository).output().context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading what cargo metadata says")?;
    let resolved = list(&metadata["resolve"]["nodes"]).iter().filter_map(|node| node["id"].as_str()).count();
    ensure!(resolved >= LEAST_PACKAGES, "only {resolved} packages were found");
    problems(&metadata)
}

fn problems(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let in_tree: Vec<&str> =
        list(&metadata["resolve"]["nodes"]).iter().filter_map(|node| node["id"].as_str()).collect();
    let members: Vec<&str> = list(&metadata["workspace_members"]).iter().filter_map(Value::as_str).collect();
    let packages: Vec<Package<'_>> = list(&metadata["packages"])
        .iter()
        .filter_map(|package| {
            let id = package["id"].as_str().filter(|id| in_tree.contains(id))?;
            let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
            Some(Package { name, version, needs: package["rust_version"].as_str(), ours: members.contains(&id) })
        })
        .collect();
    let ours: Vec<&str> = packages.iter().filter(|package| package.ours).filter_map(|package| package.needs).collect();
    let Some(own) = ours.first().and_then(|text| number(text)) else { bail!("no package of ours has a rust-version") };
    let mut problems = Vec::new();
    for Package { name, version, needs, ours } in packages {
        match needs.map(number) {
            None if ours => problems.push(format!("{name} has no rust-version: take the workspace's")),
            Some(None) => problems.push(format!("{name} {version}: its rust-version is no version: {needs:?}")),
            Some(Some(found)) if ours && found != own => {
                problems.push(format!("{name} has another rust-version than the rest of the workspace: {needs:?}"));
            }
            Some(Some(found)) if found > own => {
                let needs = needs.unwrap_or_default();
                problems.push(format!("{name} {version} needs Rust {needs}, the workspace says {}.{}", own.0, own.1));
            }
            _ => {}
        }
    }
    Ok(problems)
}

struct Package<'a> {
    name: &'a str,
    version: &'a str,
    needs: Option<&'a str>,
    ours: bool,
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `1.91` or `1.91.2`.
fn number(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(ours: &[Option<&str>], dependency: Option<&str>) -> Vec<String> {
        let package =
            |id: String, needs: Option<&str>| json!({"id": id, "name": id, "version": "1.0.0", "rust_version": needs});
        let mut packages: Vec<Value> =
            ours.iter().enumerate().map(|(i, needs)| package(format!("own{i}"), *needs)).collect();
        packages.push(package("dependency".to_owned(), dependency));
        // Not in the tree: an optional one.
        packages.push(package("other".to_owned(), Some("99.0")));
        let ids = |n: usize| packages.iter().take(n).map(|p| p["id"].clone()).collect::<Vec<_>>();
        let nodes: Vec<Value> = ids(ours.len() + 1).into_iter().map(|id| json!({"id": id})).collect();
        problems(&json!({"packages": packages, "workspace_members": ids(ours.len()), "resolve": {"nodes": nodes}}))
            .unwrap()
    }

    #[test]
    fn a_dependency_that_needs_more_is_found_and_one_that_does_not_is_not() {
        let ours = [Some("1.91"), Some("1.91")];
        for fine in [None, Some("1.91"), Some("1.91.0"), Some("1.9"), Some("1.56")] {
            assert_eq!(found(&ours, fine), Vec::<String>::new(), "{fine:?}");
        }
        for newer in ["1.92", "1.91.1", "2.0"] {
            assert_eq!(found(&ours, Some(newer)).len(), 1, "{newer}");
        }
        assert!(found(&ours, Some("1.92"))[0].contains("dependency 1.0.0 needs Rust 1.92, the workspace says 1.91"));
        assert_eq!(found(&ours, Some("x.y")).len(), 1);
    }

    #[test]
    fn members_have_one_version() {
        assert_eq!(found(&[Some("1.91"), Some("1.90")], None).len(), 1);
        assert_eq!(found(&[Some("1.91"), None], None).len(), 1);
    }
}
