//! Crash back-off and the pace of retries.
//!
//! The curve needs no memory of its own: every instance carries the delay that holds after its end, decided when it was
//! started and kept in its record. So it survives the agent, and a new pod uid has a clean slate.

use std::time::Duration;

use super::observe::{Instance, InstanceState, StartFailure};
use crate::time::Time;

/// An instance that ran longer than this starts the curve anew (kubelet: twice the largest default delay).
pub const RESET_AFTER: Duration = Duration::from_secs(600);

/// The curve of delays between the end of an instance and the start of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Curve {
    /// Delay before the second restart; the first is immediate. kubelet: 10 s.
    pub initial: Duration,
    /// Largest delay. kubelet: 300 s.
    pub max: Duration,
}

/// kubelet's defaults; also the pace of image and configuration retries.
pub const DEFAULT: Curve = Curve { initial: Duration::from_secs(10), max: Duration::from_secs(300) };

/// Pace of attempts to make a sandbox.
pub const SANDBOX: Curve = Curve { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

impl Curve {
    /// The delay to give to an instance that follows `previous`, which followed `before`, in the same sandbox.
    ///
    /// The first restart after a failed probe does not count, as in the kubelet.
    pub fn delay_after(&self, previous: Option<&Instance>, before: Option<&Instance>) -> Duration {
        let Some(previous) = previous else { return Duration::ZERO };
        if before.is_none() && previous.is_probe_killed() {
            Duration::ZERO
        } else if previous.restart_delay.is_zero() || ran_long(previous) {
            self.initial.min(self.max)
        } else {
            previous.restart_delay.saturating_mul(2).min(self.max)
        }
    }

    /// When a failed attempt may be repeated: the first delay is [`Curve::initial`].
    pub fn retry_at(&self, failure: &StartFailure) -> Time {
        let doublings = failure.count.saturating_sub(1).min(16);
        failure.at + self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

/// When the next instance may start after `ended`, which followed `before` in the same sandbox; `None` while it is not over.
///
/// After a failed probe the delay counts from the end of the instance before, so that the time it was alive is part of the
/// wait. That is the kubelet's doing: it checks while the failed one still runs.
pub fn restart_at(ended: &Instance, before: Option<&Instance>) -> Option<Time> {
    let finished_at = ended.finished_at()?;
    let waited = ended.is_probe_killed()
        && before.and_then(Instance::finished_at).is_some_and(|end| end + ended.restart_delay <= finished_at);
    Some(if waited || ran_long(ended) { finished_at } else { finished_at + ended.restart_delay })
}

fn ran_long(instance: &Instance) -> bool {
    match instance.state {
        InstanceState::Ended { started_at: Some(started), finished_at, .. } => finished_at.since(started) > RESET_AFTER,
        InstanceState::Ended { .. } | InstanceState::Starting | InstanceState::Running { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Outcome;
    use crate::ledger::{Asker, Cause};

    fn ended(delay: u64, ran: u64) -> Instance {
        let delay = Duration::from_secs(delay);
        let state = InstanceState::Ended {
            started_at: Some(Time(0)),
            finished_at: Time(0) + Duration::from_secs(ran),
            outcome: Outcome::Exited { code: 1, oom: false },
        };
        Instance { state, ..Instance::starting(0, 1, delay, Time(0)) }
    }

    #[test]
    fn the_curve_is_0_10_20_40_80_160_300_300() {
        let mut instance = ended(0, 0);
        let mut gaps = vec![instance.restart_delay.as_secs()];
        for _ in 0..7 {
            instance = ended(DEFAULT.delay_after(Some(&instance), None).as_secs(), 0);
            gaps.push(instance.restart_delay.as_secs());
        }
        assert_eq!(gaps, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_starts_it_anew() {
        let long = ended(160, 601);
        assert_eq!(restart_at(&long, None), Some(Time(0) + Duration::from_secs(601)));
        assert_eq!(DEFAULT.delay_after(Some(&long), None).as_secs(), 10);
        let short = ended(160, 600);
        assert_eq!(restart_at(&short, None), Some(Time(0) + Duration::from_secs(760)));
    }

    #[test]
    fn a_cap_below_the_start_is_the_start() {
        let curve = Curve { initial: Duration::from_secs(10), max: Duration::from_secs(3) };
        assert_eq!(curve.delay_after(Some(&ended(0, 0)), None).as_secs(), 3);
    }

    #[test]
    fn the_first_two_restarts_by_a_probe_are_immediate() {
        let killed = |delay, ran| Instance {
            cause: Some(Cause { by: Asker::LivenessProbe, text: String::new() }),
            ..ended(delay, ran)
        };
        let (mut before, mut finished) = (None::<Instance>, 0);
        let (mut delay, mut waits) = (0, Vec::new());
        for _ in 0..6 {
            finished += 5;
            let now = killed(delay, finished);
            let next = restart_at(&now, before.as_ref()).unwrap();
            delay = DEFAULT.delay_after(Some(&now), before.as_ref()).as_secs();
            let wait = next.since(now.finished_at().unwrap()).as_secs();
            waits.push(wait);
            finished += wait;
            before = Some(now);
        }
        assert_eq!(waits, [0, 0, 10, 20, 40, 80]);
    }

    #[test]
    fn a_long_life_until_a_probe_fails_is_part_of_the_wait() {
        let killed = Instance { cause: Some(Cause { by: Asker::StartupProbe, text: String::new() }), ..ended(20, 100) };
        assert_eq!(restart_at(&killed, Some(&ended(10, 80))), killed.finished_at());
        assert_eq!(restart_at(&killed, Some(&ended(10, 81))), Some(Time(0) + Duration::from_secs(120)));
    }
}
