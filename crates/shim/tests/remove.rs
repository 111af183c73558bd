//! `podwright-shim --remove DIR`: what a container leaves of its root is removed by a process of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

fn remove(tree: &Path) -> Output {
    // As many descriptors as a session has: what holds one a level ends there.
    Command::new("sh")
        .args(["-c", "ulimit -n 256; exec \"$0\" --remove \"$1\""])
        .args([Path::new(env!("CARGO_BIN_EXE_podwright-shim")), tree])
        .output()
        .unwrap()
}

#[test]
fn a_layer_of_thirty_thousand_levels_is_removed() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for name in ["d", &"n".repeat(255)] {
        let tree = dir.path().join("layer");
        fs::create_dir(&tree).unwrap();
        let mut here = open(&tree, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..30_000 {
            mkdirat(&here, name, Mode::S_IRWXU).unwrap();
            here = openat(&here, name, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        let output = remove(&tree);
        assert!(output.status.success() && !tree.exists(), "{output:?}");
    }
}

#[test]
fn what_is_left_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = remove(&dir.path().join("none"));
    assert!(output.status.success(), "{output:?}");
    let output = remove(Path::new("/proc/self"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/proc/self cannot be removed: "), "{said}");
}
