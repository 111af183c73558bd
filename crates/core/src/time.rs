//! Moments and their arithmetic.

use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::tz::TimeZone;

/// Where a machine keeps its time zone.
pub const LOCALTIME: &str = "/etc/localtime";

/// The time zone of a machine with this in [`LOCALTIME`], as everything on it has it; without one UTC.
pub fn zone_of(localtime: Option<&[u8]>) -> TimeZone {
    localtime.and_then(|bytes| TimeZone::tzif("localtime", bytes).ok()).unwrap_or(TimeZone::UTC)
}

/// A moment, in nanoseconds since the Unix epoch.
///
/// The agent counts it by the boot-time clock from an origin fixed at its start, so a step of the wall clock (an edge
/// device that learns the time after boot) neither shortens nor stretches a grace period, a back-off or a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

impl Time {
    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// For the Kubernetes API: whole seconds (`metav1.Time`).
    pub fn to_timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0.div_euclid(1_000_000_000)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }
}
