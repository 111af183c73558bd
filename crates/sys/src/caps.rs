//! Capabilities: capabilities(7).

use nix::errno::Errno;

/// Names by number, from `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CapSet(u64);

/// CAP_SYS_PTRACE alone: looking into any process that can be seen.
pub const SYS_PTRACE: CapSet = CapSet(1 << 19);
/// CAP_SYS_NICE alone.
pub const SYS_NICE: CapSet = CapSet(1 << 23);

impl CapSet {
    /// The set of these names, with or without `CAP_`.
    ///
    /// # Errors
    /// The first name that is unknown.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, String> {
        names.into_iter().try_fold(Self::default(), |set, name| {
            let name = name.as_ref();
            let bare = name.strip_prefix("CAP_").unwrap_or(name);
            let number = NAMES.iter().position(|known| *known == bare).ok_or_else(|| name.to_owned())?;
            Ok(Self(set.0 | 1 << number))
        })
    }

    /// All names with their `CAP_`, by number.
    pub fn known() -> impl Iterator<Item = String> {
        NAMES.iter().map(|name| format!("CAP_{name}"))
    }

    /// Whether all of `other` are in.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        other.without(self) == Self::default()
    }

    /// Whether the capability with this number is in.
    #[must_use]
    pub fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    /// Those that are in one or the other.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Their names with `CAP_`, by number.
    pub fn names(self) -> impl Iterator<Item = String> {
        (0..u64::BITS).filter(move |number| self.has(*number)).map(|number| match NAMES.get(number as usize) {
            Some(name) => format!("CAP_{name}"),
            None => format!("CAP_{number}"),
        })
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Drops from the bounding set what is not in `keep`.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn limit_bounding(keep: CapSet) -> nix::Result<()> {
    for number in (0..u64::BITS).filter(|number| !keep.has(*number)) {
        // SAFETY: takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        match Errno::result(result) {
            Ok(_) => {}
            // The kernel knows no capability with this number, nor any above.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits.
const VERSION_3: u32 = 0x2008_0522;

/// Sets the effective, permitted and inheritable sets of the calling thread.
///
/// # Errors
/// EPERM for a capability that the thread does not have.
pub fn set(effective: CapSet, permitted: CapSet, inheritable: CapSet) -> nix::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective.0 >> shift) as u32,
        permitted: (permitted.0 >> shift) as u32,
        inheritable: (inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 makes the kernel read exactly two elements; header and data outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    Errno::result(result).map(drop)
}

/// The calling thread's own sets: capget(2).
fn own() -> nix::Result<[Data; 2]> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [const { Data { effective: 0, permitted: 0, inheritable: 0 } }; 2];
    // SAFETY: version 3 makes the kernel write exactly two elements; header and data outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(data)
}

/// The calling thread's permitted set: what [`set`] can grant.
///
/// # Errors
/// capget(2)'s.
pub fn permitted() -> nix::Result<CapSet> {
    let [low, high] = own()?;
    Ok(CapSet(u64::from(high.permitted) << 32 | u64::from(low.permitted)))
}

/// Makes all permitted capabilities of the calling thread effective, as they were before a change of ids with "keep
/// capabilities" set.
///
/// # Errors
/// capget(2)'s and capset(2)'s.
pub fn raise_permitted() -> nix::Result<()> {
    let [low, high] = own()?;
    let both = |low: u32, high: u32| CapSet(u64::from(high) << 32 | u64::from(low));
    let permitted = both(low.permitted, high.permitted);
    set(permitted, permitted, both(low.inheritable, high.inheritable))
}

/// Makes `set` the ambient set: what a program without file capabilities keeps over execve(2).
///
/// # Errors
/// EPERM for one that is not both permitted and inheritable.
pub fn set_ambient(set: CapSet) -> nix::Result<()> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) })?;
    for number in (0..u64::BITS).filter(|number| set.has(*number)) {
        let (raise, number) = (libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, libc::c_ulong::from(number));
        // SAFETY: takes integers only.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0, 0) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers() {
        let set = CapSet::from_names(["CAP_CHOWN", "SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]).unwrap();
        assert!(set.has(0) && set.has(21) && set.has(40) && !set.has(1));
        assert_eq!(CapSet::from_names(["CAP_NONSENSE"]), Err("CAP_NONSENSE".to_owned()));
        assert_eq!(libc::c_int::try_from(CapSet::known().count()).unwrap(), 41);
    }
}
