//! Which run of the container this is, and how old its process 1 is.
//!
//! Process 1 counts itself in `/ev/n`, on a volume that outlives it. The file holds the count and which process 1 wrote it, so
//! that hooks and probes of a new instance do not read the count of the one before. Which one it is, is told by its start time
//! (proc(5), stat field 22) and, since an instance may follow another within the same clock tick, by the address of its stack
//! (field 28), which is random.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{SysconfVar, sysconf};

use crate::args::Args;
use crate::line::boot_ns;

const VOLUME: &str = "/ev";
const COUNT: &str = "/ev/n";
/// How long a hook or probe waits for process 1 to count itself before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Name of the memory file of [`announce_start`], before the time.
const ANNOUNCEMENT: &str = "act-started-";
const POLL: Duration = Duration::from_millis(10);

/// Counts this instance where a volume is there for it; 1 where none is.
pub(crate) fn count(args: &Args) -> Result<usize, String> {
    if !Path::new(VOLUME).is_dir() {
        return if args.has_list() { Err(format!("a value per instance needs a volume at {VOLUME}")) } else { Ok(1) };
    }
    let who = process_1()?.to_string();
    let n = match read_count().map_err(|e| format!("{COUNT}: {e}"))? {
        Some((n, counted)) if counted == who => n,
        Some((n, _)) => n + 1,
        None => 1,
    };
    let temporary = format!("{COUNT}.{}", std::process::id());
    fs::write(&temporary, format!("{n} {who}\n")).map_err(|e| format!("{temporary}: {e}"))?;
    fs::rename(&temporary, COUNT).map_err(|e| format!("{COUNT}: {e}"))?;
    Ok(n)
}

/// For a hook or probe: the number that process 1 gave itself; waits until it has. 1 where no list asks for it.
pub(crate) fn read(args: &Args) -> Result<usize, String> {
    if !args.has_list() {
        return Ok(1);
    }
    let who = process_1()?.to_string();
    let since = Instant::now();
    loop {
        match read_count().map_err(|e| format!("{COUNT}: {e}"))? {
            Some((n, counted)) if counted == who => return Ok(n),
            _ if since.elapsed() > PATIENCE => return Err(format!("process 1 did not count itself in {COUNT}")),
            _ => sleep(POLL),
        }
    }
}

/// Says for how long this process runs, counted from its `started` line, to its own probes: they find the name of an open
/// memory file. Counted from its birth, a slow host would make it older than anyone can see.
pub(crate) fn announce_start(at_ns: i64) -> Result<OwnedFd, String> {
    memfd_create(format!("{ANNOUNCEMENT}{at_ns}").as_str(), MFdFlags::empty()).map_err(|e| format!("memfd_create: {e}"))
}

/// How long process 1 runs: since its `started`, or since its birth where it is not `act`.
pub(crate) fn process_1_age() -> Result<Duration, String> {
    let since = |ns: i64| Duration::from_nanos(u64::try_from(boot_ns() - ns).unwrap_or(0));
    if let Some(started) = process_1_started() {
        return Ok(since(started));
    }
    if fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "act") {
        return Ok(Duration::ZERO);
    }
    let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(100);
    let start = Duration::from_secs(process_1()?.start) / u32::try_from(hertz).unwrap_or(100);
    let now = Duration::from_nanos(u64::try_from(boot_ns()).unwrap_or(0));
    Ok(now.saturating_sub(start))
}

fn process_1_started() -> Option<i64> {
    let files = fs::read_dir("/proc/1/fd").ok()?.filter_map(Result::ok);
    let mut names = files.filter_map(|file| fs::read_link(file.path()).ok());
    names.find_map(|name| {
        let name = name.to_str()?.strip_prefix("/memfd:")?.strip_prefix(ANNOUNCEMENT)?;
        name.split(' ').next()?.parse().ok()
    })
}

/// What tells one process 1 from the next.
#[derive(Debug, PartialEq, Eq)]
struct Process1 {
    /// In clock ticks since boot.
    start: u64,
    stack: u64,
}

impl fmt::Display for Process1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.start, self.stack)
    }
}

fn process_1() -> Result<Process1, String> {
    let stat = fs::read_to_string("/proc/1/stat").map_err(|e| format!("/proc/1/stat: {e}"))?;
    parse_stat(&stat).ok_or_else(|| format!("/proc/1/stat has no start time: {stat:?}"))
}

/// The second field, the command's name in brackets, may hold anything; what follows it is field 3.
fn parse_stat(stat: &str) -> Option<Process1> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse().ok();
    Some(Process1 { start: number(22)?, stack: number(28)? })
}

fn read_count() -> io::Result<Option<(usize, String)>> {
    match fs::read_to_string(COUNT) {
        Ok(text) => Ok(text.split_once(' ').and_then(|(n, who)| Some((n.parse().ok()?, who.trim().to_owned())))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn start_time_behind_a_hostile_name() {
        let stat = "1 (a) b (c)) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 20 18446744073709551615 4096 8192 140700 0 0";
        let found = super::parse_stat(stat).expect("it is whole");
        assert_eq!((found.start, found.stack), (4711, 140_700));
        assert_eq!(super::parse_stat("1 (a S 0"), None);
    }
}
