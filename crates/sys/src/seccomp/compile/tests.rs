//! Both compilers' programs are run by the interpreter over the same calls: the verdicts have to be the same.

use std::io::{Read as _, Seek as _};

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext};

use super::super::interpret::{Call, interpret};
use super::super::profile::Rule;
use super::*;

fn scmp(action: Action) -> ScmpAction {
    match action {
        Action::KillProcess => ScmpAction::KillProcess,
        Action::KillThread => ScmpAction::KillThread,
        Action::Trap => ScmpAction::Trap,
        Action::Errno(number) => ScmpAction::Errno(number.into()),
        Action::Trace(data) => ScmpAction::Trace(data),
        Action::Notify => ScmpAction::Notify,
        Action::Log => ScmpAction::Log,
        Action::Allow => ScmpAction::Allow,
    }
}

fn scmp_compare(compare: &Compare) -> ScmpArgCompare {
    let operator = match compare.operator {
        Operator::Equal => ScmpCompareOp::Equal,
        Operator::NotEqual => ScmpCompareOp::NotEqual,
        Operator::Less => ScmpCompareOp::Less,
        Operator::LessOrEqual => ScmpCompareOp::LessOrEqual,
        Operator::Greater => ScmpCompareOp::Greater,
        Operator::GreaterOrEqual => ScmpCompareOp::GreaterEqual,
        Operator::MaskedEqual(mask) => ScmpCompareOp::MaskedEqual(mask),
    };
    ScmpArgCompare::new(compare.argument, operator, compare.value)
}

fn by_libseccomp(profile: &Profile) -> Vec<sock_filter> {
    let mut context = ScmpFilterContext::new(scmp(profile.default)).unwrap();
    for name in &profile.architectures {
        context.add_arch(name.parse().unwrap()).unwrap();
    }
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            let compare: Vec<ScmpArgCompare> = rule.compare.iter().map(scmp_compare).collect();
            context.add_rule_conditional(scmp(rule.action), call, &compare).unwrap();
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    context.export_bpf(&file).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let (records, _) = bytes.as_chunks::<8>();
    records
        .iter()
        .map(|r| sock_filter {
            code: u16::from_ne_bytes([r[0], r[1]]),
            jt: r[2],
            jf: r[3],
            k: u32::from_ne_bytes([r[4], r[5], r[6], r[7]]),
        })
        .collect()
}

fn check(profile: &Profile, values: &[u64]) {
    let (ours, theirs) = (compile(profile).unwrap(), by_libseccomp(profile));
    let numbers =
        (0..600).chain([X32_BIT - 1, X32_BIT, X32_BIT + 5, X32_BIT + 517, X32_BIT + 547, SKIPPED - 1, SKIPPED]);
    for number in numbers {
        for arch in [0xc000_003e, 0x4000_0003, 0xc000_00b7] {
            // An address of a 32-bit process has no upper half.
            let fits = |value: &&u64| arch == 0xc000_003e || **value <= u64::from(u32::MAX);
            for value in values.iter().filter(fits) {
                for other in values.iter().filter(fits) {
                    let call = Call { arch, number, args: [*value, *other, *value, 0, 0, 0] };
                    let ((verdict, steps), (expected, _)) =
                        (interpret(&ours, &call).unwrap(), interpret(&theirs, &call).unwrap());
                    assert_eq!(verdict, expected, "{call:x?}");
                    assert!(steps < 64, "{steps} instructions for {call:x?}");
                }
            }
        }
    }
}

fn rule(names: &[&str], action: Action, compare: &[Compare]) -> Rule {
    Rule { names: names.iter().map(|&name| name.to_owned()).collect(), action, compare: compare.to_vec() }
}

const EDGES: [u64; 9] = [0, 1, 4, 5, 6, 0xffff_ffff, 0x1_0000_0004, 0x1_0000_0005, 0x2_0000_0000];

#[test]
fn every_operator_gives_the_verdict_of_libseccomp() {
    let operators = [
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::MaskedEqual(0x1_0000_0004),
    ];
    for operator in operators {
        for value in [5, 0x1_0000_0005] {
            let compare = Compare { argument: 0, operator, value };
            let profile = Profile {
                default: Action::Allow,
                architectures: vec![],
                flags: 0,
                rules: vec![rule(&["read"], Action::Errno(7), &[compare])],
            };
            check(&profile, &EDGES);
        }
    }
}

#[test]
fn lists_and_architectures_give_the_verdicts_of_libseccomp() {
    let equal = |argument, value| Compare { argument, operator: Operator::Equal, value };
    let rules = vec![
        rule(&["read", "write", "close", "clone", "mkdir", "exit_group", "no_such_call"], Action::Allow, &[]),
        rule(&["personality"], Action::Allow, &[equal(0, 0)]),
        rule(&["personality"], Action::Allow, &[equal(0, 4)]),
        rule(&["dup3"], Action::Trap, &[equal(0, 1), Compare { argument: 1, operator: Operator::Greater, value: 4 }]),
        rule(&["ptrace"], Action::KillProcess, &[]),
        rule(&["getppid"], Action::Trace(3), &[]),
        rule(&["getpid"], Action::Log, &[]),
        rule(&["mount"], Action::Notify, &[equal(2, 1)]),
        rule(&["gettid"], Action::Errno(1), &[]),
    ];
    for architectures in [&[][..], &["SCMP_ARCH_X86"], &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]] {
        let profile = Profile {
            default: Action::Errno(1),
            architectures: architectures.iter().map(|&name| name.to_owned()).collect(),
            flags: 0,
            rules: rules.clone(),
        };
        check(&profile, &[0, 1, 4, 5]);
    }
}

#[test]
fn long_lists_need_far_jumps() {
    // Every second call by number: no two ranges merge.
    let names: Vec<String> =
        (0..450).step_by(2).filter_map(|number| ScmpSyscall::from(number).get_name().ok()).collect();
    assert!(names.len() > 150, "{}", names.len());
    let compare = [Compare { argument: 0, operator: Operator::Equal, value: 5 }];
    let rules = vec![Rule { names, action: Action::Allow, compare: compare.to_vec() }];
    let profile = Profile { default: Action::Errno(1), architectures: vec![], flags: 0, rules };
    check(&profile, &[4, 5]);
}

/// Prints how long both compilers take for a profile of 300 rules, and what a cache could save at best.
#[test]
#[ignore = "measures"]
fn how_long_a_profile_takes() {
    let names: Vec<String> =
        (0..450).filter_map(|number| ScmpSyscall::from(number).get_name().ok()).take(300).collect();
    assert_eq!(names.len(), 300);
    let rules = names.iter().enumerate().map(|(index, name)| {
        let compare = Compare { argument: 0, operator: Operator::Equal, value: index as u64 };
        rule(&[name], Action::Allow, if index.is_multiple_of(15) { std::slice::from_ref(&compare) } else { &[] })
    });
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"].map(str::to_owned).to_vec();
    let profile = Profile { default: Action::Errno(1), architectures, flags: 0, rules: rules.collect() };
    let time = |what: &str, work: &dyn Fn()| {
        let mut times: Vec<_> = (0..50)
            .map(|_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{what}: {:?} (median of 50)", times[25]);
    };
    let program = compile(&profile).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &vec![7; program.len() * 8]).unwrap();
    println!("{} instructions", program.len());
    time("our compiler", &|| drop(std::hint::black_box(compile(&profile).unwrap())));
    time("libseccomp", &|| drop(std::hint::black_box(by_libseccomp(&profile))));
    time("reading the program", &|| drop(std::hint::black_box(std::fs::read(file.path()).unwrap())));
}
