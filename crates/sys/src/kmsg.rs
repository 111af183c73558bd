//! What the kernel's log says of processes that were killed for memory.

/// How much of the end of the log is read, bytes: several reports, each with a list of the cgroup's tasks.
const TAIL: usize = 128 << 10;

/// `SYSLOG_ACTION_READ_ALL` of syslog(2): the last messages, without taking them away from other readers.
const READ_ALL: libc::c_int = 3;

/// One kill for memory, from the line that begins with `oom-kill:` (`mm/oom_kill.c`, `dump_oom_victim`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKill {
    /// The process that was chosen, in the host's numbering.
    pub pid: i32,
    /// Its name (`comm`).
    pub name: String,
    /// Its cgroup, from the root of the hierarchy.
    pub cgroup: String,
    /// The cgroup whose limit was reached; `None`: the machine's memory was used up.
    pub limit: Option<String>,
}

/// The newest kill in a cgroup (a path from the root of the hierarchy) or below it. `None`: the log does not tell, be it
/// that the kernel has left the report out (it writes at most ten in five seconds) or that the log may not be read.
#[must_use]
pub fn newest_oom_kill(cgroup: &str) -> Option<OomKill> {
    newest(&tail().ok()?, cgroup)
}

fn tail() -> nix::Result<String> {
    let mut buffer = vec![0u8; TAIL];
    let length = libc::c_int::try_from(buffer.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `length` bytes to the buffer, which is that long and lives through the call.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    buffer.truncate(usize::try_from(nix::errno::Errno::result(read)?).unwrap_or(0));
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

fn newest(log: &str, cgroup: &str) -> Option<OomKill> {
    let below = |path: &str| path.strip_prefix(cgroup).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    log.lines().rev().filter_map(parse).find(|kill| below(&kill.cgroup))
}

/// `… oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=x,pid=7,uid=0`
fn parse(line: &str) -> Option<OomKill> {
    let (_, report) = line.split_once("oom-kill:")?;
    let (_, report) = report.split_once("constraint=")?;
    // A name may hold commas, so it is taken from both its ends.
    let (head, task) = report.split_once(",task_memcg=")?;
    let (cgroup, task) = task.split_once(",task=")?;
    let (name, numbers) = task.rsplit_once(",pid=")?;
    let pid = numbers.split(',').next()?.parse().ok()?;
    let limit = head.split_once(",oom_memcg=").map(|(_, path)| path.to_owned());
    Some(OomKill { pid, name: name.to_owned(), cgroup: cgroup.to_owned(), limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
<4>[   10.000000] eater invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=1000
<6>[   10.100000] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=app,mems_allowed=0,oom_memcg=/p/pod1/app,task_memcg=/p/pod1/app,task=a,b,pid=41,uid=0
<3>[   10.200000] Memory cgroup out of memory: Killed process 41 (a,b) total-vm:1kB, anon-rss:1kB
<6>[   11.100000] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=app,mems_allowed=0,oom_memcg=/p/pod1,task_memcg=/p/pod1/app/inner,task=eater,pid=42,uid=0
<6>[   12.100000] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/p/pod1/app2,task=big,pid=43,uid=1000
";

    #[test]
    fn the_newest_of_a_cgroup_is_found() {
        let kill = newest(LOG, "/p/pod1/app").unwrap();
        assert_eq!((kill.pid, kill.name.as_str(), kill.limit.as_deref()), (42, "eater", Some("/p/pod1")));
        let kill = newest(LOG, "/p/pod1/app2").unwrap();
        assert_eq!((kill.pid, kill.limit), (43, None));
        let earlier: String = LOG.split_inclusive('\n').take(3).collect();
        let kill = newest(&earlier, "/p/pod1/app").unwrap();
        assert_eq!((kill.pid, kill.name.as_str(), kill.limit.as_deref()), (41, "a,b", Some("/p/pod1/app")));
        assert_eq!(newest(LOG, "/p/pod1/ap"), None);
        assert_eq!(newest("", "/p"), None);
    }

    #[test]
    fn the_log_is_read_where_that_is_allowed() {
        match tail() {
            Ok(text) => assert!(text.is_empty() || text.contains('\n'), "{text:?}"),
            Err(errno) => assert_eq!(errno, nix::Error::EPERM),
        }
    }
}
