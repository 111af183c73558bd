//! The steps for labels of the kernel's security modules.
//!
//! A label is asked for in `/proc/self/attr`, to be taken at execve(2). That has to be the host's `/proc`: one that the
//! container's configuration or image has put in its place could swallow the request (CVE-2019-16884). By the time of the request the
//! host's is gone, so it is kept open.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use podwright_sys::procfs::Proc;

use super::{Progress, Result, StepError, errno_of, kernel};
use crate::plan::{SecurityModule, Step};

pub(super) fn apply(progress: &mut Progress<'_>, step: &Step) -> Result<()> {
    match step {
        Step::FindModule { module, field } => find(progress, *module, field),
        Step::Label { module, label } => {
            let proc = progress.proc.as_ref().ok_or(StepError::Misplaced)?;
            ask_for(proc, *module, label)
        }
        _ => Err(StepError::Misplaced),
    }
}

fn find(progress: &mut Progress<'_>, module: SecurityModule, field: &'static str) -> Result<()> {
    let (there, name) = match module {
        SecurityModule::AppArmor => (
            fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')),
            "AppArmor",
        ),
        // The file system is registered only when SELinux is enabled.
        SecurityModule::SeLinux => {
            (fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("\tselinuxfs\n")), "SELinux")
        }
    };
    if !there {
        return Err(StepError::NoModule { field, module: name });
    }
    if progress.proc.is_none() {
        progress.proc = Some(super::host_proc()?);
    }
    Ok(())
}

fn ask_for(proc: &Proc, module: SecurityModule, label: &str) -> Result<()> {
    let (names, text, field): (&[&str], _, _) = match module {
        // Modules that share the kernel with others have files of their own (Linux 5.8).
        SecurityModule::AppArmor => (&["apparmor/exec", "exec"], format!("exec {label}"), "process.apparmorProfile"),
        SecurityModule::SeLinux => (&["exec"], label.to_owned(), "process.selinuxLabel"),
    };
    let what = || format!("{field}: {label:?}");
    let open = |name: &&str| proc.file(&Path::new("self/attr").join(name), OFlag::O_WRONLY);
    let file =
        names.iter().map(open).find(|result| !matches!(result, Err(Errno::ENOENT))).unwrap_or(Err(Errno::ENOENT));
    let mut file = File::from(file.map_err(kernel(what()))?);
    file.write_all(text.as_bytes()).map_err(|err| kernel(what())(errno_of(&err)))
}
