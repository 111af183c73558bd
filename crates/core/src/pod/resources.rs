//! What a pod's requests and limits come to: QoS class, cgroup v2 values, `oom_score_adj`.
//!
//! The formulas are kubelet's and its runtimes', so that a pod gets here what it gets in a cluster.

use super::spec::{Container, PodSpec, Qos, Resources, Role};

/// Period of `cpu.max`, microseconds.
pub const CPU_PERIOD: u64 = 100_000;
/// Smallest quota that the kernel takes, microseconds.
const SMALLEST_QUOTA: u64 = 1000;
const FEWEST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;

/// What goes into a pod's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodLimits {
    /// `cpu.weight`.
    pub cpu_weight: u64,
    /// `cpu.max`: quota and period in microseconds; `None`: `max`.
    pub cpu_max: Option<(u64, u64)>,
    /// `memory.max`, bytes; `None`: `max`.
    pub memory_max: Option<u64>,
}

/// The pod's quality of service class. Requests and limits of 0 count as not given.
pub fn qos(pod: &PodSpec) -> Qos {
    let given = |amount: Option<u64>| amount.filter(|a| *a > 0);
    let amounts =
        |r: &Resources| [given(r.cpu_request), given(r.cpu_limit), given(r.memory_request), given(r.memory_limit)];
    let all: Vec<_> = pod.containers.iter().map(|c| amounts(&c.resources)).collect();
    if all.iter().flatten().all(Option::is_none) {
        return Qos::BestEffort;
    }
    let equal = |[cpu_request, cpu_limit, memory_request, memory_limit]: &[Option<u64>; 4]| {
        cpu_limit.is_some() && memory_limit.is_some() && cpu_request == cpu_limit && memory_request == memory_limit
    };
    if all.iter().all(equal) { Qos::Guaranteed } else { Qos::Burstable }
}

/// The smallest memory limit of a pod, bytes: room for the supervisor and the runtime, which are in the pod's cgroup too. What limits a
/// container stays its own limit.
const SMALLEST_POD: u64 = 4 << 20;

/// Values for the pod's cgroup. A limit is set only where every container has one.
pub fn pod_limits(pod: &PodSpec) -> PodLimits {
    let every = |limit: fn(&Resources) -> Option<u64>| {
        let bounded = pod.containers.iter().all(|c| limit(&c.resources).is_some_and(|l| l > 0));
        bounded.then(|| pod_total(pod, limit)).filter(|total| *total > 0)
    };
    PodLimits {
        cpu_weight: cpu_weight(shares(pod_total(pod, |r| r.cpu_request))),
        cpu_max: every(|r| r.cpu_limit).map(|milli| (cpu_quota(milli), CPU_PERIOD)),
        memory_max: every(|r| r.memory_limit).map(|sum| sum.max(SMALLEST_POD)),
    }
}

/// What the pod needs at its peak (KEP-753): sidecars run beside the inits that come after them, and beside all mains.
fn pod_total(pod: &PodSpec, amount: impl Fn(&Resources) -> Option<u64>) -> u64 {
    let mut sidecars = 0_u64;
    let mut mains = 0_u64;
    let mut init_peak = 0_u64;
    for Container { role, resources, .. } in &pod.containers {
        let own = amount(resources).unwrap_or(0);
        match role {
            Role::Init => init_peak = init_peak.max(sidecars.saturating_add(own)),
            Role::Sidecar => sidecars = sidecars.saturating_add(own),
            Role::Main => mains = mains.saturating_add(own),
        }
    }
    init_peak.max(mains.saturating_add(sidecars))
}

/// cgroup v1 CPU shares, the unit of `linux.resources.cpu.shares`, for thousandths of a CPU.
pub fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(FEWEST_SHARES, MOST_SHARES)
}

/// `cpu.weight` for CPU shares, by the formula of runc 1.3.2 and crun 1.23, which maps 1024 to 100.
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=FEWEST_SHARES => 1,
        MOST_SHARES.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18 here")]
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

/// Quota of `cpu.max` in microseconds per [`CPU_PERIOD`], for thousandths of a CPU.
pub fn cpu_quota(milli: u64) -> u64 {
    milli.saturating_mul(CPU_PERIOD / 1000).max(SMALLEST_QUOTA)
}

/// `oom_score_adj` of a container; `node_memory` in bytes.
pub fn oom_score_adj(pod: &PodSpec, index: usize, node_memory: u64) -> i32 {
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = |c: &Container| c.resources.memory_request.unwrap_or(0);
            let own = pod.containers.get(index).map_or(1000, |c| burstable_score(request(c), node_memory));
            if !pod.containers.get(index).is_some_and(|c| c.role == Role::Sidecar) {
                return own;
            }
            // A sidecar is never a likelier victim than the likeliest main.
            let mains = pod.containers.iter().filter(|c| c.role == Role::Main);
            let smallest = mains.map(request).min().unwrap_or(0);
            own.min(burstable_score(smallest, node_memory))
        }
    }
}

fn burstable_score(request: u64, node_memory: u64) -> i32 {
    let share = u128::from(request) * 1000 / u128::from(node_memory.max(1));
    let score = 1000 - i32::try_from(share.min(1000)).unwrap_or(1000);
    score.clamp(3, 999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Format, parse};

    const MI: u64 = 1 << 20;

    /// A pod of containers given as `role cpu-request/cpu-limit memory-request/memory-limit`, `-` for none.
    fn pod(containers: &[&str]) -> PodSpec {
        let mut lists = [String::new(), String::new()];
        for (i, text) in containers.iter().enumerate() {
            let words: Vec<&str> = text.split(' ').collect();
            let mut maps = [String::new(), String::new()];
            for (resource, pair) in [("cpu", words[1]), ("memory", words[2])] {
                for (map, value) in maps.iter_mut().zip(pair.split('/')).filter(|(_, value)| *value != "-") {
                    map.push_str(&format!("{resource}: {value}, "));
                }
            }
            let [requests, limits] = maps;
            let restart = if words[0] == "sidecar" { "restartPolicy: Always, " } else { "" };
            lists[usize::from(words[0] == "main")].push_str(&format!(
                "{{name: c{i}, image: x, {restart}resources: {{requests: {{{requests}}}, limits: {{{limits}}}}}}}, "
            ));
        }
        let [inits, mains] = lists;
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{initContainers: [{inits}], containers: [{mains}]}}}}"
        );
        parse(&text, Format::Yaml).unwrap().remove(0).spec
    }

    #[test]
    fn classes() {
        for (containers, expected) in [
            (&["main -/- -/-"][..], Qos::BestEffort),
            (&["main 0/- -/0"], Qos::BestEffort),
            (&["main 1/- -/-"], Qos::Burstable),
            (&["main -/1 -/-"], Qos::Burstable),
            (&["main -/1 -/64Mi"], Qos::Guaranteed),
            (&["main 1/1000m 64Mi/67108864"], Qos::Guaranteed),
            (&["main 500m/1 -/64Mi"], Qos::Burstable),
            (&["main -/1 -/64Mi", "main -/- -/-"], Qos::Burstable),
            (&["sidecar -/- -/-", "main -/1 -/64Mi"], Qos::Burstable),
            (&["init -/1 -/1Mi", "sidecar -/1 -/1Mi", "main -/1 -/64Mi"], Qos::Guaranteed),
        ] {
            assert_eq!(qos(&pod(containers)), expected, "{containers:?}");
        }
    }

    #[test]
    fn weights() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (10, 4),
            (51, 11),
            (102, 17),
            (204, 29),
            (256, 35),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (4096, 303),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert!((2..=262_144).all(|s| (1..=10_000).contains(&cpu_weight(s)) && cpu_weight(s) <= cpu_weight(s + 1)));
    }

    #[test]
    fn shares_and_quotas() {
        for (milli, expected) in [(0, 2), (1, 2), (10, 10), (500, 512), (1000, 1024), (u64::MAX, 262_144)] {
            assert_eq!(shares(milli), expected, "{milli}");
        }
        for (milli, quota) in [(1, 1000), (10, 1000), (11, 1100), (250, 25_000), (2000, 200_000)] {
            assert_eq!(cpu_quota(milli), quota, "{milli}");
        }
    }

    #[test]
    fn limits_of_the_pod() {
        let limits = pod_limits(&pod(&["sidecar -/100m -/32Mi", "init -/100m -/128Mi", "main -/100m -/64Mi"]));
        assert_eq!(limits.cpu_max, Some((20_000, 100_000)));
        assert_eq!(limits.memory_max, Some(160 * MI));

        // An init before the sidecar does not run beside it.
        let limits = pod_limits(&pod(&["init -/- -/128Mi", "sidecar -/- -/32Mi", "main -/- -/64Mi"]));
        assert_eq!(limits.memory_max, Some(128 * MI));
        assert_eq!(limits.cpu_max, None);

        // One container without a limit: none for the pod.
        let limits = pod_limits(&pod(&["main 500m/1 -/64Mi", "main 500m/- -/-"]));
        assert_eq!(limits, PodLimits { cpu_weight: 100, cpu_max: None, memory_max: None });
        assert_eq!(pod_limits(&pod(&["main -/- -/-"])).cpu_weight, 1);
    }

    #[test]
    fn oom_scores() {
        let node = 1024 * MI;
        assert_eq!(oom_score_adj(&pod(&["main -/1 -/64Mi"]), 0, node), -997);
        assert_eq!(oom_score_adj(&pod(&["main -/- -/-"]), 0, node), 1000);
        let burstable = pod(&["sidecar -/- 1Mi/-", "init -/- 1Mi/-", "main -/- 512Mi/-", "main -/- 256Mi/-"]);
        let scores: Vec<i32> = (0..4).map(|i| oom_score_adj(&burstable, i, node)).collect();
        assert_eq!(scores, [750, 999, 500, 750]);
        assert_eq!(oom_score_adj(&pod(&["main -/- 2Gi/-"]), 0, node), 3);
        assert_eq!(oom_score_adj(&pod(&["main 1/- -/-"]), 0, node), 999);
    }
}
