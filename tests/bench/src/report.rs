//! The figures, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::samples::median;

/// Medians and figures by key.
pub(crate) type Values = BTreeMap<String, f64>;

/// A quotient of two medians: its key, the two keys, and its target.
struct Ratio {
    key: &'static str,
    over: &'static str,
    under: &'static str,
    text: &'static str,
    target: Option<f64>,
}

const fn ratio(key: &'static str, [over, under]: [&'static str; 2], text: &'static str, target: Option<f64>) -> Ratio {
    Ratio { key, over, under, text, target }
}

/// The targets are those of `SPECIFICATION.md`.
const RATIOS: &[Ratio] = &[
    ratio("oci_run_vs_crun", ["oci_run_ms", "crun_run_ms"], "podwright-oci run / crun run", Some(0.5)),
    ratio("oci_run_vs_runc", ["oci_run_ms", "runc_run_ms"], "podwright-oci run / runc run", None),
    ratio("oci_run_vs_unshare", ["oci_run_ms", "unshare_ms"], "podwright-oci run / unshare", None),
    ratio("oci_csd_vs_crun", ["oci_csd_ms", "crun_csd_ms"], "create + start + delete / crun's", Some(0.25)),
    ratio(
        "oci_seccomp_vs_crun",
        ["oci_seccomp_ms", "crun_seccomp_ms"],
        "the same with 300 seccomp rules / crun's",
        Some(0.3),
    ),
    ratio("oci_exec_vs_crun", ["oci_exec_ms", "crun_exec_ms"], "exec / crun exec", Some(0.25)),
    ratio("oci_rss_vs_crun", ["oci_max_rss_kib", "crun_max_rss_kib"], "largest resident set / crun's", Some(1.0)),
    ratio(
        "oci_memory_vs_crun",
        ["oci_min_memory_kib", "crun_min_memory_kib"],
        "smallest memory.max / crun's",
        Some(1.0),
    ),
    ratio("pod1_vs_crun_run", ["pod1_ms", "pods_crun_run_ms"], "pod of 1 / crun run", None),
    ratio("pod3_vs_crun_run", ["pod3_ms", "pods_crun_run_ms"], "pod of 3 / crun run", Some(1.5)),
    ratio("pod1_vs_podman", ["pod1_ms", "podman_pod1_ms"], "pod of 1 / podman kube play", None),
    ratio(
        "exec_probe_vs_bare",
        ["exec_probe_ms", "exec_probe_bare_ms"],
        "CPU time of an exec probe / bare clone, setns, exec",
        Some(2.0),
    ),
    ratio("pod3_vs_podman", ["pod3_ms", "podman_pod3_ms"], "pod of 3 / podman kube play", Some(0.2)),
];

/// A measured value: its key, what it is, its unit and its target.
type Figure = (&'static str, &'static str, &'static str, Option<f64>);

const MEDIANS: &[(&str, &[Figure])] = &[
    (
        "One container that runs `true`, from start to end (medians)",
        &[
            ("oci_run_ms", "podwright-oci run", "ms", None),
            ("crun_run_ms", "crun run", "ms", None),
            ("runc_run_ms", "runc run", "ms", None),
            ("unshare_ms", "unshare, the same namespaces and /proc only", "ms", None),
            ("oci_csd_ms", "podwright-oci create, start, delete", "ms", None),
            ("crun_csd_ms", "crun create, start, delete", "ms", None),
            ("oci_seccomp_ms", "podwright-oci, the same with 300 seccomp rules", "ms", None),
            ("crun_seccomp_ms", "crun, the same with 300 seccomp rules", "ms", None),
            ("oci_exec_ms", "podwright-oci exec of `true`", "ms", None),
            ("crun_exec_ms", "crun exec of `true`", "ms", None),
        ],
    ),
    (
        "Memory of one `run` of `true`",
        &[
            ("oci_max_rss_kib", "podwright-oci, largest resident set", "KiB", None),
            ("crun_max_rss_kib", "crun, largest resident set", "KiB", None),
            ("oci_min_memory_kib", "podwright-oci, smallest memory.max that is enough", "KiB", None),
            ("crun_min_memory_kib", "crun, smallest memory.max that is enough", "KiB", None),
        ],
    ),
    (
        "System calls of one `run` of `true`",
        &[
            ("oci_syscalls", "podwright-oci", "", None),
            ("oci_syscalls_memory", "  memory, start of a process in the C library", "", None),
            ("oci_syscalls_files", "  configuration, state, cgroup, /proc", "", None),
            ("oci_syscalls_mounts", "  mounts", "", None),
            ("oci_syscalls_root", "  paths below the container's root", "", None),
            ("oci_syscalls_processes", "  processes and namespaces", "", None),
            ("oci_syscalls_privileges", "  user, capabilities, limits, seccomp", "", None),
            ("oci_syscalls_signals", "  signals", "", None),
            ("oci_syscalls_sockets", "  talk between runtime and container", "", None),
            ("oci_syscalls_devices", "  device program", "", None),
            ("oci_syscalls_other", "  others", "", None),
            ("crun_syscalls", "crun", "", None),
        ],
    ),
    (
        "From the written manifest to the first line of the last container (medians)",
        &[
            ("pods_crun_run_ms", "crun run of `true`, for scale", "ms", None),
            ("pod1_ms", "podwright, pod of 1", "ms", None),
            ("pod1_agent_ms", "  of which until its shim had the first request", "ms", None),
            ("pod1_reported_ms", "  until the API said that all run", "ms", None),
            ("pod3_ms", "podwright, pod of 3", "ms", None),
            ("pod3_agent_ms", "  of which until its shim had the first request", "ms", None),
            ("pod3_reported_ms", "  until the API said that all run", "ms", None),
            ("podman_pod1_ms", "podman kube play, pod of 1", "ms", None),
            ("podman_pod1_reported_ms", "  until the command ended", "ms", None),
            ("podman_pod3_ms", "podman kube play, pod of 3", "ms", None),
            ("podman_pod3_reported_ms", "  until the command ended", "ms", None),
        ],
    ),
    (
        "Memory (shims: median of all)",
        &[
            ("shim_pss_kib", "PSS of the shim, 1 pod", "KiB", Some(1024.0)),
            ("shim_pss_kib_50", "PSS of a shim, 50 pods", "KiB", None),
            ("shim_rss_kib_1", "RSS of the shim, 1 pod", "KiB", None),
            ("agent_rss_kib_1", "RSS of podwrightd, 1 pod", "KiB", None),
            ("agent_pss_kib_1", "PSS of podwrightd, 1 pod", "KiB", None),
            ("agent_rss_kib_50", "RSS of podwrightd, 50 pods", "KiB", Some(25600.0)),
            ("agent_pss_kib_50", "PSS of podwrightd, 50 pods", "KiB", None),
        ],
    ),
    (
        "podwrightd and 50 shims while nothing happens, for 60 s",
        &[
            ("idle_cpu_s", "CPU time", "s", Some(0.01)),
            ("idle_bytes", "bytes written, to files, pipes, sockets, eventfds", "B", Some(0.0)),
            ("idle_agent_switches", "context switches of podwrightd", "", None),
            ("idle_shim_switches", "context switches of all shims", "", None),
            ("pods49_ms", "before that: 49 manifests at once, until all run", "ms", None),
        ],
    ),
    (
        "Exec probes of `true`, every second in each container",
        &[
            ("exec_probes_per_s", "probes a second", "", None),
            ("exec_probe_ms", "CPU time of agent, shim and the probe's process", "ms", None),
            ("exec_probe_bare_ms", "CPU time of bare clone, setns, exec, wait", "ms", None),
            ("exec_probe_bare_wall_ms", "  the same from begin to end", "ms", None),
        ],
    ),
];

/// Adds the ratios, and the key of the shim's figure without a number.
pub(crate) fn complete(mut values: Values) -> Values {
    for ratio in RATIOS {
        if let (Some(over), Some(under)) = (values.get(ratio.over), values.get(ratio.under)) {
            values.insert(ratio.key.to_owned(), over / under);
        }
    }
    if let Some(pss) = values.remove("shim_pss_kib_1") {
        values.insert("shim_pss_kib".to_owned(), pss);
    }
    values
}

/// The median of every key over several runs.
pub(crate) fn of_runs(runs: &[Values]) -> Values {
    let keys: std::collections::BTreeSet<&String> = runs.iter().flat_map(Values::keys).collect();
    keys.into_iter().filter_map(|key| Some((key.clone(), median(&of_key(runs, key))?))).collect()
}

fn of_key(runs: &[Values], key: &str) -> Vec<f64> {
    runs.iter().filter_map(|values| values.get(key).copied()).collect()
}

/// A line for every promise that was measured: its median, the spread of the runs, and whether the median keeps it. Those of missed
/// promises begin with `missed: `.
pub(crate) fn promises(runs: &[Values]) -> Vec<String> {
    let figures = MEDIANS.iter().flat_map(|(_, figures)| figures.iter().map(|(key, _, _, target)| (*key, *target)));
    let ratios = RATIOS.iter().map(|ratio| (ratio.key, ratio.target));
    let promised = figures.chain(ratios).filter_map(|(key, target)| Some((key, target?)));
    let lines = promised.filter_map(|(key, target)| {
        let values = of_key(runs, key);
        let middle = median(&values)?;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let word = if middle <= target { "kept" } else { "missed" };
        let [middle, least, most, target] = [middle, least, most, target].map(number);
        Some(format!("{word}: {key}: {middle} ({least} to {most} in {} runs), at most {target}", values.len()))
    });
    lines.collect()
}

/// One flat object; times in ms to a microsecond, ratios to four places.
pub(crate) fn json(values: &Values) -> String {
    let map: Map<String, Value> =
        values.iter().map(|(key, &value)| (key.clone(), Value::from((value * 1e4).round() / 1e4))).collect();
    Value::Object(map).to_string()
}

/// The table.
pub(crate) fn table(values: &Values, machine: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut line = |text: &str| writeln!(out, "{}", text.trim_end()).is_ok();
    for (name, what) in machine {
        line(&format!("{name:<10}{what}"));
    }
    for (title, figures) in MEDIANS {
        if figures.iter().any(|(key, ..)| values.contains_key(*key)) {
            line(&format!("\n{title}"));
        }
        for (key, text, unit, target) in *figures {
            if let Some(&value) = values.get(*key) {
                line(&row(text, &format!("{} {unit:<3}", number(value)), value, *target));
            }
        }
    }
    if RATIOS.iter().any(|ratio| values.contains_key(ratio.key)) {
        line("\nRatios of the medians above");
    }
    for ratio in RATIOS {
        if let Some(&value) = values.get(ratio.key) {
            line(&row(ratio.text, &format!("{value:.3}    "), value, ratio.target));
        }
    }
    out
}

fn row(text: &str, shown: &str, value: f64, target: Option<f64>) -> String {
    let verdict = target.map_or(String::new(), |target| {
        format!("   at most {:<7}{}", number(target), if value <= target { "ok" } else { "MISSED" })
    });
    format!("  {text:<52}{shown:>14}{verdict}")
}

/// Three or more significant digits, no more than needed.
fn number(value: f64) -> String {
    match value {
        v if v == 0.0 || v.abs() >= 1000.0 => format!("{v:.0}"),
        v if v.abs() >= 1.0 => trimmed(&format!("{v:.1}")),
        v => trimmed(&format!("{v:.4}")),
    }
}

fn trimmed(digits: &str) -> String {
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, f64)]) -> Values {
        complete(pairs.iter().map(|&(k, v)| (k.to_owned(), v)).collect())
    }

    #[test]
    fn ratios_are_made_of_what_was_measured() {
        let values = values(&[("oci_run_ms", 60.0), ("crun_run_ms", 240.0), ("shim_pss_kib_1", 400.0)]);
        assert_eq!(values["oci_run_vs_crun"], 0.25);
        assert_eq!(values["shim_pss_kib"], 400.0);
        assert!(!values.contains_key("oci_run_vs_runc"));
        assert_eq!(
            json(&values),
            r#"{"crun_run_ms":240.0,"oci_run_ms":60.0,"oci_run_vs_crun":0.25,"shim_pss_kib":400.0}"#
        );
    }

    #[test]
    fn the_table_says_what_was_missed() {
        let values =
            values(&[("oci_run_ms", 60.0), ("crun_run_ms", 100.0), ("idle_bytes", 0.0), ("idle_cpu_s", 0.0123)]);
        let table = table(&values, &[("kernel".into(), "Linux 6.1".into())]);
        let line = |part: &str| table.lines().find(|l| l.contains(part)).unwrap_or_default().to_owned();
        assert!(table.starts_with("kernel    Linux 6.1\n"));
        assert!(line("/ crun run").ends_with("0.600       at most 0.5    MISSED"), "{table}");
        assert!(line("bytes written").ends_with("0 B     at most 0      ok"), "{table}");
        assert!(line("CPU time").ends_with("0.0123 s     at most 0.01   MISSED"), "{table}");
        assert!(!table.contains("podman"));
    }

    #[test]
    fn a_promise_is_judged_by_the_median_of_the_runs() {
        let run = |ratio: f64, switches: f64| {
            values(&[("exec_probe_ms", ratio * 10.0), ("exec_probe_bare_ms", 10.0), ("idle_bytes", switches)])
        };
        let runs = [run(2.5, 0.0), run(1.7, 7.0), run(1.8, 8.0)];
        assert_eq!(
            promises(&runs),
            [
                "missed: idle_bytes: 7 (0 to 8 in 3 runs), at most 0",
                "kept: exec_probe_vs_bare: 1.8 (1.7 to 2.5 in 3 runs), at most 2",
            ]
        );
        assert_eq!(of_runs(&runs)["exec_probe_vs_bare"], 1.8);
    }

    #[test]
    fn every_ratio_is_of_medians_that_the_table_shows() {
        let shown: Vec<&str> = MEDIANS.iter().flat_map(|(_, figures)| figures.iter().map(|f| f.0)).collect();
        for ratio in RATIOS {
            assert!(shown.contains(&ratio.over) && shown.contains(&ratio.under), "{}", ratio.key);
        }
    }
}
