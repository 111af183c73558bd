//! Which names are taken by objects of which the state cannot be used. Values only.

use std::collections::{BTreeMap, HashSet};

use podwright_core::objects::{Identity, Kind};
use podwright_core::pod::why::discard;

use crate::state::unusable::Unusable;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Those that take a name; of several of one name, of which all but one are earlier ones, nobody knows which is which.
    by_name: BTreeMap<Identity, Vec<Unusable>>,
    /// Those of names that an object has whose state can be used: they were earlier ones.
    earlier: Vec<Unusable>,
    /// Every one.
    uids: HashSet<(Kind, String)>,
}

impl Holds {
    /// Nothing takes a name yet.
    pub(super) fn new(all: &[Unusable]) -> Holds {
        let uids = all.iter().map(|one| (one.kind, one.uid.clone())).collect();
        Holds { by_name: BTreeMap::new(), earlier: Vec::new(), uids }
    }

    /// Takes names. One that an object has whose state can be used was an earlier one of that name, and takes nothing.
    pub(super) fn settle(&mut self, all: Vec<Unusable>, is_taken: impl Fn(&Identity) -> bool) {
        for one in all {
            let identity = one.identity();
            if is_taken(&identity) {
                self.earlier.push(one);
            } else {
                self.by_name.entry(identity).or_default().push(one);
            }
        }
    }

    /// Those that take nothing.
    pub(super) fn earlier(&self) -> &[Unusable] {
        &self.earlier
    }

    /// Whether the state of that uid is not to be touched.
    pub(super) fn knows(&self, kind: Kind, uid: &str) -> bool {
        self.uids.contains(&(kind, uid.to_owned()))
    }

    /// What takes the name.
    pub(super) fn of(&self, identity: &Identity) -> Option<&[Unusable]> {
        self.by_name.get(identity).map(Vec::as_slice)
    }

    /// All names that are taken.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Identity, &[Unusable])> {
        self.by_name.iter().map(|(identity, all)| (identity, all.as_slice()))
    }

    /// A sentence about each name, for whoever wants it.
    pub(super) fn sentences(&self) -> BTreeMap<Identity, String> {
        self.iter().map(|(identity, all)| (identity.clone(), sentence(identity, all))).collect()
    }

    /// A manifest wants the object of this uid: what is kept under it takes the name, whatever it went by before. `Some`: it did
    /// not before; the name that it was shown by, if it was.
    pub(super) fn adopt(&mut self, identity: &Identity, uid: &str) -> Option<Option<Identity>> {
        let is_it = |one: &Unusable| one.kind == identity.kind && one.uid == uid;
        if let Some(index) = self.earlier.iter().position(is_it) {
            let one = self.earlier.swap_remove(index);
            self.by_name.entry(identity.clone()).or_default().push(one);
            return Some(None);
        }
        let by_uid = Identity::new(identity.kind, "default", uid);
        if by_uid == *identity || self.of(&by_uid).is_none_or(|all| all.iter().any(|one| one.name.is_some())) {
            return None;
        }
        let mut all = self.by_name.remove(&by_uid)?;
        for one in &mut all {
            one.name = Some((identity.namespace.clone(), identity.name.clone()));
        }
        self.by_name.entry(identity.clone()).or_default().extend(all);
        Some(Some(by_uid))
    }

    /// The name is free again.
    pub(super) fn release(&mut self, identity: &Identity) -> Vec<Unusable> {
        let all = self.by_name.remove(identity).unwrap_or_default();
        for one in &all {
            self.uids.remove(&(one.kind, one.uid.clone()));
        }
        all
    }
}

/// What is wrong, and what to do.
pub(super) fn sentence(identity: &Identity, all: &[Unusable]) -> String {
    let problems: Vec<&str> = all.iter().map(|one| one.problem.as_str()).collect();
    format!(
        "{identity} is held back: {}; go back to the podwright that wrote it, or discard it ({})",
        problems.join("; "),
        discard(identity.kind, (&identity.namespace, &identity.name))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(uid: &str, name: Option<&str>) -> Unusable {
        Unusable {
            kind: Kind::Job,
            uid: uid.into(),
            name: name.map(|name| ("default".into(), name.into())),
            owner: None,
            object: None,
            directory: "/state".into(),
            problem: format!("{uid} is damaged"),
            runs: false,
        }
    }

    fn identity(name: &str) -> Identity {
        Identity::new(Kind::Job, "default", name)
    }

    #[test]
    fn a_name_is_taken_until_it_is_released_and_an_earlier_one_takes_none() {
        let all = vec![one("u1", Some("a")), one("u2", Some("a")), one("u3", Some("b"))];
        let mut holds = Holds::new(&all);
        holds.settle(all, |identity| identity.name == "b");
        assert_eq!(holds.iter().map(|(_, all)| all.len()).collect::<Vec<_>>(), [2]);
        assert!(holds.of(&identity("b")).is_none() && holds.knows(Kind::Job, "u3"));
        let said = &holds.sentences()[&identity("a")];
        assert!(said.contains("u1 is damaged; u2 is damaged") && said.contains("podwright delete job a"), "{said}");
        assert_eq!(holds.release(&identity("a")).len(), 2);
        assert!(!holds.knows(Kind::Job, "u1") && holds.of(&identity("a")).is_none());
    }

    #[test]
    fn one_without_a_name_gets_it_from_the_manifest_with_its_uid() {
        let all = vec![one("u1", None)];
        let mut holds = Holds::new(&all);
        holds.settle(all, |_| false);
        assert_eq!(holds.adopt(&identity("a"), "u2"), None);
        assert_eq!(holds.adopt(&identity("a"), "u1"), Some(Some(identity("u1"))));
        assert_eq!(holds.adopt(&identity("a"), "u1"), None);
        assert!(holds.of(&identity("a")).is_some() && holds.of(&identity("u1")).is_none());
        // What was an earlier one is wanted again: what is kept of it is not written over.
        let all = vec![one("u4", Some("b"))];
        let mut holds = Holds::new(&all);
        holds.settle(all, |_| true);
        assert!(holds.of(&identity("b")).is_none());
        assert_eq!(holds.adopt(&identity("b"), "u4"), Some(None));
        assert!(holds.of(&identity("b")).is_some());
    }
}
