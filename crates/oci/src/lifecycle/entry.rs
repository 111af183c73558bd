//! Writes down what `exec` would do, for who makes many processes in a container ([`Entry`]). Where that cannot be said in the steps
//! of [`podwright_inside`] alone, nothing is written.

use oci_spec::runtime::Spec;
use podwright_inside::{self as inside, Entry, FILE};
use podwright_sys::seccomp::Program as Filter;

use crate::error::{Result, file};
use crate::plan::{self, Step};
use crate::state::{StateDir, replace};

/// Writes it, if what `exec` would do can be said so.
pub(super) fn write(dir: &StateDir, id: &str, spec: &Spec, filter: Option<&Filter>) -> Result<()> {
    let Some(process) = spec.process() else { return Ok(()) };
    let Ok(plan) = plan::exec(spec, process, id) else { return Ok(()) };
    // Both are the runtime's own to do.
    if plan.first_affinity.is_some() || plan.listener.is_some() {
        return Ok(());
    }
    let Some(entry) = entry(plan.steps, filter) else { return Ok(()) };
    let path = dir.path().join(FILE);
    let text = serde_json::to_vec(&entry).map_err(std::io::Error::from).map_err(file("write", &path))?;
    replace(&path, &text)
}

fn entry(steps: Vec<Step>, filter: Option<&Filter>) -> Option<Entry> {
    let mut done = Vec::with_capacity(steps.len());
    let mut env = Vec::new();
    for step in steps {
        match step {
            // There is no runtime to wait for.
            Step::Await(_) => {}
            Step::Inside(inside::Step::Exec(program)) => env = program.env,
            Step::Inside(step) => done.push(step),
            _ => return None,
        }
    }
    Some(Entry::new(done, env, filter))
}
