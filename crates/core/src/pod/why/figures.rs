//! The figures of a run that say something: what came near a limit, what was throttled, what waited.

use std::time::Duration;

use super::super::spec::Container;
use super::words::{bytes, count, duration};
use crate::ledger::{Entry, Figures};

/// A share of its limit from which memory is worth a line, percent.
const MEMORY_NEAR: u64 = 80;
/// A share of time lost from which pressure and throttling are worth a line, percent.
const LOST: u64 = 5;

pub(super) fn of(entry: &Entry, container: &Container) -> Vec<String> {
    let Some(end) = &entry.end else { return Vec::new() };
    let ran = entry.started_at.map_or(Duration::ZERO, |at| end.at.since(at));
    let mut lines = Vec::new();
    lines.extend(memory(&end.figures, container.resources.memory_limit));
    lines.extend(cpu(&end.figures, container.resources.cpu_limit, ran));
    for (what, lost) in [
        ("the CPU", end.figures.cpu_pressure),
        ("memory", end.figures.memory_pressure),
        ("disks", end.figures.io_pressure),
    ] {
        let Some((some, _)) = lost.filter(|(some, _)| percent(*some, ran) >= LOST) else { continue };
        lines.push(format!(
            "pressure: {} % of its life some of it waited for {what} ({})",
            percent(some, ran),
            micros(some)
        ));
    }
    if let Some(refused) = end.figures.pids_refused.filter(|n| *n > 0) {
        let peak = end.figures.pids_peak.map_or_else(String::new, |peak| format!(", at most {peak} at a time"));
        lines.push(format!("processes: {} refused (podPidsLimit){peak}", count(refused, "fork")));
    }
    lines
}

fn memory(figures: &Figures, limit: Option<u64>) -> Option<String> {
    let killed = figures.oom_kills.is_some_and(|n| n > 0);
    let near = figures
        .memory_peak
        .zip(limit)
        .is_some_and(|(peak, limit)| peak.saturating_mul(100) >= limit.saturating_mul(MEMORY_NEAR));
    let hits = figures.memory_max_hits.filter(|n| *n > 0);
    if !killed && !near && hits.is_none() {
        return None;
    }
    let peak = figures.memory_peak.map_or("unknown (Linux 5.19 or newer tells)".to_owned(), bytes);
    let limit = limit.map_or("none of its own".to_owned(), bytes);
    let kills = figures.oom_kills.filter(|n| *n > 0).map_or_else(String::new, |n| {
        format!(", {} killed", if n == 1 { "1 process".to_owned() } else { format!("{n} processes") })
    });
    let hits = hits.map_or_else(String::new, |n| format!(", limit met {}", count(n, "time")));
    Some(format!("memory: peak {peak}, limit {limit}{hits}{kills}"))
}

fn cpu(figures: &Figures, limit: Option<u64>, ran: Duration) -> Option<String> {
    let cpu = figures.cpu.filter(|cpu| cpu.throttled > 0)?;
    let share = cpu.throttled.saturating_mul(100) / cpu.periods.max(1);
    if share < LOST {
        return None;
    }
    let limit = limit.map_or("of the pod".to_owned(), |milli| format!("{milli}m"));
    let used = micros(cpu.usage_us);
    Some(format!(
        "cpu: throttled in {share} % of its 100 ms periods (waited {} in all), limit {limit}, used {used} in {}",
        micros(cpu.throttled_us),
        duration(ran)
    ))
}

fn percent(us: u64, of: Duration) -> u64 {
    let whole = u64::try_from(of.as_micros()).unwrap_or(u64::MAX).max(1);
    (us.saturating_mul(100) / whole).min(100)
}

fn micros(us: u64) -> String {
    duration(Duration::from_micros(us))
}
