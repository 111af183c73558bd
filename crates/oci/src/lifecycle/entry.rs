//! `entry.json` in a container's state directory: how a further process of it is made, for who runs many of them (probes) and
//! cannot afford an `exec` each time. It is what `exec` would do, written down; where it cannot be, there is no such file.

use oci_spec::runtime::Spec;
use podwright_sys::enter::{self, Entry};
use podwright_sys::seccomp::Program as Filter;

use crate::error::{Result, file};
use crate::plan::{self, Step};
use crate::state::{StateDir, replace};

/// Its name.
const FILE: &str = "entry.json";

/// Writes it, if what `exec` would do can be said so.
pub(super) fn write(dir: &StateDir, id: &str, spec: &Spec, filter: Option<&Filter>) -> Result<()> {
    let Some(process) = spec.process() else { return Ok(()) };
    let Ok(plan) = plan::exec(spec, process) else { return Ok(()) };
    if plan.first_affinity.is_some() || plan.listener.is_some() {
        return Ok(());
    }
    let Some(entry) = entry(&plan.steps, id, filter) else { return Ok(()) };
    let path = dir.path().join(FILE);
    let text = serde_json::to_vec(&entry).map_err(std::io::Error::from).map_err(file("write", &path))?;
    replace(&path, &text)
}

fn entry(steps: &[Step], id: &str, filter: Option<&Filter>) -> Option<Entry> {
    let mut env = Vec::new();
    let mut done = Vec::with_capacity(steps.len());
    for step in steps {
        done.push(match step {
            Step::OomScoreAdj(value) => enter::Step::OomScoreAdj(*value),
            Step::SessionKeyring => enter::Step::SessionKeyring(format!("_ses.{id}")),
            Step::EnterContainer(kinds) if *kinds == enter::NAMESPACES => enter::Step::Enter,
            // There is no runtime to wait for.
            Step::Await(_) => continue,
            Step::NewSession => enter::Step::NewSession,
            Step::OwnStdio(uid) => enter::Step::OwnStdio(*uid),
            Step::Rlimit { resource, soft, hard } => enter::Step::Rlimit(*resource, *soft, *hard),
            Step::CloseDescriptors => enter::Step::CloseDescriptors,
            Step::ResetSignals => enter::Step::ResetSignals,
            Step::Chdir(path) => enter::Step::Chdir(path.clone()),
            Step::Umask(mask) => enter::Step::Umask(*mask),
            Step::LimitBounding(keep) => enter::Step::LimitBounding(*keep),
            Step::SwitchUser { uid, gid, groups } => enter::Step::SwitchUser(*uid, *gid, groups.clone()),
            Step::LoadFilter => enter::Step::LoadFilter,
            Step::Capabilities { effective, permitted, inheritable, ambient } => {
                enter::Step::Capabilities(*effective, *permitted, *inheritable, *ambient)
            }
            Step::NoNewPrivileges => enter::Step::NoNewPrivileges,
            Step::Exec(program) => {
                env.clone_from(&program.env);
                continue;
            }
            _ => return None,
        });
    }
    let filter_flags = filter.map_or(0, Filter::flags);
    let filter = filter.map(Filter::words).unwrap_or_default();
    Some(Entry { version: enter::VERSION, steps: done, env, filter, filter_flags })
}
