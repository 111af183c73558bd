//! What the directory wants: its listings become changes, its files are reported on.

use std::collections::BTreeMap;

use podwright_core::ledger::Asker;
use podwright_core::objects::Identity;
use podwright_core::time::Time;

use super::Registry;
use crate::sources::directory::Listing;
use crate::sources::directory::decide::{Change, decide, silent, stays_away};
use crate::sources::directory::held::hold_back;
use crate::status::{EventInput, FileReport, FileState, Subject};

impl Registry {
    pub(super) fn listing(&mut self, listing: &Listing) {
        self.adopt(listing);
        let mut decision = decide(&self.claims, listing);
        self.held_back = hold_back(&mut decision, &self.holds.sentences());
        self.claims = decision.claims;
        for change in decision.changes {
            match change {
                Change::Add(claim) => {
                    let wanted = claim.wanted();
                    let identity = wanted.identity();
                    self.lift_tombstone(&identity, Some(wanted.object.uid()));
                    let acts = self.places.entry(identity.clone()).or_default().want(wanted);
                    self.carry_out(&identity, acts, &Asker::ManifestChanged.into());
                }
                Change::Update(claim) => {
                    let wanted = claim.wanted();
                    let identity = wanted.identity();
                    let acts = self.places.entry(identity.clone()).or_default().update(wanted);
                    self.carry_out(&identity, acts, &Asker::ManifestChanged.into());
                }
                Change::Remove(identity) => {
                    self.lift_tombstone(&identity, None);
                    let acts = self.places.entry(identity.clone()).or_default().remove();
                    self.carry_out(&identity, acts, &Asker::ManifestRemoved.into());
                }
            }
        }
        self.report(decision.reports);
    }

    /// Says of the file what the next look at the directory would say.
    pub(super) fn report_deleted(&mut self, path: &str, identity: &Identity) {
        let Some(report) = self.reports.get_mut(path) else { return };
        let (name, said) = (identity.listed(), stays_away(identity));
        report.pods.retain(|pod| *pod != name);
        if !report.problems.contains(&said) {
            report.problems.push(said);
        }
        self.ctx.store.set_files(self.reports.values().cloned().collect());
    }

    /// Tells what is new about the files: in the log, as events, in the list.
    pub(super) fn report(&mut self, reports: Vec<FileReport>) {
        let mut next = BTreeMap::new();
        for mut report in reports {
            let path = self.ctx.fixed.manifest_dir.join(&report.file).display().to_string();
            report.file.clone_from(&path);
            if self.reports.get(&path).is_none_or(|old| (old.state, &old.problems) != (report.state, &report.problems))
            {
                if self.reports.get(&path).is_some_and(|old| old.state == FileState::Unresponsive) {
                    tracing::info!(file = path, "the file answers again");
                }
                self.tell(&report);
            }
            next.insert(path, report);
        }
        self.reports = next;
        self.ctx.store.set_files(self.reports.values().cloned().collect());
    }

    fn tell(&self, report: &FileReport) {
        for problem in &report.problems {
            match report.state {
                FileState::Rejected => {
                    tracing::warn!(file = report.file, "manifest rejected: {problem}");
                    self.file_event(&report.file, report.state, problem.clone());
                }
                FileState::Unresponsive => {
                    tracing::warn!(file = report.file, "manifest not read: {problem}");
                    self.file_event(&report.file, report.state, problem.clone());
                }
                FileState::Ok => tracing::info!(file = report.file, "{problem}"),
                FileState::Ignored => tracing::debug!(file = report.file, "{problem}"),
            }
        }
    }

    /// The directory does not answer.
    pub(super) fn silent(&mut self, since: Time) {
        let reason = silent(&self.ctx.fixed.manifest_dir.display().to_string(), since);
        self.unreadable(&reason, FileState::Unresponsive);
    }

    pub(super) fn unreadable(&mut self, reason: &str, state: FileState) {
        tracing::warn!("{reason}; its pods go on");
        let file = self.ctx.fixed.manifest_dir.display().to_string();
        self.file_event(&file, state, reason.to_owned());
        let problems = vec![reason.to_owned()];
        self.reports.insert(file.clone(), FileReport { file, state, pods: vec![], problems });
        self.ctx.store.set_files(self.reports.values().cloned().collect());
    }

    fn file_event(&self, path: &str, state: FileState, message: String) {
        let reason = if state == FileState::Unresponsive { "Unresponsive" } else { "FailedValidation" };
        self.ctx.store.record_event(EventInput {
            subject: Subject::File { path: path.to_owned() },
            reason: reason.to_owned(),
            message,
            warning: true,
            at: self.ctx.clock.now(),
        });
    }
}
