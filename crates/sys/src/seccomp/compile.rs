//! From rules to the kernel's classic BPF (seccomp(2), `Documentation/userspace-api/seccomp_filter.rst`).
//!
//! libseccomp knows the numbers of system calls; the program is made here. Its own compiler takes 15 ms for the usual profile of
//! 400 calls, several times as long as everything else that starts a container. What comes out here is a binary search
//! over ranges of numbers, so that a system call passes about ten instructions. Tests compare both compilers' verdicts.

use std::collections::BTreeMap;

use libc::sock_filter;
use libseccomp::{ScmpArch, ScmpSyscall};

use super::arch::ARCHES;
use super::bpf::{AND, ARCH, ARGS, AT_LEAST, EQUAL, GREATER, JUMP, LOAD, NUMBER, RETURN, jump, op};
use super::profile::{
    Action, Compare, CompileError, FLAG_NEW_LISTENER, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV, MAX_INSTRUCTIONS, Operator,
    Profile,
};
use super::program::Program;

/// Set in the numbers of the x32 ABI, which shares its audit architecture with x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// The number a tracer sets to skip a call. It is none of x32's.
const SKIPPED: u32 = u32::MAX;

const RET_KILL_THREAD: u32 = 0;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq)]
enum Verdict<'a> {
    /// Always this.
    Plain(u32),
    /// The first alternative all of whose comparisons hold, else the default.
    Compare(Vec<(&'a [Compare], u32)>),
}

type Table<'a> = BTreeMap<u32, Verdict<'a>>;

impl Profile {
    /// Compiles the profile.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(&self) -> Result<Program, CompileError> {
        let instructions = compile(self)?;
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(CompileError::TooLong(instructions.len()));
        }
        let flags = if self.notifies() {
            // The one other thread there may be is the one that takes the listener, which must not be under the filter.
            self.flags & !FLAG_TSYNC | FLAG_NEW_LISTENER
        } else {
            // Without a listener there is nothing that could be received.
            self.flags & !FLAG_WAIT_KILLABLE_RECV
        };
        Ok(Program::new(instructions, flags))
    }
}

fn compile(profile: &Profile) -> Result<Vec<sock_filter>, CompileError> {
    let mut wanted = vec![ARCHES[0].scmp];
    for name in &profile.architectures {
        wanted.push(name.parse().map_err(|_| CompileError::Architecture(name.clone()))?);
    }
    let default = value_of(profile.default);
    let mut sections: Vec<(u32, Vec<sock_filter>)> = Vec::new();
    let mut done = Vec::new();
    for arch in ARCHES.iter().filter(|arch| wanted.contains(&arch.scmp)) {
        if done.contains(&arch.audit) {
            continue;
        }
        done.push(arch.audit);
        let mut table = Table::new();
        for twin in ARCHES.iter().filter(|twin| twin.audit == arch.audit && wanted.contains(&twin.scmp)) {
            add_rules(&mut table, profile, twin.scmp);
        }
        let x32 = wanted.contains(&ScmpArch::X32);
        let ranges = ranges(table, default, arch.scmp == ScmpArch::X8664 && !x32);
        let mut section = vec![op(LOAD, NUMBER)];
        section.extend(search(&ranges, default, arch.wide));
        sections.push((arch.audit, section));
    }
    let mut program = vec![op(LOAD, ARCH)];
    for (audit, section) in sections {
        // The length of a section does not fit into a conditional jump.
        program.extend([jump(EQUAL, audit, 1, 0), op(JUMP, section.len() as u32)]);
        program.extend(section);
    }
    program.push(op(RETURN, RET_KILL_THREAD));
    Ok(program)
}

fn add_rules<'a>(table: &mut Table<'a>, profile: &'a Profile, arch: ScmpArch) {
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
        let value = value_of(rule.action);
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name_by_arch(name, arch) else { continue };
            // libseccomp has negative numbers for calls that this architecture lacks.
            let Ok(number) = u32::try_from(i32::from(call)) else { continue };
            match (table.get_mut(&number), rule.compare.is_empty()) {
                (Some(Verdict::Plain(found)), true) => *found = stricter(*found, value),
                // A rule without conditions covers the one with.
                (Some(Verdict::Plain(_)), false) => {}
                (Some(Verdict::Compare(alternatives)), false) => alternatives.push((&rule.compare, value)),
                (_, true) => drop(table.insert(number, Verdict::Plain(value))),
                (None, false) => drop(table.insert(number, Verdict::Compare(vec![(&rule.compare, value)]))),
            }
        }
    }
}

/// Of two values for one call the one that the kernel would take from two filters.
fn stricter(a: u32, b: u32) -> u32 {
    let order = |value: u32| (value & 0xffff_0000).cast_signed();
    if order(b) < order(a) { b } else { a }
}

/// All numbers from 0 to the last, as ranges by their first number.
fn ranges<'a>(table: Table<'a>, default: u32, refuse_x32: bool) -> Vec<(u32, Verdict<'a>)> {
    let mut points: BTreeMap<u32, Verdict<'a>> = BTreeMap::new();
    points.insert(0, Verdict::Plain(default));
    for (number, verdict) in table {
        points.insert(number, verdict);
        if let Some(next) = number.checked_add(1) {
            points.entry(next).or_insert(Verdict::Plain(default));
        }
    }
    if refuse_x32 {
        points.insert(X32_BIT, Verdict::Plain(RET_KILL_THREAD));
        points.insert(SKIPPED, Verdict::Plain(default));
    }
    let mut ranges: Vec<(u32, Verdict<'a>)> = Vec::with_capacity(points.len());
    for (start, verdict) in points {
        let same = matches!((ranges.last(), &verdict), (Some((_, Verdict::Plain(a))), Verdict::Plain(b)) if a == b);
        if !same {
            ranges.push((start, verdict));
        }
    }
    ranges
}

/// A binary search for the number in the accumulator; every path ends in a return.
fn search(ranges: &[(u32, Verdict<'_>)], default: u32, wide: bool) -> Vec<sock_filter> {
    match ranges {
        [] => vec![op(RETURN, default)],
        [(_, Verdict::Plain(value))] => vec![op(RETURN, *value)],
        [(_, Verdict::Compare(alternatives))] => {
            let mut code: Vec<sock_filter> =
                alternatives.iter().flat_map(|(compare, value)| alternative(compare, *value, wide)).collect();
            code.push(op(RETURN, default));
            code
        }
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let left = search(low, default, wide);
            let mut code = match u8::try_from(left.len()) {
                Ok(length) => vec![jump(AT_LEAST, high[0].0, length, 0)],
                Err(_) => vec![jump(AT_LEAST, high[0].0, 0, 1), op(JUMP, left.len() as u32)],
            };
            code.extend(left);
            code.extend(search(high, default, wide));
            code
        }
    }
}

/// Where a test of an alternative goes on.
#[derive(Clone, Copy)]
enum Target {
    /// So many instructions further.
    Skip(u8),
    /// Behind the alternative.
    Fail,
}

enum Test {
    Plain(sock_filter),
    Jump(u16, u32, Target, Target),
}

/// Returns `value` if all comparisons hold, else falls through to what follows.
fn alternative(compare: &[Compare], value: u32, wide: bool) -> Vec<sock_filter> {
    let tests: Vec<Test> = compare.iter().flat_map(|compare| comparison(compare, wide)).collect();
    let length = tests.len() + 1;
    let offset = |index: usize, target: Target| match target {
        Target::Skip(count) => count,
        // Six comparisons of six instructions at most.
        Target::Fail => (length - index - 1) as u8,
    };
    let mut code: Vec<sock_filter> = tests
        .into_iter()
        .enumerate()
        .map(|(index, test)| match test {
            Test::Plain(instruction) => instruction,
            Test::Jump(code, k, yes, no) => jump(code, k, offset(index, yes), offset(index, no)),
        })
        .collect();
    code.push(op(RETURN, value));
    code
}

/// One comparison, on both halves of the argument where it has two.
fn comparison(compare: &Compare, wide: bool) -> Vec<Test> {
    use Target::{Fail, Skip};
    let Compare { argument, operator, value } = *compare;
    let (high, low) = ((value >> 32) as u32, value as u32);
    let base = ARGS + 8 * argument;
    let (low_at, high_at) = if cfg!(target_endian = "little") { (base, base + 4) } else { (base + 4, base) };
    let load = |at| Test::Plain(op(LOAD, at));
    let and = |mask| Test::Plain(op(AND, mask));
    let mut tests = Vec::new();
    match operator {
        Operator::Equal => {
            if wide {
                tests.extend([load(high_at), Test::Jump(EQUAL, high, Skip(0), Fail)]);
            }
            tests.extend([load(low_at), Test::Jump(EQUAL, low, Skip(0), Fail)]);
        }
        Operator::NotEqual => {
            if wide {
                tests.extend([load(high_at), Test::Jump(EQUAL, high, Skip(0), Skip(2))]);
            }
            tests.extend([load(low_at), Test::Jump(EQUAL, low, Fail, Skip(0))]);
        }
        Operator::MaskedEqual(mask) => {
            let (mask_high, mask_low) = ((mask >> 32) as u32, mask as u32);
            if wide {
                tests.extend([load(high_at), and(mask_high), Test::Jump(EQUAL, high & mask_high, Skip(0), Fail)]);
            }
            tests.extend([load(low_at), and(mask_low), Test::Jump(EQUAL, low & mask_low, Skip(0), Fail)]);
        }
        Operator::Greater | Operator::GreaterOrEqual => {
            if wide {
                let decided = [Test::Jump(GREATER, high, Skip(3), Skip(0)), Test::Jump(EQUAL, high, Skip(0), Fail)];
                tests.push(load(high_at));
                tests.extend(decided);
            }
            let code = if operator == Operator::Greater { GREATER } else { AT_LEAST };
            tests.extend([load(low_at), Test::Jump(code, low, Skip(0), Fail)]);
        }
        Operator::Less | Operator::LessOrEqual => {
            if wide {
                let decided = [Test::Jump(GREATER, high, Fail, Skip(0)), Test::Jump(EQUAL, high, Skip(0), Skip(2))];
                tests.push(load(high_at));
                tests.extend(decided);
            }
            let code = if operator == Operator::Less { AT_LEAST } else { GREATER };
            tests.extend([load(low_at), Test::Jump(code, low, Fail, Skip(0))]);
        }
    }
    tests
}

/// `SECCOMP_RET_*` (linux/seccomp.h).
fn value_of(action: Action) -> u32 {
    match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => RET_KILL_THREAD,
        Action::Trap => 0x0003_0000,
        Action::Errno(number) => 0x0005_0000 | u32::from(number),
        Action::Trace(data) => 0x7ff0_0000 | u32::from(data),
        Action::Notify => 0x7fc0_0000,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

#[cfg(test)]
mod tests;
