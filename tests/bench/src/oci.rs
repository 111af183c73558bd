//! One container from start to end: `podwright-oci run` beside crun, runc and unshare(1), on one bundle.

use anyhow::Result;

use crate::command::{Line, word};
use crate::samples::{Samples, Turn, interleave};
use crate::setup::Setup;

/// Fills `oci_run_ms`, `crun_run_ms`, `runc_run_ms` and `unshare_ms`.
///
/// # Errors
/// When a runtime fails.
pub(crate) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let own = setup.program("podwright-oci");
    let subjects = [
        ("oci_run_ms", run(setup, &own.to_string_lossy())?),
        ("crun_run_ms", run(setup, "crun")?),
        ("runc_run_ms", run(setup, "runc")?),
        ("unshare_ms", unshare(setup)?),
    ];
    let mut turns = subjects.map(|(key, line)| (key, turn(key, line)));
    interleave(setup.oci_rounds, &mut turns, samples)
}

/// `RUNTIME run` on the bundle `true`. All runtimes are called alike.
pub(crate) fn run(setup: &Setup, runtime: &str) -> Result<Line> {
    let bundle = setup.true_bundle()?;
    let name = runtime.rsplit('/').next().unwrap_or(runtime);
    let root = setup.scratch.join("runtime").join(name);
    std::fs::create_dir_all(&root)?;
    Ok(Line::new([
        runtime.into(),
        "--root".into(),
        word(&root),
        "run".into(),
        "--bundle".into(),
        word(&bundle),
        "true".into(),
    ]))
}

/// A turn that runs the command and keeps its time under `key`.
pub(crate) fn turn(key: &'static str, line: Line) -> Turn<'static> {
    Box::new(move |samples| {
        samples.add(key, line.time()?);
        Ok(())
    })
}

/// The bundle's namespaces, its program and its /proc, and nothing else of what a runtime has to do.
fn unshare(setup: &Setup) -> Result<Line> {
    let root = setup.true_bundle()?.join("rootfs");
    let flags = ["unshare", "--fork", "--pid", "--mount", "--ipc", "--net", "--uts", "--mount-proc"].map(Into::into);
    Ok(Line::new(flags.into_iter().chain(["--root".into(), word(&root), "/bin/true".into()])))
}
