//! The modules of a crate: which file has which, and what each declares.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree};

use crate::code::{Mentioned, paths_of_tokens};

/// A path of names from the root of the crate: `["worker", "records"]`.
pub(crate) type Names = Vec<String>;

/// One `use`, or what a `pub use` shows: the name here, and the path as written.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    /// `None`: a glob.
    pub(crate) name: Option<String>,
    pub(crate) path: Names,
}

/// A module, with the modules in it left out.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Its file, from the crate's directory.
    pub(crate) file: PathBuf,
    /// Names of the modules directly in it.
    pub(crate) children: Vec<String>,
    /// Names of the items that it defines.
    pub(crate) items: Vec<String>,
    pub(crate) imports: Vec<Import>,
    /// Every path in its code and its imports, as written.
    pub(crate) mentioned: Vec<Names>,
}

/// All modules that a root file leads to, by path. Code for tests is left out: a test may look at anything.
pub(crate) fn read(crate_directory: &Path, root: &Path) -> anyhow::Result<BTreeMap<Names, Module>> {
    let mut reader = Reader { crate_directory, modules: BTreeMap::new() };
    let directory = root.parent().unwrap_or(Path::new("")).to_owned();
    reader.file(Vec::new(), root, &directory)?;
    Ok(reader.modules)
}

struct Reader<'a> {
    crate_directory: &'a Path,
    modules: BTreeMap<Names, Module>,
}

impl Reader<'_> {
    /// The module in `file`; the files of those in it are in `directory`.
    fn file(&mut self, names: Names, file: &Path, directory: &Path) -> anyhow::Result<()> {
        let whole = self.crate_directory.join(file);
        let text = fs::read_to_string(&whole).with_context(|| format!("reading {}", whole.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("parsing {}", whole.display()))?;
        if is_for_tests(&parsed.attrs) {
            return Ok(());
        }
        self.items(names, file, directory, &parsed.items)
    }

    fn items(&mut self, names: Names, file: &Path, directory: &Path, items: &[Item]) -> anyhow::Result<()> {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        let mut inner: Vec<&ItemMod> = Vec::new();
        for item in items {
            if is_for_tests(attributes(item)) {
                continue;
            }
            match item {
                Item::Mod(found) => {
                    module.children.push(found.ident.to_string());
                    inner.push(found);
                }
                Item::Use(found) => imports(found, &mut module.imports),
                other => {
                    module.items.extend(name(other));
                    let mut code = Code::default();
                    code.visit_item(other);
                    module.mentioned.extend(code.mentioned);
                    module.imports.extend(code.imports);
                }
            }
        }
        let used = module.imports.iter().map(|import| import.path.clone()).collect::<Vec<_>>();
        module.mentioned.extend(used);
        self.modules.insert(names.clone(), module);
        for found in inner {
            self.inner(&names, file, directory, found)?;
        }
        Ok(())
    }

    fn inner(&mut self, names: &Names, file: &Path, directory: &Path, found: &ItemMod) -> anyhow::Result<()> {
        let name = found.ident.to_string();
        let names = [names.as_slice(), std::slice::from_ref(&name)].concat();
        if let Some((_, items)) = &found.content {
            return self.items(names, file, &directory.join(&name), items);
        }
        let beside = directory.join(format!("{name}.rs"));
        let place = match path_attribute(&found.attrs) {
            Some(path) => file.parent().unwrap_or(Path::new("")).join(path),
            None if self.crate_directory.join(&beside).exists() => beside,
            None => directory.join(&name).join("mod.rs"),
        };
        self.file(names, &place, &directory.join(&name))
    }
}

/// What the code of one item mentions.
#[derive(Default)]
struct Code {
    mentioned: Vec<Names>,
    imports: Vec<Import>,
}

impl<'ast> Visit<'ast> for Code {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.mentioned.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        let mut mentioned = Mentioned::default();
        paths_of_tokens(found.tokens.clone(), &mut mentioned);
        self.mentioned.extend(mentioned.paths);
        visit::visit_macro(self, found);
    }

    fn visit_item_use(&mut self, found: &'ast ItemUse) {
        imports(found, &mut self.imports);
    }
}

fn imports(found: &ItemUse, into: &mut Vec<Import>) {
    // `::name` is another crate's.
    if found.leading_colon.is_none() {
        flatten(&found.tree, &mut Vec::new(), into);
    }
}

fn flatten(tree: &UseTree, before: &mut Names, into: &mut Vec<Import>) {
    let with = |last: &str| [before.as_slice(), &[last.to_owned()]].concat();
    match tree {
        UseTree::Path(part) => {
            before.push(part.ident.to_string());
            flatten(&part.tree, before, into);
            before.pop();
        }
        UseTree::Name(part) if part.ident == "self" => {
            into.push(Import { name: before.last().cloned(), path: before.clone() });
        }
        UseTree::Name(part) => {
            let name = part.ident.to_string();
            into.push(Import { path: with(&name), name: Some(name) });
        }
        UseTree::Rename(part) => {
            let path = if part.ident == "self" { before.clone() } else { with(&part.ident.to_string()) };
            into.push(Import { name: Some(part.rename.to_string()), path });
        }
        UseTree::Glob(_) => into.push(Import { name: None, path: before.clone() }),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, into)),
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(i) => &i.ident,
        Item::Enum(i) => &i.ident,
        Item::Fn(i) => &i.sig.ident,
        Item::Macro(i) => i.ident.as_ref()?,
        Item::Static(i) => &i.ident,
        Item::Struct(i) => &i.ident,
        Item::Trait(i) => &i.ident,
        Item::Type(i) => &i.ident,
        Item::Union(i) => &i.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// `#[cfg(test)]`, also as one of several conditions.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || (condition.starts_with("all") && condition.contains("test"))
        }
        _ => false,
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}
