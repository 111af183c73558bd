//! A timer by the wall clock that also tells when the clock is set (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// Far enough, for a timer that is only to tell of a set clock: some 60 years.
const FAR_SECONDS: i64 = 2_000_000_000;

/// The timer.
pub(crate) struct WallTimer {
    timer: TimerFd,
    /// A copy of its descriptor, for waiting.
    ready: AsyncFd<OwnedFd>,
}

impl WallTimer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// When the process has too many descriptors.
    pub(crate) fn new() -> io::Result<WallTimer> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor is owned by `ready` and thus stays valid"
        )]
        let ready = AsyncFd::new(timer.as_fd().try_clone_to_owned()?)?;
        Ok(WallTimer { timer, ready })
    }

    /// A timer, or none and a line in the log.
    pub(crate) fn or_none(whose: &str) -> Option<WallTimer> {
        match WallTimer::new() {
            Ok(timer) => Some(timer),
            Err(error) => {
                tracing::error!(%error, "no timer for {whose}: a clock that is set is noticed late");
                None
            }
        }
    }

    /// Returns when the wall clock shows `at`, or has been set since the timer was (or was so before it was): look again. Without
    /// `at` only when it is set. Cancel-safe.
    pub(crate) async fn wait(&mut self, at: Option<Timestamp>, now: Timestamp) -> io::Result<()> {
        let far = now.as_second().saturating_add(FAR_SECONDS);
        let (seconds, nanos) = at.map_or((far, 0), |at| (at.as_second(), i64::from(at.subsec_nanosecond())));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        // An absolute time of zero would switch the timer off.
        let expiration = Expiration::OneShot(TimeSpec::new(seconds.max(1), nanos));
        match self.timer.set(expiration, flags) {
            Ok(()) => {}
            // Set since the last time; the timer stands all the same.
            Err(Errno::ECANCELED) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut guard = self.ready.readable().await?;
        guard.clear_ready();
        // What it has to say does not matter: whoever waits looks at the clock.
        match self.timer.wait() {
            Ok(()) | Err(Errno::ECANCELED | Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns when the wall clock is set; without a timer never. Cancel-safe.
pub(crate) async fn clock_set(timer: Option<&mut WallTimer>, now: Timestamp) -> io::Result<()> {
    match timer {
        Some(timer) => timer.wait(None, now).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn it_wakes_on_time_and_not_before() {
        let mut timer = WallTimer::new().unwrap();
        let (now, begun) = (Timestamp::now(), Instant::now());
        timer.wait(Some(now + Duration::from_millis(150)), now).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(140), "{:?}", begun.elapsed());
        let never = tokio::time::timeout(Duration::from_millis(50), timer.wait(None, now)).await;
        assert!(never.is_err());
        timer.wait(Some(now), now).await.unwrap();
    }
}
