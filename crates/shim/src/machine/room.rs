//! Which instances a state tells of when not all of them have room in it.

use std::collections::HashSet;

use podwright_proto::Record;

/// Those of the records, in their order, that have room together: first all that have not ended or are not on disk, and the newest of each
/// container, whether they have room or not (nothing else tells the agent of them), then the others from the newest on. Those are in their
/// record files.
pub fn fitting(records: Vec<Record>, room: usize, size: impl Fn(&Record) -> usize) -> Vec<Record> {
    let mut newest = HashSet::new();
    let needed: Vec<bool> = records
        .iter()
        .rev()
        .map(|record| newest.insert(record.id.container.as_str()) || record.exit.is_none() || record.unsaved.is_some())
        .collect();
    let needed: Vec<bool> = needed.into_iter().rev().collect();
    let sizes: Vec<usize> = records.iter().map(size).collect();
    let taken: usize = sizes.iter().zip(&needed).filter(|(_, needed)| **needed).map(|(size, _)| size).sum();
    let mut left = room.saturating_sub(taken);
    let mut kept = needed;
    for (kept, size) in kept.iter_mut().zip(&sizes).rev().filter(|(needed, _)| !**needed) {
        match left.checked_sub(*size) {
            Some(rest) => (*kept, left) = (true, rest),
            // Without a hole: what is older is not told of either.
            None => break,
        }
    }
    records.into_iter().zip(kept).filter_map(|(record, kept)| kept.then_some(record)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_proto::{Exit, Health, InstanceId, Outcome, Stamp, VERSION};

    fn record(container: &str, attempt: u32, ended: bool) -> Record {
        let stamp = Stamp { boot_ns: 0, wall_ns: 0 };
        Record {
            version: VERSION,
            id: InstanceId { container: container.into(), attempt },
            sandbox: 1,
            boot_id: String::new(),
            restart_delay_ms: 0,
            origin: None,
            requested: stamp,
            pid: None,
            pid_start: None,
            started: None,
            stop_signal: None,
            post_start: None,
            pre_stop: None,
            signaled: None,
            killed: None,
            cause: None,
            health: Health::default(),
            log_lost: None,
            exit: ended.then(|| Exit::without_evidence(Outcome::Exited { code: 0 }, stamp)),
            unsaved: None,
            refused: false,
        }
    }

    #[test]
    fn what_nothing_else_tells_of_comes_first() {
        let all = vec![
            record("a", 0, true),
            record("b", 0, false),
            record("a", 1, true),
            record("b", 1, true),
            record("a", 2, true),
            record("c", 0, true),
        ];
        let told = |room: usize| -> Vec<String> {
            let kept = fitting(all.clone(), room, |_| 10);
            kept.iter().map(|record| format!("{}{}", record.id.container, record.id.attempt)).collect()
        };
        assert_eq!(told(60), ["a0", "b0", "a1", "b1", "a2", "c0"]);
        assert_eq!(told(59), ["b0", "a1", "b1", "a2", "c0"]);
        assert_eq!(told(49), ["b0", "b1", "a2", "c0"]);
        assert_eq!(told(0), ["b0", "b1", "a2", "c0"]);
        assert!(fitting(Vec::new(), 0, |_| 1).is_empty());
    }
}
