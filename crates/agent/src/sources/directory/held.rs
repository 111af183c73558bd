//! Names that are taken by objects of which the state cannot be used: what the directory wants of them waits. Pure.

use std::collections::BTreeMap;

use super::decide::{Change, Claims, Decision};
use crate::status::FileState;
use podwright_core::objects::Identity;

/// Takes what is held back out of a decision, and says so of its files: `held` has a sentence for each name. What was taken out.
pub fn hold_back(decision: &mut Decision, held: &BTreeMap<Identity, String>) -> Claims {
    let mut back = Claims::new();
    for (identity, sentence) in held {
        let Some(claim) = decision.claims.remove(identity) else { continue };
        if let Some(report) = decision.reports.iter_mut().find(|report| report.file == claim.from.file) {
            report.pods.retain(|pod| *pod != identity.listed());
            report.problems.push(sentence.clone());
            if report.pods.is_empty() && report.state == FileState::Ok {
                report.state = FileState::Rejected;
            }
        }
        back.insert(identity.clone(), claim);
    }
    decision.changes.retain(|change| match change {
        Change::Add(claim) | Change::Update(claim) => !held.contains_key(&Identity::of(&claim.object)),
        Change::Remove(_) => true,
    });
    back
}

#[cfg(test)]
mod tests {
    use super::super::decide::decide;
    use super::super::{Listing, Seen};
    use super::*;
    use podwright_core::manifest::{Format, read};

    fn listing(names: &[&str]) -> Listing {
        let pod = |name: &&str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: a, image: i}}]}}}}"
            )
        };
        let text = names.iter().map(pod).collect::<Vec<_>>().join("\n---\n");
        let objects = read(&text, Format::Yaml).unwrap();
        Listing::from([("f.yaml".to_owned(), Seen::Good { digest: "d".into(), objects, notes: vec![] })])
    }

    fn identity(name: &str) -> Identity {
        Identity::new(podwright_core::objects::Kind::Pod, "default", name)
    }

    #[test]
    fn a_held_name_is_not_accepted_and_its_neighbours_are() {
        let held = BTreeMap::from([(identity("a"), "a is held".to_owned())]);
        let mut decision = decide(&Claims::new(), &listing(&["a", "b"]));
        let back = hold_back(&mut decision, &held);
        assert_eq!(back.keys().collect::<Vec<_>>(), [&identity("a")]);
        assert_eq!(decision.claims.keys().collect::<Vec<_>>(), [&identity("b")]);
        assert!(matches!(&decision.changes[..], [Change::Add(claim)] if claim.object.name() == "b"));
        let report = &decision.reports[0];
        assert_eq!(
            (report.state, &report.pods[..], &report.problems[..]),
            (FileState::Ok, &["default/b".to_owned()][..], &["a is held".to_owned()][..])
        );
        // It is the same with every look, and over when the name is free.
        let mut again = decide(&decision.claims, &listing(&["a", "b"]));
        hold_back(&mut again, &held);
        assert_eq!(again.changes, []);
        let free = decide(&again.claims, &listing(&["a", "b"]));
        assert!(matches!(&free.changes[..], [Change::Add(claim)] if claim.object.name() == "a"));
    }

    #[test]
    fn a_file_of_which_nothing_is_in_force_is_rejected() {
        let held = BTreeMap::from([(identity("a"), "a is held".to_owned())]);
        let mut decision = decide(&Claims::new(), &listing(&["a"]));
        hold_back(&mut decision, &held);
        assert_eq!((decision.reports[0].state, decision.changes.len()), (FileState::Rejected, 0));
    }
}
