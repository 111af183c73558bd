//! Which file has what a path names.

use std::collections::BTreeMap;
use std::path::Path;

use crate::modules::{Module, Names};

/// How many imports in a row a name is followed through.
const MOST_STEPS: usize = 32;

/// The file that defines what `path`, written in the module `of`, names: imports and re-exports are followed to the definition. `None`:
/// it is another crate's, of the language, or local to a function; or it names a module, which is used only where something in it is.
pub(crate) fn file_of<'a>(modules: &'a BTreeMap<Names, Module>, of: &Names, path: &[String]) -> Option<&'a Path> {
    match find(modules, of, path, MOST_STEPS) {
        Found::Item(file) => Some(file),
        Found::Module(_) | Found::Nothing => None,
    }
}

enum Found<'a> {
    Module(Names),
    Item(&'a Path),
    Nothing,
}

fn find<'a>(modules: &'a BTreeMap<Names, Module>, of: &Names, path: &[String], steps: usize) -> Found<'a> {
    let Some(steps) = steps.checked_sub(1) else { return Found::Nothing };
    let (mut at, mut rest) = (of.clone(), path);
    let mut anchored = false;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "crate" => at = Names::new(),
            "super" => {
                if at.pop().is_none() {
                    return Found::Nothing;
                }
            }
            "self" => {}
            _ => break,
        }
        (anchored, rest) = (true, after);
    }
    within(modules, at, rest, steps, anchored)
}

/// What `rest` names in the module `at`. Unless it is `anchored` there it may as well be another crate's.
fn within<'a>(
    modules: &'a BTreeMap<Names, Module>,
    at: Names,
    rest: &[String],
    steps: usize,
    anchored: bool,
) -> Found<'a> {
    let Some(module) = modules.get(&at) else { return Found::Nothing };
    let Some((first, after)) = rest.split_first() else { return Found::Module(at) };
    if module.children.contains(first) {
        let child = [at.as_slice(), std::slice::from_ref(first)].concat();
        return within(modules, child, after, steps, true);
    }
    if module.items.contains(first) {
        return Found::Item(&module.file);
    }
    let named = module.imports.iter().find(|import| import.name.as_ref() == Some(first) && import.path != rest);
    if let Some(import) = named {
        return match find(modules, &at, &import.path, steps) {
            Found::Module(names) => within(modules, names, after, steps, true),
            found => found,
        };
    }
    for glob in module.imports.iter().filter(|import| import.name.is_none()) {
        let Found::Module(names) = find(modules, &at, &glob.path, steps) else { continue };
        if names != at
            && let Found::Item(file) = within(modules, names, rest, steps.saturating_sub(1), false)
        {
            return Found::Item(file);
        }
    }
    // Made by a macro, perhaps.
    if anchored { Found::Item(&module.file) } else { Found::Nothing }
}
