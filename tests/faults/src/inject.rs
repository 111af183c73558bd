//! Which call fails. Pure: the same calls in the same order get the same answers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use nix::errno::Errno;

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// podwrightd.
    Agent,
    /// podwright-shim.
    Shim,
    /// podwright-oci, before it becomes the container's process.
    Runtime,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Makes a file, a directory, a link, a socket's name, or opens a file so that it may be made.
    Create,
    /// Opens a file that is there, to be written.
    OpenToWrite,
    /// Opens a file that is there, to be read.
    OpenToRead,
    /// Writes to a file.
    Write,
    /// Makes a file durable.
    Sync,
    /// Renames.
    Rename,
    /// Changes a file's length.
    Truncate,
    /// Removes a name.
    Remove,
    /// Changes owner, mode or times.
    Attribute,
    /// Makes a descriptor of something else than a file.
    Descriptor,
    /// Makes a process or a thread.
    Process,
    /// Waits for descriptors.
    Wait,
}

/// A call of the agent or of a shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whose.
    pub program: Program,
    /// Which, as the kernel names it.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// The file, if it is about one.
    pub path: Option<PathBuf>,
    /// Whether that is below the directories for state, log and run.
    pub inside: bool,
}

/// The errors that are tried.
pub const ERRORS: [Errno; 7] =
    [Errno::ENOSPC, Errno::EIO, Errno::EROFS, Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM];

/// Whether the kernel could give a call this error.
pub fn can_fail(call: &Call, errno: Errno) -> bool {
    use Kind::{
        Attribute, Create, Descriptor, OpenToRead, OpenToWrite, Process, Remove, Rename, Sync, Truncate, Wait, Write,
    };
    match errno {
        Errno::EMFILE | Errno::ENFILE => match call.kind {
            // Names are made without a descriptor.
            Create => call.name.starts_with("open"),
            kind => matches!(kind, OpenToRead | OpenToWrite | Descriptor),
        },
        // A limit on processes: pids.max, RLIMIT_NPROC, threads-max.
        Errno::EAGAIN => call.kind == Process,
        Errno::ENOMEM => matches!(call.kind, Wait | Create | OpenToRead | OpenToWrite | Rename | Descriptor),
        _ if !call.inside => false,
        // A name can always be removed from a disk that is full.
        Errno::ENOSPC => matches!(call.kind, Create | Write | Sync | Rename),
        Errno::EROFS => {
            matches!(call.kind, Create | OpenToWrite | Write | Rename | Truncate | Remove | Attribute)
        }
        _ => matches!(call.kind, Create | OpenToRead | Write | Sync | Rename | Truncate | Remove),
    }
}

/// How long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The one call fails.
    Once,
    /// It and all after it fail, until the fault is lifted.
    Until,
}

/// The fault of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Of the calls that can fail with the error, which one is the first to do so; the first is 1.
    pub n: u64,
    /// With what.
    pub errno: Errno,
    /// How long.
    pub mode: Mode,
}

impl Plan {
    /// What the call with this number, counted among those that can fail, gets.
    pub fn answer(&self, number: u64, lifted: bool) -> Option<Errno> {
        let fails = match self.mode {
            Mode::Once => number == self.n,
            Mode::Until => number >= self.n && !lifted,
        };
        fails.then_some(self.errno)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Once => "once",
            Mode::Until => "until",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "once" => Ok(Mode::Once),
            "until" => Ok(Mode::Until),
            _ => Err(format!("{text:?} is no mode; accepted are once and until")),
        }
    }
}

/// One of [`ERRORS`] by its name.
///
/// # Errors
/// For any other name.
pub fn errno(name: &str) -> Result<Errno, String> {
    let found = ERRORS.into_iter().find(|errno| format!("{errno:?}") == name);
    found.ok_or_else(|| {
        format!("{name:?} is not tried; accepted are {}", ERRORS.map(|errno| format!("{errno:?}")).join(", "))
    })
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = match self.program {
            Program::Agent => "podwrightd",
            Program::Shim => "podwright-shim",
            Program::Runtime => "podwright-oci",
        };
        write!(f, "{program} {}", self.name)?;
        self.path.as_ref().map_or(Ok(()), |path| write!(f, " {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &'static str, kind: Kind, inside: bool) -> Call {
        Call { program: Program::Agent, name, kind, path: None, inside }
    }

    #[test]
    fn only_what_the_kernel_could_say() {
        let table = [
            (call("openat", Kind::Create, true), [true, true, true, true, true, false, true]),
            (call("mkdir", Kind::Create, true), [true, true, true, false, false, false, true]),
            (call("openat", Kind::Create, false), [false, false, false, true, true, false, true]),
            (call("openat", Kind::OpenToRead, true), [false, true, false, true, true, false, true]),
            (call("openat", Kind::OpenToRead, false), [false, false, false, true, true, false, true]),
            (call("write", Kind::Write, true), [true, true, true, false, false, false, false]),
            (call("write", Kind::Write, false), [false; 7]),
            (call("fsync", Kind::Sync, true), [true, true, false, false, false, false, false]),
            (call("unlink", Kind::Remove, true), [false, true, true, false, false, false, false]),
            (call("pipe2", Kind::Descriptor, false), [false, false, false, true, true, false, true]),
            (call("clone3", Kind::Process, false), [false, false, false, false, false, true, false]),
            (call("poll", Kind::Wait, false), [false, false, false, false, false, false, true]),
        ];
        for (call, wanted) in table {
            assert_eq!(ERRORS.map(|errno| can_fail(&call, errno)), wanted, "{call}");
        }
    }

    #[test]
    fn once_and_until() {
        let once = Plan { n: 3, errno: Errno::EIO, mode: Mode::Once };
        let until = Plan { mode: Mode::Until, ..once };
        let answers = |plan: &Plan, lifted| (1..=5).map(|n| plan.answer(n, lifted).is_some()).collect::<Vec<_>>();
        assert_eq!(answers(&once, false), [false, false, true, false, false]);
        assert_eq!(answers(&until, false), [false, false, true, true, true]);
        assert_eq!(answers(&until, true), [false; 5]);
        assert_eq!(errno("EROFS"), Ok(Errno::EROFS));
        assert!(errno("EPERM").is_err() && "always".parse::<Mode>().is_err());
    }
}
