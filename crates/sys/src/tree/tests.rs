use super::usage::walk;
use super::*;

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::openat;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::mkdirat;

/// Makes directories in each other below `top`, each of that name.
fn nest(top: &Path, depth: usize, name: &str) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut here = open(top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&here, name, Mode::S_IRWXU).unwrap();
        here = openat(&here, name, flags, Mode::empty()).unwrap();
    }
    openat(&here, "last", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
}

/// Runs a test on a thread with mounts of its own: nothing is left on the host, whatever fails. Needs root.
fn with_own_mounts(test: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let ran = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            test(dir.path());
        });
        thread.join()
    });
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

#[test]
fn all_kinds_of_entries_go_and_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "kept").unwrap();
    fs::write(tree.join("a/file"), "x").unwrap();
    fs::hard_link(outside.join("file"), tree.join("a/hard")).unwrap();
    symlink(&outside, tree.join("a/link")).unwrap();
    symlink("/proc/nowhere", tree.join("dangling")).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), Mode::S_IRWXU).unwrap();
    fs::write(tree.join(std::ffi::OsString::from_vec(vec![0xff, b'\n', 0x1b])), "x").unwrap();
    remove(&tree).unwrap();
    assert!(!tree.exists());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
    remove(&tree).unwrap();
    symlink(&outside, &tree).unwrap();
    remove(&tree).unwrap();
    assert!(tree.symlink_metadata().is_err() && outside.join("file").exists());
    fs::write(&tree, "a file").unwrap();
    remove(&tree).unwrap();
    assert!(!tree.exists());
    remove(Path::new("/proc/no/such/place")).unwrap();
}

#[test]
fn thirty_thousand_levels_are_counted_and_removed() {
    for name in ["d", &"n".repeat(255)] {
        // In memory, where there is a place for it: on a busy disk it takes minutes.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        nest(&tree, 30_000, name);
        // The control: recursion ends for want of stack, or of descriptors (seen from a process of its own).
        if name == "d" {
            let me = std::env::current_exe().unwrap();
            let control = Command::new(me)
                .args(["--exact", "tree::tests::control", "--ignored"])
                .env("TREE_OF_THE_CONTROL", &tree)
                .output()
                .unwrap();
            assert!(!control.status.success() && tree.exists(), "{control:?}");
        }
        assert!(matches!(usage(&tree, &AtomicBool::new(false)).unwrap(), Usage::Whole(_)));
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}

/// Not a test by itself: removes as the standard library does.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn control() {
    if let Some(tree) = std::env::var_os("TREE_OF_THE_CONTROL") {
        fs::remove_dir_all(tree).unwrap();
    }
}

#[test]
fn branches_deep_below_go_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let mut deep = tree.clone();
    // Branches at each level, past the depth to which descriptors are held.
    for level in 0..3 * OPEN {
        deep.push("d");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(deep.join(format!("side/{level}"))).unwrap();
        fs::write(deep.join("side/f"), "x").unwrap();
        // In the way of the names that are given to what is moved.
        fs::write(deep.join(format!(".r{level}")), "x").unwrap();
    }
    fs::write(tree.join(".r1"), "x").unwrap();
    remove(&tree).unwrap();
    assert!(!tree.exists());
}

#[test]
fn a_wide_directory_is_removed_without_being_listed() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    (0..20_000).for_each(|n| fs::write(tree.join(format!("file {n}")), "").unwrap());
    remove(&tree).unwrap();
    assert!(!tree.exists());
}

#[test]
fn mounts_are_not_crossed_and_told() {
    with_own_mounts(|dir| {
        let (tree, outside) = (dir.join("tree"), dir.join("outside"));
        fs::create_dir_all(tree.join("a/mnt")).unwrap();
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("sub/file"), vec![1; 100_000]).unwrap();
        fs::write(tree.join("a/file mount"), "").unwrap();
        fs::write(tree.join("a/goes"), "").unwrap();
        // The same file system: only the mount tells.
        bind(&outside, &tree.join("a/mnt"));
        bind(&outside.join("sub/file"), &tree.join("a/file mount"));
        assert_eq!(fs::metadata(tree.join("a/mnt")).unwrap().dev(), fs::metadata(&tree).unwrap().dev());
        let Usage::Whole(used) = usage(&tree, &AtomicBool::new(false)).unwrap() else { panic!("not counted") };
        assert!(used < 50_000, "{used}");
        let error = remove(&tree).unwrap_err();
        let mut mounts = error.mounts().to_vec();
        mounts.sort();
        assert_eq!(mounts, [tree.join("a/file mount"), tree.join("a/mnt")], "{error}");
        assert_eq!(error.failures(), []);
        let text = format!("{} is a mount point; unmount it, then it is removed", tree.join("a/mnt").display());
        assert!(error.to_string().contains(&text), "{error}");
        assert_eq!(fs::metadata(outside.join("sub/file")).unwrap().len(), 100_000);
        assert!(!tree.join("a/goes").exists(), "the rest goes");
        for mounted in ["a/mnt", "a/file mount"] {
            nix::mount::umount(&tree.join(mounted)).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists() && outside.join("sub/file").exists());
        // Of the tree itself.
        fs::create_dir(&tree).unwrap();
        bind(&outside, &tree);
        assert_eq!(remove(&tree).unwrap_err().mounts(), std::slice::from_ref(&tree));
        assert!(outside.join("sub/file").exists());
        // The control: the standard library removes what is behind the mount.
        assert!(fs::remove_dir_all(&tree).is_err());
        assert!(!outside.join("sub").exists(), "the mount is not what was said");
    });
}

#[test]
fn what_cannot_be_removed_is_told_and_the_rest_goes() {
    with_own_mounts(|dir| {
        let tree = dir.join("tree");
        let below = tree.join("kept/below");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("goes"), "").unwrap();
        fs::write(tree.join("goes"), "").unwrap();
        for n in 0..20 {
            fs::write(tree.join(format!("kept/file \u{1b}{n}")), "").unwrap();
        }
        // Nothing may be removed from a directory that is read-only; what is below may.
        bind(&below, &below);
        let change = crate::mount::Change::flags(MsFlags::MS_RDONLY, MsFlags::empty());
        bind(&tree.join("kept"), &tree.join("kept"));
        let kept = open(&tree.join("kept"), OFlag::O_PATH, Mode::empty()).unwrap();
        crate::mount::change(&kept, false, change).unwrap();
        let parent = tree.join("kept");
        let error = remove(&parent.join("file \u{1b}1")).unwrap_err();
        assert_eq!(error.failures().len(), 1);
        assert!(error.to_string().contains("file \\u{1b}1 cannot be removed: Read-only file system"), "{error}");
        let error = remove(&tree).unwrap_err();
        assert_eq!(error.mounts(), std::slice::from_ref(&parent), "{error}");
        assert!(!tree.join("goes").exists());
    });
}

#[test]
fn immutable_files_stay_and_the_rest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("fixed/inner")).unwrap();
    for n in 0..20 {
        fs::write(tree.join(format!("fixed/{n}")), "").unwrap();
    }
    fs::write(tree.join("fixed/inner/goes"), "").unwrap();
    fs::write(tree.join("goes"), "").unwrap();
    let immutable = |on: &str| Command::new("chattr").arg(on).arg(tree.join("fixed")).output().unwrap();
    if !immutable("+i").status.success() {
        println!("left out: this file system has no immutable files");
        return;
    }
    let error = remove(&tree).unwrap_err();
    assert_eq!(error.failures().len(), 8, "{error}");
    assert!(error.to_string().ends_with("; and 14 more"), "{error}");
    assert!(!tree.join("goes").exists() && !tree.join("fixed/inner/goes").exists());
    assert!(tree.join("fixed/19").exists());
    assert!(immutable("-i").status.success());
    remove(&tree).unwrap();
    assert!(!tree.exists());
}

/// Somebody moves directories between the tree and its outside, and puts links in their place, while it is removed.
#[test]
fn a_renamer_gets_nothing_removed_outside() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir_all(outside.join("deep/er")).unwrap();
    fs::write(outside.join("deep/er/file"), "kept").unwrap();
    let (over, swaps) = (AtomicBool::new(false), std::sync::atomic::AtomicU32::new(0));
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // The victim's place alternates between a directory and a link to the outside; nested ones are swapped.
                let done = fs::create_dir_all(tree.join("d/deep/er"))
                    .and_then(|()| fs::rename(tree.join("d"), tree.join("moved")))
                    .and_then(|()| symlink(&outside, tree.join("d")))
                    .and_then(|()| fs::rename(tree.join("moved/deep"), tree.join("up")))
                    .and_then(|()| symlink(outside.join("deep"), tree.join("moved/deep")));
                if done.is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
                drop(fs::remove_file(tree.join("d")));
            }
        });
        while swaps.load(Ordering::Relaxed) < 200 {
            // Errors tell what was put there meanwhile.
            drop(remove(&tree));
            fs::create_dir_all(&tree).unwrap();
            assert!(outside.join("deep/er/file").exists());
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_to_string(outside.join("deep/er/file")).unwrap(), "kept");
    remove(&tree).unwrap();
}

#[test]
fn usage_counts_names_once_and_follows_no_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), vec![1; 300_000]).unwrap();
    symlink("/", dir.path().join("root")).unwrap();
    let used = |path: &Path| match usage(path, &AtomicBool::new(false)).unwrap() {
        Usage::Whole(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    let before = used(dir.path());
    assert!((300_000..400_000).contains(&before), "{before}");
    for n in 0..100 {
        fs::hard_link(dir.path().join("d/f"), dir.path().join(format!("d/{n}"))).unwrap();
    }
    let after = used(dir.path());
    assert!(after - before < 20_000, "{before} {after}");
    assert_eq!(used(&dir.path().join("none")), 0);
    assert_eq!(usage(dir.path(), &AtomicBool::new(true)).unwrap(), Usage::Stopped);
}

#[test]
fn usage_finds_its_way_back_and_says_what_it_did_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut deep = dir.path().to_owned();
    let blocks = |path: &Path| fs::symlink_metadata(path).unwrap().blocks() * 512;
    let mut expected = blocks(dir.path());
    for _ in 0..12 {
        // Something to be read before and after the way down, in whatever order.
        for name in ["a", "z"] {
            fs::write(deep.join(name), vec![1; 10_000]).unwrap();
            expected += blocks(&deep.join(name));
        }
        deep.push("m");
        fs::create_dir(&deep).unwrap();
        expected += blocks(&deep);
    }
    let stop = AtomicBool::new(false);
    for open in [1, 3, 11, 12, 13, 100] {
        assert_eq!(walk(dir.path(), &stop, open, 100).unwrap(), Usage::Whole(expected), "{open}");
    }
    assert!(matches!(walk(dir.path(), &stop, 3, 11).unwrap(), Usage::TooDeep(some) if some < expected));
}

#[test]
fn directories_below_are_removed_at_any_depth() {
    let dir = tempfile::tempdir().unwrap();
    nest(dir.path(), 0, "d");
    fs::remove_file(dir.path().join("last")).unwrap();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut here = open(dir.path(), flags, Mode::empty()).unwrap();
    for n in 0..5_000 {
        for name in ["before", "down", "next"].iter().take(if n % 100 == 0 { 3 } else { 2 }) {
            mkdirat(&here, *name, Mode::S_IRWXU).unwrap();
        }
        here = openat(&here, "down", flags, Mode::empty()).unwrap();
    }
    remove_nested(dir.path(), 0, std::time::Duration::ZERO).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
