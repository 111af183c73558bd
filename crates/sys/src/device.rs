//! Device access of a cgroup: an eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE` (cgroup-v2.rst, "Device controller").

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// Reading.
pub const READ: u32 = 2;
/// Writing.
pub const WRITE: u32 = 4;
/// mknod(2).
pub const MKNOD: u32 = 1;

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Block device.
    Block,
    /// Character device.
    Char,
}

/// A rule over devices. The last rule that fits an access decides; without one it is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// `None`: both kinds.
    pub kind: Option<Kind>,
    /// `None`: any.
    pub major: Option<u32>,
    /// `None`: any.
    pub minor: Option<u32>,
    /// Of [`READ`], [`WRITE`], [`MKNOD`].
    pub access: u32,
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: src << 4 | dst, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_CONST: u8 = 0xb7;
const AND_CONST: u8 = 0x57;
const SHIFT_RIGHT_CONST: u8 = 0x77;
const JUMP_NOT_EQUAL_CONST: u8 = 0x55;
const JUMP_NOT_EQUAL: u8 = 0x5d;
const JUMP_EQUAL_CONST: u8 = 0x15;
const EXIT: u8 = 0x95;

/// The registers of the program: result, scratch (the context at first), and the access asked for.
const RESULT: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn compile(rules: &[Rule]) -> Vec<Insn> {
    let mut program = vec![
        insn(LOAD_WORD, KIND, SCRATCH, 0, 0),
        insn(MOVE, ACCESS, KIND, 0, 0),
        insn(AND_CONST, KIND, 0, 0, 0xffff),
        insn(SHIFT_RIGHT_CONST, ACCESS, 0, 0, 16),
        insn(LOAD_WORD, MAJOR, SCRATCH, 4, 0),
        insn(LOAD_WORD, MINOR, SCRATCH, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let block = compile_rule(rule);
        let unconditional = block.len() == 2;
        program.extend(block);
        if unconditional {
            // The verifier refuses code that cannot be reached.
            return program;
        }
    }
    program.extend([insn(MOVE_CONST, RESULT, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    program
}

fn compile_rule(rule: &Rule) -> Vec<Insn> {
    let mut tests = Vec::new();
    if let Some(kind) = rule.kind {
        let number = match kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        tests.push(insn(JUMP_NOT_EQUAL_CONST, KIND, 0, 0, number));
    }
    if rule.access & (READ | WRITE | MKNOD) != READ | WRITE | MKNOD {
        tests.push(insn(MOVE, SCRATCH, ACCESS, 0, 0));
        tests.push(insn(AND_CONST, SCRATCH, 0, 0, rule.access.cast_signed()));
        // An allowance must cover all that is asked for; a denial hits when it covers any of it.
        tests.push(if rule.allow {
            insn(JUMP_NOT_EQUAL, SCRATCH, ACCESS, 0, 0)
        } else {
            insn(JUMP_EQUAL_CONST, SCRATCH, 0, 0, 0)
        });
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            tests.push(insn(JUMP_NOT_EQUAL_CONST, register, 0, 0, number.cast_signed()));
        }
    }
    let length = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, JUMP_NOT_EQUAL_CONST | JUMP_NOT_EQUAL | JUMP_EQUAL_CONST) {
            // To the first instruction after this rule: the rest of the tests and the two of the verdict.
            test.offset = (length - index - 1 + 2) as i16;
        }
    }
    tests.extend([insn(MOVE_CONST, RESULT, 0, 0, i32::from(rule.allow)), insn(EXIT, 0, 0, 0, 0)]);
    tests
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// Puts a cgroup (a descriptor of its directory) under these rules. Those of the cgroups above hold as well. They go with the cgroup.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL on a kernel without cgroup device programs.
pub fn restrict(cgroup: impl AsFd, rules: &[Rule]) -> nix::Result<()> {
    let program = compile(rules);
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: `load` begins a bpf_attr of the size given; its pointers are to `count` instructions and a terminated static
    // string, which outlive the call and are only read.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) })?;
    // SAFETY: a descriptor the kernel has just made for this call.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    let attach = Attach {
        target: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        program: fd.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: `attach` begins a bpf_attr of the size given and holds integers only.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Cgroup, v2_mount};
    use std::process::Command;

    const ANY: Rule = Rule { allow: true, kind: None, major: None, minor: None, access: READ | WRITE | MKNOD };

    #[test]
    fn an_unconditional_rule_hides_those_before_it() {
        let hidden = Rule { major: Some(1), ..ANY };
        assert_eq!(compile(&[hidden, Rule { allow: false, ..ANY }]).len(), 8);
        assert_eq!(compile(&[]).len(), 8);
    }

    #[test]
    fn the_kernel_obeys_the_rules() {
        let group = Cgroup::at(v2_mount().unwrap().join(format!("podwright-sys-test-device-{}", std::process::id())));
        group.create().unwrap();
        let zero = Rule { kind: Some(Kind::Char), major: Some(1), minor: Some(5), access: READ, ..ANY };
        let null = Rule { minor: Some(3), access: READ | WRITE, ..zero };
        restrict(group.open().unwrap(), &[Rule { allow: false, ..ANY }, zero, null]).unwrap();
        let script = format!(
            "echo 0 > {}/cgroup.procs; head -c1 /dev/zero >/dev/null && echo zero; : >/dev/zero && echo write; \
             head -c1 /dev/urandom >/dev/null && echo urandom; exit 0",
            group.path().display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        group.remove().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "zero\n", "{output:?}");
    }
}
