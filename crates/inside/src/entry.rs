//! `entry.json` in a container's state directory: how a further process of it is made, for who makes many of them (probes) and
//! cannot afford the runtime's `exec` each time.

use podwright_sys::caps;
use podwright_sys::seccomp::Program as Filter;
use serde::{Deserialize, Serialize};

use crate::step::Step;

/// Version of [`Entry`] as a file. Who does not know it calls the runtime's `exec`.
pub const VERSION: u32 = 2;

/// Its name.
pub const FILE: &str = "entry.json";

/// What `exec` would do, written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// What the process does before its program, in order.
    pub steps: Vec<Step>,
    /// Its environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// The seccomp filter's instructions; empty: there is none.
    pub filter: Vec<u64>,
    /// Flags of the filter.
    pub filter_flags: u32,
}

impl Entry {
    /// With all steps up to the program, whose environment is the container's.
    #[must_use]
    pub fn new(steps: Vec<Step>, env: Vec<String>, filter: Option<&Filter>) -> Entry {
        let filter_flags = filter.map_or(0, Filter::flags);
        let filter = filter.map(Filter::words).unwrap_or_default();
        Entry { version: VERSION, steps, env, filter, filter_flags }
    }

    /// The filter that [`Step::LoadFilter`] loads.
    #[must_use]
    pub fn filter(&self) -> Option<Filter> {
        Filter::from_words(&self.filter, self.filter_flags)
    }

    /// Whether the container's processes may trace others, whatever these have done to prevent it (CAP_SYS_PTRACE): then what
    /// enters must have nothing that the container may not have, from its first moment on. [`crate::spawn()`] does not see to that.
    #[must_use]
    pub fn lets_trace(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::LimitBounding(keep) if keep.contains(caps::SYS_PTRACE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;
    use nix::sched::CloneFlags;
    use podwright_sys::caps::CapSet;
    use podwright_sys::sched::Attributes;

    #[test]
    fn what_is_written_is_read_again() {
        let all = vec![
            Step::OomScoreAdj(-5),
            Step::SessionKeyring("_ses.a".into()),
            Step::DropGroups,
            Step::RaiseLimit { resource: 7, hard: 9 },
            Step::Enter(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP),
            Step::Affinity(vec![0, 3]),
            Step::NewSession,
            Step::OwnStdio(7),
            Step::Scheduler(Attributes { policy: 3, nice: -2, ..Attributes::default() }),
            Step::IoPriority { class: 2, level: 4 },
            Step::MemoryPolicy { mode: 3, nodes: vec![1] },
            Step::Personality(8),
            Step::Rlimit { resource: 7, soft: 8, hard: 9 },
            Step::CloseDescriptors,
            Step::ResetSignals,
            Step::Chdir("/a b".into()),
            Step::Umask(0o22),
            Step::LimitBounding(CapSet::from_names(["KILL"]).unwrap()),
            Step::SwitchUser { uid: 1, gid: 2, groups: vec![3] },
            Step::LoadFilter,
            Step::Capabilities {
                effective: CapSet::from_names(["KILL"]).unwrap(),
                permitted: CapSet::default(),
                inheritable: CapSet::default(),
                ambient: CapSet::default(),
            },
            Step::KeepCapabilities(CapSet::default()),
            Step::NoNewPrivileges,
            Step::Exec(Program { args: vec!["a".into()], env: vec!["B=c".into()] }),
        ];
        let entry = Entry { filter: vec![1, 2], filter_flags: 4, ..Entry::new(all, vec!["A=b".into()], None) };
        let text = serde_json::to_vec(&entry).unwrap();
        assert_eq!(serde_json::from_slice::<Entry>(&text).unwrap(), entry);
        assert!(!entry.lets_trace());
        let bounding = CapSet::from_names(["KILL", "SYS_PTRACE"]).unwrap();
        assert!(Entry::new(vec![Step::LimitBounding(bounding)], vec![], None).lets_trace());
    }

    #[test]
    fn numbers_that_are_no_namespaces_are_refused() {
        let read = |text: &str| serde_json::from_str::<Step>(text);
        assert_eq!(read(r#"{"enter": 131072}"#).unwrap(), Step::Enter(CloneFlags::CLONE_NEWNS));
        assert!(read(r#"{"enter": 1}"#).unwrap_err().to_string().contains("0x1 are no kinds of namespaces"));
    }
}
