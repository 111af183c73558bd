//! The last changes, so that a watcher can catch up. Bounded: whoever is too far behind is told so and lists again.

use std::collections::VecDeque;
use std::sync::Arc;

use podwright_core::objects::Kind;

use super::index::Index;

/// Most changes kept.
const MAX_CHANGES: usize = 2048;
/// Most text kept, in bytes: 2 MiB, some 500 states of a pod.
const MAX_BYTES: usize = 2 << 20;

/// Which list a change belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Collection {
    /// Objects of a kind.
    Objects(Kind),
    /// `v1` Events.
    Events,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The store's counter at this change.
    pub version: u64,
    /// The list it belongs to.
    pub collection: Collection,
    /// The object's selectable side before; `None`: it is new.
    pub before: Option<Arc<Index>>,
    /// And after; `None`: it is gone.
    pub after: Option<Arc<Index>>,
    /// The object as JSON; its last state if it is gone.
    pub object: Arc<str>,
}

/// The changes asked for are no longer all there: list again. Kubernetes answers 410 Gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "changes after resource version {asked} are no longer kept (oldest kept: {oldest}); list again and watch from there"
)]
pub struct Expired {
    /// What was asked for.
    pub asked: u64,
    /// The oldest version from which everything is known.
    pub oldest: u64,
}

/// The last changes in order.
#[derive(Debug)]
pub(super) struct ChangeLog {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Everything after this version is in `changes`.
    complete_after: u64,
}

impl ChangeLog {
    pub(super) fn new(version: u64) -> Self {
        ChangeLog { changes: VecDeque::new(), bytes: 0, complete_after: version }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.object.len();
        self.changes.push_back(change);
        // The newest always stays, so that a watcher that keeps up never loses one.
        while self.changes.len() > 1 && (self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES) {
            if let Some(old) = self.changes.pop_front() {
                self.bytes -= old.object.len();
                self.complete_after = old.version;
            }
        }
    }

    /// Every change of `collection` after `version`, in order.
    pub(super) fn since(&self, version: u64, collection: Collection) -> Result<Vec<Change>, Expired> {
        if version < self.complete_after {
            return Err(Expired { asked: version, oldest: self.complete_after });
        }
        let first = self.changes.partition_point(|c| c.version <= version);
        Ok(self.changes.range(first..).filter(|c| c.collection == collection).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(version: u64, bytes: usize) -> Change {
        let index = Some(Arc::new(Index::default()));
        Change {
            version,
            collection: Collection::Objects(Kind::Pod),
            before: None,
            after: index,
            object: "x".repeat(bytes).into(),
        }
    }

    #[test]
    fn a_watcher_catches_up_or_is_told_to_list_again() {
        let mut log = ChangeLog::new(100);
        for v in 101..=110 {
            log.push(change(v, 1));
        }
        let versions = |since| {
            log.since(since, Collection::Objects(Kind::Pod)).map(|c| c.iter().map(|c| c.version).collect::<Vec<_>>())
        };
        assert_eq!(versions(107), Ok(vec![108, 109, 110]));
        assert_eq!(versions(110), Ok(vec![]));
        assert_eq!(versions(100).map(|v| v.len()), Ok(10));
        assert_eq!(versions(99), Err(Expired { asked: 99, oldest: 100 }));
        assert_eq!(log.since(100, Collection::Events).map(|c| c.len()), Ok(0));
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let mut log = ChangeLog::new(0);
        for v in 1..=MAX_CHANGES as u64 + 10 {
            log.push(change(v, 1));
        }
        assert_eq!(log.changes.len(), MAX_CHANGES);
        assert_eq!(log.since(9, Collection::Objects(Kind::Pod)).err(), Some(Expired { asked: 9, oldest: 10 }));
        assert!(log.since(10, Collection::Objects(Kind::Pod)).is_ok());
        log.push(change(9000, MAX_BYTES + 1));
        assert_eq!(log.changes.len(), 1);
    }
}
