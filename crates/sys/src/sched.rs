//! What a process sets for its use of processors, memory nodes and disks: sched(7), ioprio_set(2), set_mempolicy(2), personality(2).

use std::mem::size_of;

use nix::errno::Errno;

/// How a process is scheduled: `struct sched_attr` (sched_setattr(2)), as far as every kernel with that call knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, of the policies without priority.
    pub nice: i32,
    /// Priority, of the real-time policies.
    pub priority: u32,
    /// Nanoseconds of a period; this and the next two of SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Sets the scheduling policy of the calling thread, which its children inherit.
///
/// # Errors
/// sched_setattr(2)'s: EPERM for what takes CAP_SYS_NICE, EBUSY where the processors' time is promised already.
pub fn set_attributes(attributes: Attributes) -> nix::Result<()> {
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = attributes;
    let mut raw = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy,
        sched_flags: flags,
        sched_nice: nice,
        sched_priority: priority,
        sched_runtime: runtime,
        sched_deadline: deadline,
        sched_period: period,
    };
    // SAFETY: the kernel reads as many bytes as `size` says, which are the struct's, and may write that field. The struct outlives the
    // call; the rest are integers.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut raw, 0) };
    Errno::result(result).map(drop)
}

/// Restricts the calling thread, and its children, to these processors.
///
/// # Errors
/// sched_setaffinity(2)'s: EINVAL when none of them is there and allowed.
pub fn set_affinity(processors: &[u32]) -> nix::Result<()> {
    let mask = bits(processors);
    let length = mask.len() * size_of::<u64>();
    // SAFETY: the kernel reads `length` bytes, which are the vector's, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, length, mask.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Processors as a mask in hexadecimal, `0x3` for the first two.
#[must_use]
pub fn mask(processors: &[u32]) -> String {
    let words = bits(processors);
    let digits: String = words.iter().rev().map(|word| format!("{word:016x}")).collect();
    let digits = digits.trim_start_matches('0');
    format!("0x{}", if digits.is_empty() { "0" } else { digits })
}

/// Sets class (1 real-time, 2 best effort, 3 idle) and level of the calling thread's disk accesses.
///
/// # Errors
/// ioprio_set(2)'s: EPERM for what takes CAP_SYS_NICE.
pub fn set_io_priority(class: u16, level: u16) -> nix::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u16 = 13;
    let value = libc::c_int::from(class << CLASS_SHIFT | level);
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// Sets the policy by which the calling thread and its children get memory: a mode and flags of set_mempolicy(2), and nodes.
///
/// # Errors
/// set_mempolicy(2)'s: EINVAL for nodes that are not there, or modes and flags that exclude each other.
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> nix::Result<()> {
    let mask = bits(nodes);
    let (pointer, count) = match nodes {
        [] => (std::ptr::null(), 0),
        // The kernel reads one bit less than it is told (set_mempolicy(2), "BUGS").
        _ => (mask.as_ptr(), mask.len() * 64 + 1),
    };
    // SAFETY: the kernel reads `count` - 1 bits through the pointer, which are the vector's; null goes with 0.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, count) };
    Errno::result(result).map(drop)
}

/// Sets the execution domain of the calling thread, which its children inherit.
///
/// # Errors
/// personality(2)'s.
pub fn set_personality(persona: u32) -> nix::Result<()> {
    // SAFETY: takes an integer only.
    Errno::result(unsafe { libc::personality(persona.into()) }).map(drop)
}

/// The set of these numbers, a bit each.
fn bits(numbers: &[u32]) -> Vec<u64> {
    let words = numbers.iter().max().map_or(0, |max| *max as usize / 64 + 1);
    let mut mask = vec![0; words];
    for number in numbers {
        mask[*number as usize / 64] |= 1 << (number % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_the_first_processor_last() {
        for (list, expected) in [(&[][..], "0x0"), (&[0, 1], "0x3"), (&[4], "0x10"), (&[0, 64], "0x10000000000000001")]
        {
            assert_eq!(mask(list), expected);
        }
    }

    #[test]
    fn numbers_are_bits() {
        assert_eq!(bits(&[]), Vec::<u64>::new());
        assert_eq!(bits(&[0, 63, 65]), [1 << 63 | 1, 2]);
    }

    #[test]
    fn a_thread_sets_its_own() {
        std::thread::spawn(|| {
            set_affinity(&[0]).unwrap();
            let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(text.contains("Cpus_allowed_list:\t0\n"), "{text}");
            assert_eq!(set_affinity(&[]).unwrap_err(), Errno::EINVAL);
            set_attributes(Attributes { policy: libc::SCHED_BATCH as u32, nice: 3, ..Attributes::default() }).unwrap();
            // SAFETY: takes an integer only.
            assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_BATCH);
            set_io_priority(2, 7).unwrap();
            // SAFETY: takes integers only.
            assert_eq!(unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }, 2 << 13 | 7);
            set_memory_policy(3, &[0]).unwrap();
            assert_eq!(set_memory_policy(2, &[]).unwrap_err(), Errno::EINVAL);
            set_personality(8).unwrap();
            // SAFETY: takes an integer only.
            assert_eq!(unsafe { libc::personality(0xffff_ffff) }, 8);
        })
        .join()
        .unwrap();
    }
}
