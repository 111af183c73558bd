//! What processes take, from /proc (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::io;

use anyhow::{Context as _, Result};
use nix::errno::Errno;

/// Proportional set size in KiB: private memory, and the process's share of what it has in common with others.
///
/// # Errors
/// When the process is gone.
pub(crate) fn pss_kib(pid: u32) -> Result<f64> {
    field(&read(pid, "smaps_rollup")?, "Pss:").with_context(|| format!("/proc/{pid}/smaps_rollup: no Pss"))
}

/// Resident set size in KiB. Not from `status`, whose counters lag behind by up to 64 pages a thread.
///
/// # Errors
/// When the process is gone.
pub(crate) fn rss_kib(pid: u32) -> Result<f64> {
    field(&read(pid, "smaps_rollup")?, "Rss:").with_context(|| format!("/proc/{pid}/smaps_rollup: no Rss"))
}

/// CPU time of a process in seconds, that of threads that have ended included.
///
/// # Errors
/// When the process is gone.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    // utime and stime, fields 14 and 15 of proc_pid_stat(5), in ticks; `fields` starts at field 3.
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no CLK_TCK")?;
    Ok(ticks(14).zip(ticks(15)).map(|(user, system)| user + system).context("no CPU time in stat")? / per_second as f64)
}

/// What a set of processes has used up.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Usage {
    threads: BTreeMap<(u32, String), Thread>,
    written: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Thread {
    cpu_ns: f64,
    switches: f64,
}

impl Thread {
    fn of(pid: u32, tid: &str) -> Result<Thread> {
        let schedstat = read(pid, &format!("task/{tid}/schedstat"))?;
        let cpu_ns = schedstat.split(' ').next().and_then(|n| n.parse().ok()).context("no CPU time in schedstat")?;
        let status = read(pid, &format!("task/{tid}/status"))?;
        let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
            .map(|key| field(&status, key).unwrap_or_default());
        Ok(Thread { cpu_ns, switches: switches.iter().sum() })
    }
}

/// What was used between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Used {
    /// CPU time, user and system, in seconds.
    pub(crate) cpu_seconds: f64,
    /// How often a thread slept or was put to sleep: at least once per wake-up.
    pub(crate) switches: f64,
    /// Bytes given to write(2) and its kin, for whatever file, pipe, socket or eventfd.
    pub(crate) written: f64,
}

impl Usage {
    /// Reads the counters of all threads of these processes.
    ///
    /// # Errors
    /// When a process is gone.
    pub(crate) fn of(pids: &[u32]) -> Result<Usage> {
        let mut usage = Usage::default();
        for &pid in pids {
            usage.written += field(&read(pid, "io")?, "wchar:").with_context(|| format!("/proc/{pid}/io: no wchar"))?;
            for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))? {
                let tid = task?.file_name().to_string_lossy().into_owned();
                match Thread::of(pid, &tid) {
                    Ok(thread) => drop(usage.threads.insert((pid, tid), thread)),
                    // One of the others has ended since the directory was read.
                    Err(err) if tid != pid.to_string() && is_gone(&err) => {}
                    Err(err) => return Err(err),
                }
            }
        }
        Ok(usage)
    }

    /// What was used since `earlier`. A thread that has ended since does not count.
    pub(crate) fn since(&self, earlier: &Usage) -> Used {
        let (mut cpu_ns, mut switches) = (0.0, 0.0);
        for (id, now) in &self.threads {
            let before = earlier.threads.get(id).copied().unwrap_or_default();
            cpu_ns += now.cpu_ns - before.cpu_ns;
            switches += now.switches - before.switches;
        }
        Used { cpu_seconds: cpu_ns / 1e9, switches, written: self.written - earlier.written }
    }
}

/// Whether what was read belongs to a thread that is no more: there is no file, or the open one answers ESRCH.
fn is_gone(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|err| err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(Errno::ESRCH as i32))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).context(path)
}

fn field(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn memory_is_read_from_proc() {
        // A process whose memory does not shrink between the two readings, as that of this one may.
        let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (pss, rss) = (pss_kib(other.id()).unwrap(), rss_kib(other.id()).unwrap());
        drop(other.stdin.take());
        other.wait().unwrap();
        assert!(pss > 0.0 && rss >= pss, "{pss} {rss}");
        assert_eq!(field("Pss:   120 kB\nPss_Dirty: 7 kB", "Pss:"), Some(120.0));
    }

    #[test]
    fn work_between_two_readings_is_seen() {
        let pid = [std::process::id()];
        let before = Usage::of(&pid).unwrap();
        // Until it has had the processor for that long, however many others want it.
        let begun = cpu_seconds(pid[0]).unwrap();
        while cpu_seconds(pid[0]).unwrap() - begun < 0.03 {}
        fs::File::create("/dev/null").unwrap().write_all(&[0; 1000]).unwrap();
        let used = Usage::of(&pid).unwrap().since(&before);
        assert!(used.cpu_seconds > 0.005 && used.written >= 1000.0, "{used:?}");
        assert!((0.01..3600.0).contains(&cpu_seconds(std::process::id()).unwrap()));
    }

    #[test]
    fn a_thread_that_is_gone_is_told_from_other_errors() {
        // No thread of this process has the number 0.
        assert!(is_gone(&Thread::of(std::process::id(), "0").unwrap_err()));
        assert!(!is_gone(&anyhow::anyhow!("no CPU time in schedstat")));
    }

    #[test]
    fn a_new_thread_counts_from_its_start() {
        let thread = |cpu_ns| Thread { cpu_ns, switches: 1.0 };
        let earlier = Usage { threads: [((1, "1".into()), thread(5e9))].into(), written: 10.0 };
        let now =
            Usage { threads: [((1, "1".into()), thread(6e9)), ((1, "2".into()), thread(2e9))].into(), written: 15.0 };
        assert_eq!(now.since(&earlier), Used { cpu_seconds: 3.0, switches: 1.0, written: 5.0 });
    }
}
