use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

const NOW: i64 = 1_700_000_000_000_000_000;

/// That many seconds after [`NOW`].
fn at(second: i64) -> Stamp {
    Stamp { boot_ns: second * 1_000_000_000, wall_ns: NOW + second * 1_000_000_000 }
}

fn batch(text: &str) -> Batch {
    let mut batch = Batch::default();
    batch.push("T", "stdout", true, &[text.as_bytes()]);
    batch
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn rotates_by_size_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c/0.log");
    let mut log = Log::open(&path, 32, 3).unwrap();
    for n in 0..9 {
        // 20 bytes a line: one line a file.
        log.write(&batch(&format!("line {n}")), at(n / 2));
    }
    assert_eq!(names(&dir.path().join("c")), ["0.log", "0.log.20231114-221323.001", "0.log.20231114-221324"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "T stdout F line 8\n");
    assert_eq!(fs::read_to_string(dir.path().join("c/0.log.20231114-221323.001")).unwrap(), "T stdout F line 6\n");
}

#[test]
fn goes_on_with_an_existing_file_and_may_keep_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, "0123456789012345678901234567\n").unwrap();
    Log::open(&path, 32, 1).unwrap().write(&batch("new"), at(0));
    assert_eq!(names(dir.path()), ["0.log"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "T stdout F new\n");
}

/// What counts is what is written, not what was read: a newline becomes a line of 44 bytes.
#[test]
fn no_file_gets_longer_than_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c/0.log");
    let mut log = Log::open(&path, 4096, 3).unwrap();
    let mut newlines = Batch::default();
    (0..65_536).for_each(|_| newlines.push(&clock::rfc3339(NOW), "stdout", true, &[]));
    log.write(&newlines, at(0));
    let files = names(path.parent().unwrap());
    assert_eq!(files.len(), 3, "{files:?}");
    for name in &files {
        let text = fs::read(path.with_file_name(name)).unwrap();
        assert!((1..=4096).contains(&text.len()) && text.ends_with(b"\n"), "{name}: {}", text.len());
    }
    // Only a line that is longer by itself has a longer file, and has it alone.
    let long = "x".repeat(MAX_LINE_TEXT);
    log.write(&batch("before"), at(1));
    log.write(&batch(&long), at(1));
    log.write(&batch("after"), at(1));
    let lengths: Vec<u64> =
        names(path.parent().unwrap()).iter().map(|n| fs::metadata(path.with_file_name(n)).unwrap().len()).collect();
    assert_eq!(lengths.iter().filter(|length| **length > 4096).count(), 1, "{lengths:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "T stdout F after\n");
}

#[test]
fn the_newest_are_kept_within_one_second_and_when_the_clock_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c/0.log");
    let mut log = Log::open(&path, 20, 3).unwrap();
    for n in 0..2_500 {
        log.write(&batch(&format!("{n:04}")), at(if n < 2_400 { 0 } else { -3600 }));
    }
    let mut kept: Vec<String> =
        names(path.parent().unwrap()).iter().map(|n| fs::read_to_string(path.with_file_name(n)).unwrap()).collect();
    kept.sort();
    assert_eq!(kept, ["T stdout F 2497\n", "T stdout F 2498\n", "T stdout F 2499\n"]);
    assert!((0..2_500).map(digits).is_sorted());
}

/// A directory that holds 8 KiB, in a mount namespace of the thread's own.
fn on_a_small_disk(test: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let ran = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            podwright_sys::podmount::follow_host().unwrap();
            podwright_sys::podmount::tmpfs(&dir.path().join("disk"), Some(32 << 10)).unwrap();
            test(&dir.path().join("disk"));
        });
        thread.join()
    });
    ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_full_disk_loses_lines_and_all_is_told() {
    on_a_small_disk(|disk| {
        let path = disk.join("pod/app/0.log");
        let mut log = Log::open(&path, 0, 5).unwrap();
        let fill = || {
            while fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(disk.join("filler"))
                .and_then(|mut f| f.write_all(&[0; 4096]))
                .is_ok()
            {}
        };
        log.write(&batch("before"), at(0));
        assert_eq!(log.lost_since_told(), None);
        fill();
        let big = "x".repeat(5_000);
        log.write(&batch(&big), at(10));
        let news = log.lost_since_told().unwrap();
        assert_eq!((news.lines, news.ongoing, news.first, news.last), (1, true, at(10), at(10)));
        log.write(&batch(&big), at(12));
        assert_eq!(log.lost_since_told(), None, "not with every line");
        log.write(&batch(&big), at(21));
        assert_eq!(log.lost_since_told().unwrap().lines, 3);
        fs::remove_file(disk.join("filler")).unwrap();
        log.write(&batch("after"), at(30));
        let news = log.lost_since_told().unwrap();
        assert_eq!((news.lines, news.bytes, news.ongoing), (3, 3 * 5_012, false));
        assert!(news.error.contains("No space left on device"), "{news:?}");
        let text = fs::read_to_string(&path).unwrap();
        let notice = "podwright: 3 lines (15036 bytes) of this log were lost from 2023-11-14T22:13:30.000000000Z to \
                      2023-11-14T22:13:41.000000000Z: No space left on device";
        assert!(text.contains(notice), "{text}");
        assert!(text.ends_with("\nT stdout F after\n"), "{text}");
        // To the end: the record tells what the log cannot.
        fill();
        log.write(&batch(&big), at(40));
        assert!(log.lost_since_told().unwrap().ongoing);
        log.close(at(41));
        let news = log.lost_since_told().unwrap();
        assert_eq!((news.lines, news.ongoing, news.first, news.last), (4, false, at(10), at(40)));
        assert_eq!(log.lost_since_told(), None);
    });
}

/// A pod that has the log directory puts other things there.
#[test]
fn nothing_is_appended_or_read_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "secret\n").unwrap();
    let path = dir.path().join("logs/pod/app/0.log");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // From the beginning.
    symlink(&victim, &path).unwrap();
    // The control: by its path, it is the other file.
    assert_eq!(fs::read_to_string(&path).unwrap(), "secret\n");
    assert!(open_to_read(&path).is_err());
    let mut log = Log::open(&path, 20, 2).unwrap();
    log.write(&batch("1"), at(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), "T stdout F 1\n");
    // In its place, before it is rotated.
    fs::remove_file(&path).unwrap();
    symlink(&victim, &path).unwrap();
    log.write(&batch("22222222"), at(1));
    log.write(&batch("33333333"), at(2));
    // And under the name that the next one will have.
    let next = path.with_file_name("0.log.20231114-221324");
    symlink(&victim, &next).unwrap();
    log.write(&batch("44444444"), at(4));
    assert_eq!(fs::read_to_string(&path).unwrap(), "T stdout F 44444444\n");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "secret\n");
    assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1);
    // A fifo does not hold the shim up.
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    assert!(open_to_read(&path).is_err());
    drop(Log::open(&path, 0, 1).unwrap());
    // The directory itself.
    fs::rename(path.parent().unwrap(), dir.path().join("away")).unwrap();
    symlink(dir.path(), path.parent().unwrap()).unwrap();
    fs::write(dir.path().join("0.log"), "theirs\n").unwrap();
    assert!(Log::open(&path, 0, 1).is_err() && open_to_read(&path).is_err());
    assert_eq!(fs::read_to_string(dir.path().join("0.log")).unwrap(), "theirs\n");
}
