//! What is found when the last process of an instance has gone: figures of its cgroup, the process that was killed for
//! memory, the last lines of its log. What cannot be read is left out: a record without it is better than none.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use podwright_proto::{CpuTime, Figures, MemoryEvents, OomLimit, Pressure, Victim};
use podwright_sys::cgroup::{self, Cgroup, CgroupError};
use podwright_sys::kmsg;

use crate::log;

/// Lines and bytes of output that a record keeps.
const TAIL_LINES: usize = 10;
const TAIL_BYTES: usize = 2 << 10;

/// How much of the log's end is looked at, bytes: the kept text, what the log adds to each line, and what is cut off.
const READ_BYTES: u64 = 8 << 10;

/// What the cgroup counted.
pub(crate) fn figures(cgroup: &Cgroup) -> Figures {
    let number = |file| known(cgroup.number(file));
    let pressure = |file| known(cgroup.pressure(file)).map(|p| Pressure { some_us: p.some, full_us: p.full });
    Figures {
        memory_peak: number("memory.peak"),
        memory_events: known(cgroup.keyed("memory.events")).map(|events| MemoryEvents {
            high: events.get("high"),
            max: events.get("max"),
            oom: events.get("oom"),
            oom_kill: events.get("oom_kill"),
        }),
        cpu: known(cgroup.keyed("cpu.stat")).map(|stat| CpuTime {
            usage_us: stat.get("usage_usec"),
            user_us: stat.get("user_usec"),
            system_us: stat.get("system_usec"),
            periods: stat.get("nr_periods"),
            throttled: stat.get("nr_throttled"),
            throttled_us: stat.get("throttled_usec"),
        }),
        cpu_pressure: pressure("cpu.pressure"),
        memory_pressure: pressure("memory.pressure"),
        io_pressure: pressure("io.pressure"),
        pids_peak: number("pids.peak"),
        pids_refused: known(cgroup.keyed("pids.events")).map(|events| events.get("max")),
    }
}

fn known<T>(result: Result<Option<T>, CgroupError>) -> Option<T> {
    result.ok().flatten()
}

/// How often a pod has been out of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ooms {
    /// By the pod's own limit (`memory.events.local`).
    own: u64,
    /// By that or a container's (`memory.events`); it outlives the container's cgroup.
    all: u64,
}

/// Counts them. Without the memory controller there are none.
pub(crate) fn ooms(pod: &Cgroup) -> Ooms {
    let count = |file| known(pod.keyed(file)).map_or(0, |events| events.get("oom"));
    Ooms { own: count("memory.events.local"), all: count("memory.events") }
}

/// What a start takes of memory: podwright-oci's, with nothing in the page cache (`oci_memory_vs_crun` in SPECIFICATION.md), rounded up.
const START_BYTES: u64 = 256 << 10;

/// Which memory limit ended a start, for people. `container` may be gone: then the pod's counters, compared with those of `before`, tell.
pub(crate) fn starved(container: &Cgroup, limit: Option<i64>, pod: &Cgroup, before: Ooms) -> Option<String> {
    let now = ooms(pod);
    let in_container = known(container.keyed("memory.events.local")).map(|events| events.get("oom") > 0);
    let by_container = in_container.unwrap_or(now.all - before.all.min(now.all) > now.own - before.own.min(now.own));
    let (whose, bytes) = if by_container {
        ("container's", limit.and_then(|bytes| u64::try_from(bytes).ok()))
    } else if now.own > before.own {
        ("pod's", known(pod.number("memory.max")))
    } else {
        return None;
    };
    let limit = bytes.map(|bytes| format!(" of {}", size(bytes))).unwrap_or_default();
    let needed = size(START_BYTES);
    Some(format!(
        "the {whose} memory limit{limit} ended the start: to start a container takes some {needed}, and its program comes on top"
    ))
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1024 => format!("{bytes} bytes"),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes.div_ceil(1024)),
    }
}

/// Who was killed for memory in this cgroup, as the kernel's log tells it. Only worth the reading when somebody was.
pub(crate) fn victim(cgroup: &Cgroup, first_process: Option<i32>) -> Option<Victim> {
    let mount = cgroup::v2_mount().ok()?;
    let path = Path::new("/").join(cgroup.path().strip_prefix(mount).ok()?);
    let path = path.to_str()?;
    let kill = kmsg::newest_oom_kill(path)?;
    let limit = match &kill.limit {
        None => OomLimit::Node,
        Some(limit) if limit.starts_with(path) => OomLimit::Container,
        Some(_) => OomLimit::Above,
    };
    Some(Victim { pid: kill.pid, name: printable(&kill.name), first_process: first_process == Some(kill.pid), limit })
}

/// The last lines of a log in CRI format. A log that has just been rotated has its last lines in the file before.
pub(crate) fn tail(log: &Path, rotated: Option<&Path>) -> Vec<String> {
    let mut lines = last_lines(log);
    if lines.len() < TAIL_LINES
        && let Some(rotated) = rotated
    {
        let earlier = last_lines(rotated);
        lines.splice(..0, earlier.into_iter().rev().take(TAIL_LINES - lines.len()).rev());
    }
    let mut left = TAIL_BYTES;
    let kept =
        lines.iter().rev().take_while(|line| left.checked_sub(line.len()).map(|rest| left = rest).is_some()).count();
    // A last line that is too long alone is cut, not dropped.
    if kept == 0 {
        return lines.pop().into_iter().map(|line| line[..line.floor_char_boundary(TAIL_BYTES)].to_owned()).collect();
    }
    lines.split_off(lines.len() - kept)
}

fn last_lines(log: &Path) -> Vec<String> {
    read_end(log).map_or(Vec::new(), |(bytes, whole)| lines_of(&bytes, whole))
}

/// The end of a file, and whether that is all of it.
fn read_end(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut file = log::open_to_read(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(READ_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(READ_BYTES).read_to_end(&mut bytes)?;
    Ok((bytes, start == 0))
}

/// The texts of at most [`TAIL_LINES`] lines `TIME STREAM F|P TEXT`; parts of a line that was split are lines here.
fn lines_of(bytes: &[u8], whole: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if !whole && lines.len() > 1 {
        lines.remove(0);
    }
    let texts = lines.iter().map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line));
    let first = lines.len().saturating_sub(TAIL_LINES);
    texts.skip(first).map(printable).collect()
}

/// Without escape sequences (colours) and other control characters: what is kept goes to people's terminals.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            // ESC [ parameters final byte (ECMA-48, 5.4).
            '\u{1b}' if chars.as_str().starts_with('[') => {
                let sequence = chars.as_str();
                let end = sequence.char_indices().skip(1).find(|(_, c)| ('@'..='~').contains(c));
                chars = end.map_or("", |(at, c)| &sequence[at + c.len_utf8()..]).chars();
            }
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(directory: &Path, name: &str, lines: &[&str]) -> std::path::PathBuf {
        let path = directory.join(name);
        let text: String =
            lines.iter().map(|line| format!("2026-11-24T18:00:00.000000000Z stdout F {line}\n")).collect();
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn the_last_lines_are_kept_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let many: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let path = log(dir.path(), "many", &many);
        let kept = tail(&path, None);
        assert_eq!((kept.len(), kept[0].as_str(), kept[9].as_str()), (TAIL_LINES, "line 490", "line 499"));
        let long = "x".repeat(900);
        let path = log(dir.path(), "long", &["first", &long, &long, &long, "last"]);
        assert_eq!(tail(&path, None), [long.clone(), long, "last".into()]);
        let path = log(dir.path(), "huge", &["first", &"é".repeat(3000)]);
        assert_eq!(tail(&path, None), ["é".repeat(TAIL_BYTES / 2)]);
        assert_eq!(tail(&dir.path().join("none"), None), [""; 0]);
    }

    #[test]
    fn a_fresh_log_is_completed_from_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let old = log(dir.path(), "old", &["a", "b", "c"]);
        let new = log(dir.path(), "new", &["d"]);
        assert_eq!(tail(&new, Some(&old)), ["a", "b", "c", "d"]);
    }

    #[test]
    fn terminals_are_safe() {
        assert_eq!(printable("\u{1b}[1;31mred\u{1b}[0m\ttext\r\u{7}\u{1b}]0;t"), "red text]0;t");
        assert_eq!(printable("cut \u{1b}[31"), "cut ");
        assert_eq!(lines_of(b"T stdout P half\nT stderr F \nnonsense", true), ["half", "", "nonsense"]);
        assert_eq!(lines_of(b"ut off\nT stdout F whole\n", false), ["whole"]);
    }

    #[test]
    fn a_start_that_lacked_memory_names_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let (pod, container) = (dir.path().join("pod"), dir.path().join("pod/app"));
        std::fs::create_dir_all(&container).unwrap();
        let write = |own: u32, all: u32, container_own: Option<u32>| {
            std::fs::write(pod.join("memory.events.local"), format!("oom {own}\n")).unwrap();
            std::fs::write(pod.join("memory.events"), format!("oom {all}\n")).unwrap();
            std::fs::write(pod.join("memory.max"), "4194304\n").unwrap();
            let file = container.join("memory.events.local");
            match container_own {
                Some(count) => std::fs::write(file, format!("oom {count}\n")).unwrap(),
                None => std::fs::remove_file(file).unwrap_or(()),
            }
        };
        let before = Ooms { own: 2, all: 5 };
        let told = |limit| starved(&Cgroup::at(&container), limit, &Cgroup::at(&pod), before);
        write(2, 5, Some(0));
        assert_eq!(told(Some(8192)), None);
        write(2, 6, Some(1));
        let text = told(Some(8192)).unwrap();
        assert!(
            text.starts_with("the container's memory limit of 8 KiB ended the start: ") && text.contains("256 KiB"),
            "{text}"
        );
        write(3, 6, Some(0));
        assert!(told(Some(1)).unwrap().starts_with("the pod's memory limit of 4 MiB ended"), "{:?}", told(Some(1)));
        // The runtime has removed the cgroup.
        write(2, 6, None);
        assert!(
            told(Some(1)).unwrap().starts_with("the container's memory limit of 1 byte ended"),
            "{:?}",
            told(Some(1))
        );
        write(3, 6, None);
        assert!(told(Some(1)).unwrap().starts_with("the pod's"));
        write(2, 5, None);
        assert_eq!(told(None), None);
    }

    #[test]
    fn a_cgroup_without_controllers_has_no_figures() {
        let dir = tempfile::tempdir().unwrap();
        assert!(figures(&Cgroup::at(dir.path())).is_empty());
        std::fs::write(dir.path().join("cpu.stat"), "usage_usec 12\nnr_throttled 3\n").unwrap();
        std::fs::write(dir.path().join("memory.peak"), "99\n").unwrap();
        let found = figures(&Cgroup::at(dir.path()));
        assert_eq!((found.memory_peak, found.cpu.map(|c| (c.usage_us, c.throttled))), (Some(99), Some((12, 3))));
    }
}
