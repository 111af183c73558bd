//! The architectures whose system calls a filter on this host may meet.

use libseccomp::ScmpArch;

/// An architecture whose calls this host's kernel may see.
pub(super) struct Arch {
    pub(super) scmp: ScmpArch,
    /// `AUDIT_ARCH_*`.
    pub(super) audit: u32,
    /// Whether arguments have 64 bits.
    pub(super) wide: bool,
}

#[cfg(target_arch = "x86_64")]
pub(super) const ARCHES: [Arch; 3] = [
    Arch { scmp: ScmpArch::X8664, audit: 0xc000_003e, wide: true },
    Arch { scmp: ScmpArch::X32, audit: 0xc000_003e, wide: true },
    Arch { scmp: ScmpArch::X86, audit: 0x4000_0003, wide: false },
];
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHES: [Arch; 2] = [
    Arch { scmp: ScmpArch::Aarch64, audit: 0xc000_00b7, wide: true },
    Arch { scmp: ScmpArch::Arm, audit: 0x4000_0028, wide: false },
];

/// `AUDIT_ARCH_*` of this host.
pub(super) const NATIVE: u32 = ARCHES[0].audit;
