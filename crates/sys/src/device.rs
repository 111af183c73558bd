//! Device access of a cgroup: an eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE` (cgroup-v2.rst, "Device controller").

use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

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

/// By this name our program is told from others of the same cgroup, such as systemd's.
const NAME: [u8; 16] = *b"podwright_dev\0\0\0";

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The beginning of `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The beginning of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    program: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`. Lengths and addresses of 0 ask for no copies.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    instructions: [u64; 2],
    load_time: u64,
    uid: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; 16],
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// Most programs of one cgroup that are looked through; the kernel allows 64.
const MAX_PROGRAMS: usize = 64;

/// Puts a cgroup (a descriptor of its directory) under these rules. Those of the cgroups above hold as well. They go with the cgroup.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL on a kernel without cgroup device programs; E2BIG for some thousands of rules.
pub fn restrict(cgroup: impl AsFd, rules: &[Rule]) -> nix::Result<()> {
    attach(cgroup.as_fd(), &load(rules)?, None)
}

/// As [`restrict`] for a cgroup that may be under rules already: the new ones take their place in one step, so that no access
/// meets neither (Linux 5.6). Without rules, the old ones go. Other programs of the cgroup stay.
///
/// # Errors
/// As [`restrict`].
pub fn replace(cgroup: impl AsFd, rules: &[Rule]) -> nix::Result<()> {
    let cgroup = cgroup.as_fd();
    let old = own_program(cgroup)?;
    match old {
        None if rules.is_empty() => Ok(()),
        Some(old) if rules.is_empty() => detach(cgroup, &old),
        old => attach(cgroup, &load(rules)?, old.as_ref()),
    }
}

fn load(rules: &[Rule]) -> nix::Result<OwnedFd> {
    let program = compile(rules);
    let attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: NAME,
    };
    // SAFETY: `attributes` begins a bpf_attr of the size given; its pointers are to `count` instructions and a terminated
    // static string, which outlive the call and are only read.
    let loaded =
        Errno::result(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of::<Load>()) });
    let fd = match loaded {
        // The verifier's answer to more branches than it remembers (BPF_COMPLEXITY_LIMIT_JMP_SEQ, 8192): no address is wrong here.
        Err(Errno::EFAULT) => return Err(Errno::E2BIG),
        other => other?,
    };
    // SAFETY: a descriptor the kernel has just made for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

fn number(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn attach(cgroup: BorrowedFd<'_>, program: &OwnedFd, old: Option<&OwnedFd>) -> nix::Result<()> {
    let attributes = Attach {
        target: number(cgroup),
        program: number(program),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI | if old.is_some() { REPLACE } else { 0 },
        replaced: old.map_or(0, number),
    };
    // SAFETY: `attributes` begins a bpf_attr of the size given and holds integers only.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}

fn detach(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> nix::Result<()> {
    let attributes =
        Attach { target: number(cgroup), program: number(program), kind: ATTACH_CGROUP_DEVICE, flags: 0, replaced: 0 };
    // SAFETY: `attributes` begins a bpf_attr of the size given and holds integers only.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_DETACH, &raw const attributes, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}

/// The program that [`restrict`] attached to this cgroup itself.
fn own_program(cgroup: BorrowedFd<'_>) -> nix::Result<Option<OwnedFd>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut attributes = Query {
        target: number(cgroup),
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: `attributes` begins a bpf_attr of the size given, which the kernel updates; `ids` has room for `count` numbers and
    // outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut attributes, size_of::<Query>()) };
    Errno::result(result)?;
    for id in ids.into_iter().take(attributes.count as usize) {
        let program = match open_program(id) {
            // Somebody has detached it meanwhile.
            Err(Errno::ENOENT) => continue,
            other => other?,
        };
        if name_of(&program)? == NAME {
            return Ok(Some(program));
        }
    }
    Ok(None)
}

fn open_program(id: u32) -> nix::Result<OwnedFd> {
    let attributes = [id, 0, 0];
    // SAFETY: the attributes begin a bpf_attr of the size given (prog_id, next_id, open_flags) and hold integers only.
    let fd = Errno::result(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_GET_FD_BY_ID, attributes.as_ptr(), size_of_val(&attributes))
    })?;
    // SAFETY: a descriptor the kernel has just made for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

fn name_of(program: &OwnedFd) -> nix::Result<[u8; 16]> {
    let mut info = Info::default();
    let attributes =
        GetInfo { program: number(program), length: size_of::<Info>() as u32, info: (&raw mut info) as u64 };
    // SAFETY: `attributes` begins a bpf_attr of the size given; `info` has `length` bytes for the kernel to fill, outlives the
    // call, and is valid whatever its bits are. Its own pointers are null with a length of 0, so nothing else is written.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw const attributes, size_of::<GetInfo>()) };
    Errno::result(result).map(|_| info.name)
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

    fn scratch(name: &str) -> Cgroup {
        let name = format!("podwright-sys-test-device-{name}-{}", std::process::id());
        let group = Cgroup::at(v2_mount().unwrap().join(name));
        group.create().unwrap();
        group
    }

    /// What a shell in the cgroup can do.
    fn try_devices(group: &Cgroup) -> String {
        let script = format!(
            "echo 0 > {}/cgroup.procs; head -c1 /dev/zero >/dev/null && echo zero; (: >/dev/zero) && echo write; \
             head -c1 /dev/urandom >/dev/null && echo urandom; exit 0",
            group.path().display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    const NONE: Rule = Rule { allow: false, ..ANY };
    const ZERO: Rule = Rule { kind: Some(Kind::Char), major: Some(1), minor: Some(5), access: READ, ..ANY };
    const NULL: Rule = Rule { minor: Some(3), access: READ | WRITE, ..ZERO };
    const RANDOM: Rule = Rule { minor: Some(9), ..ZERO };

    #[test]
    fn the_kernel_obeys_the_rules() {
        let group = scratch("obey");
        restrict(group.open().unwrap(), &[NONE, ZERO, NULL]).unwrap();
        let allowed = try_devices(&group);
        group.remove().unwrap();
        assert_eq!(allowed, "zero\n");
    }

    #[test]
    fn rules_are_replaced_and_taken_away() {
        let group = scratch("replace");
        let fd = group.open().unwrap();
        replace(&fd, &[]).unwrap();
        replace(&fd, &[NONE, ZERO, NULL]).unwrap();
        assert_eq!(try_devices(&group), "zero\n");
        replace(&fd, &[NONE, RANDOM, NULL]).unwrap();
        assert_eq!(try_devices(&group), "urandom\n");
        replace(&fd, &[]).unwrap();
        assert_eq!(try_devices(&group), "zero\nwrite\nurandom\n");
        assert!(own_program(fd.as_fd()).unwrap().is_none());
        group.remove().unwrap();
    }
}
