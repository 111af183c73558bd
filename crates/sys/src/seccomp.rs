//! Seccomp filters: compiled into the kernel's classic BPF, loaded with seccomp(2) at another moment, maybe in another process.

mod compile;

use nix::errno::Errno;

/// Flag of seccomp(2): log all actions but "allow".
pub const FLAG_LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Flag of seccomp(2): do not force the speculative store bypass mitigation.
pub const FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// Flag of seccomp(2): all threads of the process.
pub const FLAG_TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An architecture that libseccomp does not know.
    #[error("unknown architecture {0}")]
    Architecture(String),
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGSYS ends the process.
    KillProcess,
    /// SIGSYS ends the thread.
    KillThread,
    /// The thread gets a SIGSYS that it can handle.
    Trap,
    /// The call fails with this errno.
    Errno(u16),
    /// A tracer is asked, and given this number.
    Trace(u16),
    /// It is done and logged.
    Log,
    /// It is done.
    Allow,
}

/// How an argument is compared, as an unsigned number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Equal in the bits of this mask.
    MaskedEqual(u64),
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compare {
    /// Which argument, 0 to 5.
    pub argument: u32,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: u64,
}

/// A rule: what happens to these system calls when all comparisons hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Names; those unknown to libseccomp are left out, since profiles name calls of newer kernels.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// Conditions on arguments, all of which must hold.
    pub compare: Vec<Compare>,
}

/// A profile in the terms of runtime-spec's `linux.seccomp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// For calls without a rule.
    pub default: Action,
    /// Names such as `SCMP_ARCH_X86`, besides the native one.
    pub architectures: Vec<String>,
    /// Flags for seccomp(2).
    pub flags: u32,
    /// The rules. Those with the default action say nothing and are left out.
    pub rules: Vec<Rule>,
}

/// A filter ready to be loaded.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
    flags: u32,
}

impl Profile {
    /// Compiles the profile.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(&self) -> Result<Program, CompileError> {
        Ok(Program { instructions: compile::compile(self)?, flags: self.flags })
    }
}

impl Program {
    /// Puts the calling thread under the filter, for good.
    ///
    /// # Errors
    /// EACCES with neither no_new_privs nor CAP_SYS_ADMIN; EINVAL for a flag that the kernel does not know.
    pub fn load(&self) -> nix::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.instructions.len()).map_err(|_| Errno::E2BIG)?,
            filter: self.instructions.as_ptr().cast_mut(),
        };
        // SAFETY: `program` points to `len` instructions owned by self; the kernel copies and checks them and writes nothing.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const program) };
        Errno::result(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_answers_for_the_kernel() {
        let rule = |name: &str, compare| Rule { names: vec![name.into()], action: Action::Errno(42), compare };
        let profile = Profile {
            default: Action::Allow,
            architectures: vec![],
            flags: 0,
            rules: vec![
                rule("getppid", vec![]),
                rule("dup3", vec![Compare { argument: 0, operator: Operator::Equal, value: 77 }]),
                rule("a_call_of_the_future", vec![]),
            ],
        };
        let program = profile.compile().unwrap();
        // A filter stays on its thread for ever, so the thread is thrown away.
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            program.load().unwrap();
            // SAFETY: these calls take integers only; the descriptors do not exist.
            let call = |number, arg: i32| Errno::result(unsafe { libc::syscall(number, arg, arg, 0) });
            (call(libc::SYS_getppid, 0), call(libc::SYS_dup3, 77), call(libc::SYS_dup3, 78))
        });
        let (getppid, filtered, other) = thread.join().unwrap();
        assert_eq!(getppid, Err(Errno::ENOMSG));
        assert_eq!(filtered, Err(Errno::ENOMSG));
        assert_eq!(other, Err(Errno::EINVAL));
    }

    #[test]
    fn an_unknown_architecture_is_an_error() {
        let profile =
            Profile { default: Action::Allow, architectures: vec!["SCMP_ARCH_PDP11".into()], flags: 0, rules: vec![] };
        let error = profile.compile().unwrap_err();
        assert_eq!(error.to_string(), "unknown architecture SCMP_ARCH_PDP11");
    }
}
