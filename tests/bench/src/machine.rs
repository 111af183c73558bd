//! Where it was measured, and against what.

use std::fs;

use crate::command::Line;

/// Lines of name and text, for the head of the table.
pub(crate) fn describe() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let cpus = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    let model = cpuinfo
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown CPU", |m| m.trim_start_matches([' ', '\t', ':']));
    let clocks = read("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    let memory = read("/proc/meminfo").lines().next().unwrap_or_default().replace("MemTotal:", "").trim().to_owned();
    vec![
        ("kernel".to_owned(), format!("Linux {}", read("/proc/sys/kernel/osrelease"))),
        ("machine".to_owned(), format!("{cpus} × {model}, {memory}; {}", kind(model, &clocks))),
        ("peers".to_owned(), ["crun", "runc", "podman", "unshare", "conmon"].map(version).join(", ")),
    ]
}

/// Whether the CPU is real: on an emulated one only ratios mean anything.
fn kind(model: &str, clocks: &str) -> &'static str {
    match () {
        () if model.contains("TCG") => "emulated by QEMU (TCG): only the ratios mean something",
        () if clocks.contains("kvm-clock") => "virtual, with KVM",
        () => "neither KVM nor TCG",
    }
}

/// `PROGRAM VERSION`, from what the program says of itself.
fn version(program: &str) -> String {
    let said = Line::new([program, "--version"]).output().unwrap_or_default();
    let number = said.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("?");
    format!("{program} {number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_cpu_is_told() {
        assert!(kind("QEMU TCG CPU version 2.5+", "tsc hpet").contains("TCG"));
        assert!(kind("AMD EPYC", "kvm-clock tsc").contains("KVM"));
    }
}
