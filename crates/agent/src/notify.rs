//! What systemd wants to know (sd_notify(3)). Without `NOTIFY_SOCKET` nothing happens.

use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;

/// The agent serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    // Type=notify-reload wants the moment by CLOCK_MONOTONIC, so that a late READY of an earlier reload is told apart.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| i128::from(t.tv_sec()) * 1_000_000 + i128::from(t.tv_nsec() / 1000));
    tell(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]);
}

/// The agent is about to leave; pods go on.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
