//! Records that are there before their instance is asked for. Needs what `tests/lifecycle.rs` needs.

mod support;

use std::fs;

use podwright_proto::Outcome;
use support::{Sandbox, id};

/// What may have run under a number is not run again, and its record is not written over.
#[test]
fn a_record_that_cannot_be_read_is_no_free_number() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let records = sandbox.path("records/app");
    fs::create_dir_all(&records).unwrap();
    for (attempt, text) in [(0, Some("")), (1, Some("noise")), (2, None)] {
        let path = records.join(format!("{attempt}.json"));
        // As one that the disk does not give: no file at all.
        text.map_or_else(|| fs::create_dir(&path), |text| fs::write(&path, text)).unwrap();
        let record = agent.start(sandbox.fake("app", attempt, "exit 0"));
        assert!(record.refused, "{record:?}");
        let outcome = format!("{:?}", record.exit.unwrap().outcome);
        assert!(outcome.contains(&format!("app/{attempt}.json")), "{outcome}");
        assert_eq!(path.is_file().then(|| fs::read_to_string(&path).unwrap()).as_deref(), text);
    }
    assert_eq!(sandbox.calls(), [] as [String; 0]);
    // The control: where there is none, it runs.
    agent.start(sandbox.fake("app", 3, "exit 0"));
    assert_eq!(agent.end(&id("app", 3)), Outcome::Exited { code: 0 });
}
