//! Limits and weights as the files of cgroup v2 have them.

/// The value of a limit file such as `memory.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Max,
    /// A limit in the file's own unit (bytes, processes).
    Value(u64),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl Limit {
    /// Reads what a limit file holds: `max` or a decimal number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "max" => Some(Self::Max),
            number => number.parse().ok().map(Self::Value),
        }
    }
}

/// The cgroup v2 weight for cgroup v1 CPU shares, by the formula of runc 1.3 and crun 1.23 (opencontainers/cgroups
/// `ConvertCPUSharesToCgroupV2Value`): 2 becomes 1, 1024 becomes 100, 262144 becomes 10000. 0 means "leave it alone".
#[must_use]
pub fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the input is below 2^18 and the result between 1 and 10000"
        )]
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10_f64.powf(exponent).ceil() as u64)
        }
    }
}

/// The cgroup v2 `io.weight` (1 to 10000) for a cgroup v1 block IO weight (10 to 1000), linearly, as runc and crun convert it.
#[must_use]
pub fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}
