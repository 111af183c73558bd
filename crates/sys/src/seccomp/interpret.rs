//! What the kernel would do with a call, from the filter's instructions.

use libc::sock_filter;

use super::bpf::{AND, ARCH, ARGS, AT_LEAST, EQUAL, GREATER, JUMP, LOAD, NUMBER, RETURN};

/// Scratch memory, which libseccomp's programs use and ours do not.
const STORE: u16 = (libc::BPF_ST) as u16;
const RECALL: u16 = (libc::BPF_LD | libc::BPF_MEM) as u16;

/// A system call as the kernel shows it to a filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// `AUDIT_ARCH_*`.
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, at: u32) -> Option<u32> {
        match at {
            NUMBER => Some(self.number),
            ARCH => Some(self.arch),
            _ => {
                let offset = at.checked_sub(ARGS)?;
                let arg = self.args.get((offset / 8) as usize)?;
                let first = offset.is_multiple_of(8) == cfg!(target_endian = "little");
                Some(if first { *arg as u32 } else { (arg >> 32) as u32 })
            }
        }
    }
}

/// The program's verdict on a call, and how many instructions it takes; `None` for what compilers of filters do not write.
pub(super) fn interpret(program: &[sock_filter], call: &Call) -> Option<(u32, usize)> {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    let mut scratch = [0u32; 16];
    // It ends, since jumps lead forward only.
    loop {
        let sock_filter { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        steps += 1;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            LOAD => accumulator = call.word(k)?,
            AND => accumulator &= k,
            RETURN => return Some((k, steps)),
            JUMP => at += k as usize,
            EQUAL => at += branch(accumulator == k),
            GREATER => at += branch(accumulator > k),
            AT_LEAST => at += branch(accumulator >= k),
            STORE => *scratch.get_mut(k as usize)? = accumulator,
            RECALL => accumulator = *scratch.get(k as usize)?,
            _ => return None,
        }
    }
}
