//! How long an ended pod stays readable.

use std::time::Duration;

use podwright_core::time::Time;

/// Limits for ended, removed pods; whichever is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Longest time after the pod's end.
    pub age: Duration,
    /// Most pods kept; the one that ended first goes first.
    pub pods: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { age: Duration::from_secs(7 * 24 * 3600), pods: 1000 }
    }
}

/// Which of the ended pods have to go at `now`, oldest first, and when the next one will have to by its age.
pub fn expired<K: Clone + Ord>(ended: &[(K, Time)], limits: Retention, now: Time) -> (Vec<K>, Option<Time>) {
    let mut oldest_first: Vec<&(K, Time)> = ended.iter().collect();
    oldest_first.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    let too_many = ended.len().saturating_sub(limits.pods);
    let too_old = oldest_first.iter().filter(|(_, at)| now.since(*at) >= limits.age).count();
    let gone = too_many.max(too_old);
    let next = oldest_first.get(gone).map(|(_, at)| *at + limits.age);
    (oldest_first[..gone].iter().map(|(key, _)| key.clone()).collect(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(s: i64) -> Time {
        Time(s * SECOND)
    }

    #[test]
    fn age_and_count_each_remove_the_oldest() {
        let ended = [("b", at(20)), ("a", at(10)), ("c", at(30))];
        let limits = |age, pods| Retention { age: Duration::from_secs(age), pods };
        assert_eq!(expired(&ended, limits(100, 10), at(40)), (vec![], Some(at(110))));
        assert_eq!(expired(&ended, limits(30, 10), at(40)), (vec!["a"], Some(at(50))));
        assert_eq!(expired(&ended, limits(100, 1), at(40)), (vec!["a", "b"], Some(at(130))));
        assert_eq!(expired(&ended, limits(100, 0), at(40)), (vec!["a", "b", "c"], None));
        assert_eq!(expired(&ended, limits(15, 2), at(40)).0, vec!["a", "b"]);
    }

    #[test]
    fn a_clock_that_went_back_removes_nothing() {
        let ended = [("a", at(100))];
        assert_eq!(expired(&ended, Retention { age: Duration::from_secs(1), pods: 9 }, at(10)).0, Vec::<&str>::new());
    }
}
