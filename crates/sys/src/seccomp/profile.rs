//! A profile: what happens to which system calls, in the terms of runtime-spec's `linux.seccomp`.

/// Flag of seccomp(2): log all actions but "allow".
pub const FLAG_LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Flag of seccomp(2): do not force the speculative store bypass mitigation.
pub const FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// Flag of seccomp(2): all threads of the process.
pub const FLAG_TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;

/// Flag of seccomp(2), for a filter with a listener: once that has received a notification, only a fatal signal interrupts
/// the call (Linux 5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;
/// Makes a listener (Linux 5.0).
pub(super) const FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;

/// `BPF_MAXINSNS` (linux/bpf_common.h).
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An architecture that the specification does not know.
    #[error("unknown architecture {0}")]
    Architecture(String),
    /// More instructions than the kernel takes.
    #[error("the profile is too long: it takes {0} instructions, and the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
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
    /// A listener is asked.
    Notify,
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

impl Profile {
    /// Whether a listener can be asked.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.default == Action::Notify || self.rules.iter().any(|rule| rule.action == Action::Notify)
    }
}
