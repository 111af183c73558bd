//! Whether `rules` finds what was planted, in repositories made for it.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A repository of five crates; the first has these files, the others are empty.
fn repository(files: &[(&str, &str)], known: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in ["crates/a", "crates/b", "crates/c", "crates/d", "tests/e"] {
        put(&format!("{name}/Cargo.toml"), "");
        put(&format!("{name}/src/lib.rs"), "");
    }
    put("tests/rules/circles", known);
    files.iter().for_each(|(name, text)| put(&format!("crates/a/src/{name}"), text));
    dir
}

/// Exit status and lines.
fn rules(repository: &Path, rule: &str) -> (i32, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rules"));
    let output = command.arg("--repository").arg(repository).arg(rule).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text.lines().map(str::to_owned).collect())
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let (status, lines) = rules(repository(files, "").path(), "circles");
    assert_eq!(status, i32::from(!lines.is_empty()), "{lines:?}");
    lines
}

const ROOT: (&str, &str) = ("lib.rs", "mod one; mod two; mod three;");

#[test]
fn a_circle_is_found_with_what_makes_it() {
    let found = circles(&[
        ROOT,
        ("one.rs", "use crate::two::Two; pub struct One(Two);"),
        ("two.rs", "pub struct Two; fn f() { super::three::g() }"),
        ("three.rs", "use super::one; pub fn g() { drop(vec![one::One::new()]) }"),
    ]);
    let expected = [
        "circle of 3 files: crates/a/src/one.rs, crates/a/src/three.rs, crates/a/src/two.rs",
        "  crates/a/src/one.rs -> crates/a/src/two.rs (crate::two::Two)",
        "  crates/a/src/three.rs -> crates/a/src/one.rs (one::One::new)",
        "  crates/a/src/two.rs -> crates/a/src/three.rs (super::three::g)",
    ];
    assert_eq!(found.len(), 4, "{found:?}");
    for (line, expected) in found.iter().zip(expected) {
        let (arrow, wanted) = (line.split(" (").next(), expected.split(" (").next());
        assert_eq!(arrow, wanted, "{found:?}");
    }
}

#[test]
fn a_chain_is_none() {
    let files = [
        ROOT,
        ("one.rs", "use crate::two::Two; use crate::three::*; pub struct One(Two, Three);"),
        ("two.rs", "use super::three::Three; pub struct Two(Three);"),
        ("three.rs", "pub struct Three;"),
    ];
    assert_eq!(circles(&files), Vec::<String>::new());
}

#[test]
fn a_parent_and_its_child_can_make_one_and_a_reexport_hides_none() {
    let both = [("lib.rs", "mod one;"), ("one/mod.rs", "mod two; pub fn f() { two::g() }"), ("one/two.rs", "")];
    assert_eq!(circles(&both), Vec::<String>::new());
    let [root, parent, _] = both;
    assert_eq!(circles(&[root, parent, ("one/two.rs", "pub fn g() { super::f() }")]).len(), 3);
    // `two` uses `three` by a name that their parent shows, and the other way round.
    let found = circles(&[
        ("lib.rs", "mod one;"),
        ("one/mod.rs", "mod two; mod three; pub use two::Two; pub use three::Three;"),
        ("one/two.rs", "use super::Three; pub struct Two(Three);"),
        ("one/three.rs", "pub struct Three; fn f(two: &crate::one::Two) {}"),
    ]);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn names_that_only_a_macro_or_a_function_body_has_count() {
    let found = circles(&[
        ("lib.rs", "mod one; mod two;"),
        ("one.rs", "pub fn f() { println!(\"{}\", crate::two::g()) }"),
        ("two.rs", "pub fn g() -> u8 { use crate::one::f; f(); 0 }"),
    ]);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn tests_may_look_at_anything() {
    let files = [
        ("lib.rs", "mod one; mod two;"),
        ("one.rs", "use crate::two::g; pub fn f() { g() }"),
        ("two.rs", "pub fn g() {} #[cfg(test)] mod tests { use crate::one::f; fn t() { f() } }"),
    ];
    assert_eq!(circles(&files), Vec::<String>::new());
}

#[test]
fn a_known_circle_is_borne_until_it_is_gone() {
    let files = [
        ("lib.rs", "mod one; mod two;"),
        ("one.rs", "use crate::two::g; pub fn f() { g() }"),
        ("two.rs", "use crate::one::f; pub fn g() { f() }"),
    ];
    let known = "# Why.\ncrates/a/src/one.rs\ncrates/a/src/two.rs\n";
    assert_eq!(rules(repository(&files, known).path(), "circles"), (0, vec![]));
    let (status, lines) = rules(repository(&files[..2], known).path(), "circles");
    assert_ne!(status, 0, "{lines:?}");
    let fine = [files[0], files[1], ("two.rs", "pub fn g() {}")];
    let (status, lines) = rules(repository(&fine, known).path(), "circles");
    assert!(status == 1 && lines.len() == 2 && lines[0].contains("take it out"), "{lines:?}");
}

#[test]
fn an_empty_repository_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("tests/rules")).unwrap();
    fs::create_dir_all(dir.path().join("crates")).unwrap();
    fs::write(dir.path().join("tests/rules/circles"), "").unwrap();
    let (status, lines) = rules(dir.path(), "circles");
    assert!(status == 2 && lines[0].contains("only 0 crates"), "{lines:?}");
}

#[test]
fn a_path_that_leads_nowhere_is_found() {
    let dir = repository(&[("there.rs", "")], "");
    let document = |text: &str| fs::write(dir.path().join("README.md"), text).unwrap();
    let good = "`crates/a/src/there.rs`, `crates/a/src/there.rs:7`, `a/src/*.rs`, [it](crates/a/src/there.rs#x) `x/y` `/etc/a`\n";
    document(&good.repeat(15));
    assert_eq!(rules(dir.path(), "paths"), (0, vec![]));
    let bad = "`crates/a/src/gone.rs` `a/src/gone.rs --flag`\n[it](gone.md) `a/src/*.md`\n```\n`a/src/none.rs`\n```\n";
    document(&(good.repeat(15) + bad));
    let expected = [
        "16: there is no crates/a/src/gone.rs",
        "16: there is no a/src/gone.rs",
        "17: there is no a/src/*.md",
        "17: there is no gone.md",
    ];
    let (status, lines) = rules(dir.path(), "paths");
    assert_eq!((status, lines), (1, expected.iter().map(|line| format!("README.md:{line}")).collect()));
    document(good);
    let (status, lines) = rules(dir.path(), "paths");
    assert!(status == 2 && lines[0].contains("only 4 paths"), "{lines:?}");
}
