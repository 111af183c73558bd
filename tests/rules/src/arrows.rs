//! Which file of a crate uses which.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::modules::{Module, Names};
use crate::resolve::file_of;

/// By file: the files that it uses, each with a name that it uses of it.
pub(crate) type Arrows = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

/// Of all modules.
pub(crate) fn between(modules: &BTreeMap<Names, Module>) -> Arrows {
    let mut arrows = Arrows::new();
    for (names, module) in modules {
        let uses = arrows.entry(module.file.clone()).or_default();
        for path in &module.mentioned {
            if let Some(file) = file_of(modules, names, path).filter(|file| **file != module.file) {
                uses.entry(file.to_owned()).or_insert_with(|| path.join("::"));
            }
        }
    }
    arrows
}
