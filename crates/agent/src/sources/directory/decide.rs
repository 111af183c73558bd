//! Listing of the directory + what is in force -> what changes. Pure.
//!
//! The rules: bad input never harms what runs. A file counts as a whole: if it cannot be read, is invalid, or describes an
//! object that is another file's, its last good objects stay in force. An object belongs to the file it was taken from
//! first, for as long as that file describes it. Only a file that is gone takes its objects with it; a renamed file is
//! one that is gone and one that describes the same objects.

use std::collections::{BTreeMap, BTreeSet};

use podwright_core::manifest::Resource;
use podwright_core::objects::{FileOrigin, Identity};
use podwright_core::time::Time;

use super::looks::MOST_SILENT;
use super::{Listing, Seen};
use crate::sources::wanted::Wanted;
use crate::status::{FileReport, FileState};

/// An object in force, and the file that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The file.
    pub from: FileOrigin,
    /// The object.
    pub object: Resource,
}

/// Everything in force.
pub type Claims = BTreeMap<Identity, Claim>;

/// What follows from a listing.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Run this: a new object, one with another uid than before, or one that was deleted by hand and is wanted again.
    Add(Claim),
    /// The same object: what changes in place, or the file's name, may be another.
    Update(Claim),
    /// Stop it.
    Remove(Identity),
}

/// What follows from a listing, in the order to carry it out: removals come first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// What is in force from now on.
    pub claims: Claims,
    /// What differs from before.
    pub changes: Vec<Change>,
    /// A word on every file.
    pub reports: Vec<FileReport>,
}

/// Decides. Readability of the directory is a precondition: of one that cannot be listed nothing follows.
pub fn decide(before: &Claims, listing: &Listing) -> Decision {
    let mut files = Files::new(before, listing);
    while files.reject_one_round() {}
    let claims = files.claims();
    let changes = changes(before, &claims);
    let reports = listing.iter().map(|(name, seen)| files.report(name, seen, &claims)).collect();
    Decision { claims, changes, reports }
}

/// The files while it is being found out which of them can be used.
struct Files<'a> {
    before: &'a Claims,
    listing: &'a Listing,
    /// Files whose present content is not used, though it may be valid by itself, and why.
    conflicts: BTreeMap<&'a str, Vec<String>>,
}

/// One file's wish to describe an object.
struct Wish<'a> {
    file: &'a str,
    digest: &'a str,
    object: &'a Resource,
}

impl Claim {
    /// What the directory wants.
    pub fn wanted(self) -> Wanted<Resource> {
        Wanted::from_file(self.from, self.object)
    }
}

impl<'a> Files<'a> {
    fn new(before: &'a Claims, listing: &'a Listing) -> Files<'a> {
        let mut files = Files { before, listing, conflicts: BTreeMap::new() };
        for (name, seen) in listing {
            if let Seen::Good { objects, .. } = seen {
                files.reject_twins(name, objects);
            }
        }
        files
    }

    fn reject_twins(&mut self, name: &'a str, objects: &[Resource]) {
        let mut seen = BTreeSet::new();
        for identity in objects.iter().map(Identity::of) {
            if !seen.insert(identity.clone()) {
                let problem = format!("{name}: describes {identity} twice; keep one of them");
                self.conflicts.entry(name).or_default().push(problem);
            }
        }
    }

    /// What each file wants: its present objects, or, if these are not used, those of its last good content.
    fn wishes(&self) -> BTreeMap<Identity, Vec<Wish<'a>>> {
        let mut wishes: BTreeMap<Identity, Vec<Wish<'a>>> = BTreeMap::new();
        for (file, seen) in self.listing {
            match seen {
                Seen::Good { digest, objects, .. } if !self.conflicts.contains_key(file.as_str()) => {
                    for object in objects {
                        wishes.entry(Identity::of(object)).or_default().push(Wish { file, digest, object });
                    }
                }
                Seen::Good { .. } | Seen::Bad { .. } | Seen::Busy | Seen::Silent { .. } | Seen::Unasked => {
                    for (identity, claim) in self.before.iter().filter(|(_, c)| c.from.file == *file) {
                        let wish = Wish { file, digest: &claim.from.digest, object: &claim.object };
                        wishes.entry(identity.clone()).or_default().push(wish);
                    }
                }
                Seen::Ignored { .. } => {}
            }
        }
        wishes
    }

    /// The one that has it already, else the first by name.
    fn winner(&self, identity: &Identity, wishes: &[Wish<'a>]) -> usize {
        let owner = self.before.get(identity).map(|c| c.from.file.as_str());
        wishes.iter().position(|w| Some(w.file) == owner).unwrap_or(0)
    }

    /// Rejects files that want an object of another; `true` if there was one. What a rejected file falls back to is its own
    /// already, so this comes to an end. A file that loses to one that is rejected itself gets another round.
    fn reject_one_round(&mut self) -> bool {
        let mut losses: Vec<(&'a str, &'a str, String)> = Vec::new();
        for (identity, wishes) in self.wishes() {
            let winner = self.winner(&identity, &wishes);
            let owner = wishes[winner].file;
            for loser in wishes.iter().enumerate().filter(|(i, _)| *i != winner).map(|(_, w)| w.file) {
                let problem = identity.conflict(loser, owner);
                losses.push((loser, owner, problem));
            }
        }
        let losers: BTreeSet<&str> = losses.iter().map(|(loser, ..)| *loser).collect();
        let certain = losses.iter().any(|(_, owner, _)| !losers.contains(owner));
        let found = !losses.is_empty();
        for (loser, owner, problem) in losses {
            if !certain || !losers.contains(owner) {
                self.conflicts.entry(loser).or_default().push(problem);
            }
        }
        found
    }

    fn claims(&self) -> Claims {
        let mut claims = Claims::new();
        for (identity, wishes) in self.wishes() {
            let Wish { file, digest, object } = &wishes[self.winner(&identity, &wishes)];
            let suppressed = self.before.get(&identity).is_some_and(|c| c.from.suppressed && c.from.digest == *digest);
            let from = FileOrigin { file: (*file).to_owned(), digest: (*digest).to_owned(), suppressed };
            claims.insert(identity, Claim { from, object: (*object).clone() });
        }
        claims
    }

    fn report(&self, name: &str, seen: &Seen, claims: &Claims) -> FileReport {
        let (state, problems) = match (seen, self.conflicts.get(name)) {
            (Seen::Ignored { reason }, _) => (FileState::Ignored, vec![(*reason).to_owned()]),
            (Seen::Bad { problems }, _) => (FileState::Rejected, problems.clone()),
            (Seen::Silent { since }, _) => (FileState::Unresponsive, vec![silent(name, *since)]),
            (Seen::Unasked, _) => (FileState::Unresponsive, vec![unasked(name)]),
            (Seen::Good { .. } | Seen::Busy, Some(problems)) => (FileState::Rejected, problems.clone()),
            (Seen::Good { notes, .. }, None) => (FileState::Ok, notes.clone()),
            (Seen::Busy, None) => (FileState::Ok, vec![]),
        };
        let of_file = || claims.iter().filter(|(_, c)| c.from.file == name);
        let pods = of_file().filter(|(_, c)| !c.from.suppressed).map(|(i, _)| i.listed()).collect();
        let away = of_file().filter(|(_, c)| c.from.suppressed).map(|(i, _)| stays_away(i));
        FileReport { file: name.to_owned(), state, pods, problems: problems.into_iter().chain(away).collect() }
    }
}

/// What is wrong with a `file` or directory on a file system that hangs.
pub fn silent(file: &str, since: Time) -> String {
    let since = since.to_timestamp().strftime("%Y-%m-%dT%H:%M:%SZ");
    format!(
        "{file}: has not answered since {since}: the file system that it is on, or leads to, hangs; what it described goes on, and it is read when it answers"
    )
}

fn unasked(file: &str) -> String {
    format!("{file}: not looked at: {MOST_SILENT} others do not answer; what it described goes on")
}

/// What a file's report says of an object that its user has deleted, or whose time is over.
pub fn stays_away(object: &Identity) -> String {
    format!("{object} was deleted; it stays away until this file changes")
}

fn changes(before: &Claims, after: &Claims) -> Vec<Change> {
    let removed = before.keys().filter(|i| !after.contains_key(*i)).map(|i| Change::Remove(i.clone()));
    let others = after.iter().filter_map(|(identity, claim)| match before.get(identity) {
        _ if claim.from.suppressed => None,
        None => Some(Change::Add(claim.clone())),
        Some(old) if old.from.suppressed || old.object.uid() != claim.object.uid() => Some(Change::Add(claim.clone())),
        Some(old) if old == claim => None,
        Some(_) => Some(Change::Update(claim.clone())),
    });
    removed.chain(others).collect()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
