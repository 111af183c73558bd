//! Circles: files of a crate of which each uses the next, directly or by others, until the first one again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::arrows::{Arrows, between};
use crate::modules;

/// Files that are in a circle still, one a line. It only shrinks.
const KNOWN: &str = "tests/rules/circles";

/// Fewer crates would mean that something else was looked at.
const LEAST_CRATES: usize = 5;

/// Every file in a circle that is not known for it, and every known one that is in none any more.
pub(crate) fn check(repository: &Path) -> anyhow::Result<Vec<String>> {
    let known_file = repository.join(KNOWN);
    let text = fs::read_to_string(&known_file).with_context(|| format!("reading {}", known_file.display()))?;
    let known: BTreeSet<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (mut found, mut problems) = (BTreeSet::new(), Vec::new());
    for circle in of_repository(repository)? {
        let names: Vec<String> = circle.files.iter().map(|file| file.display().to_string()).collect();
        if names.iter().any(|name| !known.contains(name.as_str())) {
            problems.push(format!("circle of {} files: {}", names.len(), names.join(", ")));
            problems.extend(circle.arrows.iter().map(|arrow| format!("  {arrow}")));
        }
        found.extend(names);
    }
    let gone = known.iter().filter(|name| !found.contains(**name));
    problems.extend(gone.map(|name| format!("{name} is in no circle any more: take it out of {KNOWN}")));
    Ok(problems)
}

/// One circle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    /// From the repository's root.
    pub(crate) files: Vec<PathBuf>,
    /// `FILE -> FILE (NAME)`, the ones within it.
    pub(crate) arrows: Vec<String>,
}

fn of_repository(repository: &Path) -> anyhow::Result<Vec<Circle>> {
    let (mut circles, mut crates) = (Vec::new(), 0);
    for group in ["crates", "tests"] {
        let directory = repository.join(group);
        let entries = fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        names.sort();
        for name in names.iter().filter(|name| name.join("Cargo.toml").exists()) {
            crates += 1;
            let prefix = name.strip_prefix(repository)?;
            for root in ["src/lib.rs", "src/main.rs"].map(Path::new) {
                if name.join(root).exists() {
                    circles.extend(of_arrows(&between(&modules::read(name, root)?), prefix));
                }
            }
        }
    }
    ensure!(crates >= LEAST_CRATES, "only {crates} crates were found in {}", repository.display());
    Ok(circles)
}

/// The strongly connected components of more than one file.
pub(crate) fn of_arrows(arrows: &Arrows, prefix: &Path) -> Vec<Circle> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        arrows.keys().map(|file| (file, reachable(arrows, file))).collect();
    let mut done: BTreeSet<&PathBuf> = BTreeSet::new();
    let mut circles = Vec::new();
    for (file, to) in &reached {
        if done.contains(file) || !to.contains(file) {
            continue;
        }
        let members: Vec<&PathBuf> =
            to.iter().copied().filter(|other| reached.get(other).is_some_and(|back| back.contains(file))).collect();
        done.extend(&members);
        let show = |file: &Path| prefix.join(file).display().to_string();
        let within = members.iter().flat_map(|from| arrows.get(*from).into_iter().flatten().map(move |to| (from, to)));
        let within = within.filter(|(_, (to, _))| members.contains(to));
        circles.push(Circle {
            files: members.iter().map(|file| prefix.join(file)).collect(),
            arrows: within.map(|(from, (to, name))| format!("{} -> {} ({name})", show(from), show(to))).collect(),
        });
    }
    circles
}

/// The files that one gets to, itself only on a way back.
fn reachable<'a>(arrows: &'a Arrows, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&PathBuf> = arrows.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(arrows.get(file).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}
