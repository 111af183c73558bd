//! Objects of which the state cannot be used: shown, left alone, discarded by a user.

use std::fs;
use std::sync::Arc;

use jiff::Timestamp;
use podwright_core::api::STATE_UNUSABLE;
use podwright_core::cron::state::{CronState, JobSeen};
use podwright_core::job::state::{JobState, PodEnd, PodSeen};
use podwright_core::ledger::Asker;
use podwright_core::manifest::Resource;
use podwright_core::objects::{Identity, Kind};
use podwright_core::pod::spec::PodSpec;
use podwright_core::pod::state::{Ended, PodState};
use podwright_core::pod::why::{Explanation, Unusable as Known, unusable as explain};
use podwright_core::time::Time;
use podwright_sys::error::chain;
use podwright_sys::tree;
use serde_json::{Value, json};

use super::holds::sentence;
use super::{Place, Registry};
use crate::api::command::{Accepted, Refused, Reply};
use crate::context::Context;
use crate::controllers::pod::publish;
use crate::node::setup::cgroups;
use crate::sources::directory::decide::Claim;
use crate::sources::directory::{Listing, Seen};
use crate::sources::wanted::Wanted;
use crate::state::object::Kept;
use crate::state::unusable::Unusable;
use crate::status::{EventInput, FileState, PodKey, Subject};

impl Registry {
    /// Takes the names of what cannot be used, once it is known what can, and says so.
    pub(super) fn hold(&mut self, unusable: Vec<Unusable>) {
        let (places, claims) = (&self.places, &self.claims);
        self.holds.settle(unusable, |identity| {
            places.get(identity).is_some_and(|place| place.uid().is_some()) || claims.contains_key(identity)
        });
        for one in self.holds.earlier() {
            let (identity, problem) = (one.identity(), &one.problem);
            tracing::error!("an earlier {identity} is left as it is: {problem}");
        }
        let held: Vec<Identity> = self.holds.iter().map(|(identity, _)| identity.clone()).collect();
        for identity in held {
            self.show_held(&identity);
            self.tell_owner(&identity);
        }
    }

    /// A manifest may tell the name of what goes by its uid only, or want an earlier object again.
    pub(super) fn adopt(&mut self, listing: &Listing) {
        let good = listing.values().filter_map(|seen| match seen {
            Seen::Good { objects, .. } => Some(objects),
            _ => None,
        });
        for object in good.flatten() {
            let (identity, uid) = (Identity::of(object), object.uid());
            if !self.holds.knows(identity.kind, uid) {
                continue;
            }
            let Some(shown_as) = self.holds.adopt(&identity, uid) else { continue };
            if let Some(old) = shown_as {
                self.hide(&old, uid);
            }
            // The object that has the name now is not wanted any more.
            self.lift_tombstone(&identity, None);
            let acts = self.places.entry(identity.clone()).or_default().remove();
            self.carry_out(&identity, acts, &Asker::ManifestChanged.into());
            self.claims.remove(&identity);
            self.show_held(&identity);
        }
    }

    /// The object as the API shows it, and an event.
    fn show_held(&self, identity: &Identity) {
        let Some(all @ [first, ..]) = self.holds.of(identity) else { return };
        let shown = shown(identity, first, &sentence(identity, all));
        let put = match identity.kind {
            Kind::Pod => self.ctx.store.put_pod(shown, self.ctx.clock.now()),
            kind => self.ctx.store.put_object(kind, shown),
        };
        if let Err(error) = put {
            tracing::error!(%error, "an object that cannot be used could not be shown");
        }
        self.tell_of(identity, &first.uid, sentence(identity, all));
    }

    fn tell_of(&self, identity: &Identity, uid: &str, message: String) {
        tracing::error!("{message}");
        let (namespace, name, uid) = (identity.namespace.clone(), identity.name.clone(), uid.to_owned());
        let subject = match identity.kind {
            Kind::Pod => Subject::Pod { namespace, name, uid, field_path: None },
            kind => Subject::Object { kind, namespace, name, uid },
        };
        let at = self.ctx.clock.now();
        self.ctx.store.record_event(EventInput {
            subject,
            reason: STATE_UNUSABLE.to_owned(),
            message,
            warning: true,
            at,
        });
    }

    fn hide(&self, identity: &Identity, uid: &str) {
        let Identity { kind, namespace, name } = identity.clone();
        match kind {
            Kind::Pod => self.ctx.store.forget_pod(&PodKey { namespace, name, uid: uid.to_owned() }),
            kind => self.ctx.store.remove_object(kind, &namespace, &name),
        }
    }

    /// Whoever made it neither counts it nor makes it anew: it is there, and not over.
    fn tell_owner(&self, identity: &Identity) {
        for one in self.holds.of(identity).into_iter().flatten() {
            let Some(owner) = one.owner.as_ref().and_then(|owner| self.owner(&identity.namespace, owner)) else {
                continue;
            };
            let name = identity.name.clone();
            match identity.kind {
                Kind::Pod => {
                    let seen = PodSeen::Live { ready: false, restarts: 0, deleting: false };
                    owner.pod_seen(name, seen);
                }
                Kind::Job => {
                    let created_at = since(one);
                    let seen = JobSeen { uid: one.uid.clone(), created_at, end: None, removing: false };
                    owner.job_seen(name, Some(seen));
                }
                Kind::CronJob => {}
            }
        }
    }

    /// Whoever made it wants it removed, and that is a user's to decide.
    pub(super) fn say_if_held(&self, identity: &Identity) {
        if let Some(all @ [first, ..]) = self.holds.of(identity) {
            self.tell_of(identity, &first.uid, format!("it is not removed: {}", sentence(identity, all)));
        }
    }

    /// Why nothing can be asked of it but to be discarded.
    pub(super) fn refuse_held(&self, identity: &Identity) -> Option<Refused> {
        let all = self.holds.of(identity)?;
        Some(Refused::Conflict { message: sentence(identity, all) })
    }

    /// Explains it. A name asked for as a pod's may be a job's or a cron job's, if there is no such pod.
    pub(super) fn why_held(&self, asked: &Identity) -> Option<Explanation> {
        let is_pod =
            self.places.contains_key(asked) || self.ctx.store.pod(&asked.namespace, &asked.name, true).is_some();
        let others = if asked.kind == Kind::Pod && !is_pod { &Kind::ALL[..] } else { &[] };
        let others = others.iter().map(|kind| Identity::new(*kind, &asked.namespace, &asked.name));
        let mut names = std::iter::once(asked.clone()).chain(others);
        let identity = names.find(|name| self.holds.of(name).is_some() || self.places.contains_key(name))?;
        let all = self.holds.of(&identity)?;
        let problems: Vec<&str> = all.iter().map(|one| one.problem.as_str()).collect();
        let file = self.held_back.get(&identity).map(|claim| self.ctx.fixed.manifest_dir.join(&claim.from.file));
        let file = file.map(|file| file.display().to_string());
        let known = Known { problems: &problems, runs: all.iter().any(|one| one.runs), file: file.as_deref() };
        let mut told = explain(identity.kind, (&identity.namespace, &identity.name), known);
        let owner = all.iter().find_map(|one| one.owner.as_ref());
        told.owner = owner.map(|owner| format!("{}/{}", owner.kind.singular(), owner.name));
        Some(told)
    }

    /// Discards what is kept of it, if it is such an object. What a file wants of its name stays away until that file changes, as of
    /// anything that is deleted by hand.
    pub(super) async fn discard(&mut self, identity: &Identity) -> Option<Reply> {
        let all = self.holds.of(identity)?.to_vec();
        let uid = all.first()?.uid.clone();
        let claim = self.held_back.get(identity).cloned().map(|mut claim| {
            claim.from.suppressed = true;
            claim
        });
        let said = sentence(identity, &all);
        let (ctx, tomb, now) = (Arc::clone(&self.ctx), claim.clone(), self.ctx.clock.now());
        let (work, message) = (all.clone(), said.clone());
        let done = tokio::task::spawn_blocking(move || discard(&ctx, &work, tomb, &message, now)).await;
        let buried = match done.map_err(anyhow::Error::from).flatten() {
            Ok(buried) => buried,
            Err(error) => {
                let message = format!("{identity} could not be discarded: {error:#}");
                return Some(Err(Refused::Internal { message }));
            }
        };
        tracing::warn!("{identity} is discarded by hand");
        for one in self.holds.release(identity) {
            self.hide(identity, &one.uid);
            self.follow_discard(identity, &one);
        }
        let mut note = None;
        if let Some(claim) = claim {
            let path = self.ctx.fixed.manifest_dir.join(&claim.from.file).display().to_string();
            note = Some(format!("it comes from {path}, and stays away until that file changes"));
            self.bury(identity, claim, buried);
            if let Some(report) = self.reports.get_mut(&path) {
                report.problems.retain(|problem| *problem != said);
                report.state = FileState::Ok;
            }
            self.report_deleted(&path, identity);
        }
        Some(Ok(Accepted { uid, note }))
    }

    /// What it has made goes after it, and what made it hears of its end.
    fn follow_discard(&mut self, identity: &Identity, one: &Unusable) {
        let name = identity.name.clone();
        let owner = one.owner.as_ref().and_then(|owner| self.owner(&identity.namespace, owner));
        match (identity.kind, owner) {
            (Kind::Pod, Some(job)) => {
                let at = self.ctx.clock.now();
                let end = PodEnd { succeeded: false, at, stopped: true, exits: vec![], conditions: vec![] };
                job.pod_seen(name, PodSeen::Ended(end));
            }
            (Kind::Job, Some(cron)) => cron.job_seen(name, None),
            _ => {}
        }
        for owned in self.owned_by(&one.uid) {
            if let Some(uid) = self.places.get(&owned).and_then(Place::uid) {
                self.uncounted.remove(uid);
            }
        }
        self.remove_owned(&one.uid);
    }

    /// That the name stays away is in force.
    fn bury(&mut self, identity: &Identity, claim: Claim, buried: Option<Kept<PodSpec>>) {
        let uid = claim.object.uid().to_owned();
        self.held_back.remove(identity);
        self.claims.insert(identity.clone(), claim);
        self.tombstones.insert(identity.clone(), uid);
        if let Some(kept) = &buried
            && let Some(ended) = &kept.state.ended
        {
            let shown = publish::pod(kept, &self.ctx.fixed.node_name, &ended.status);
            if let Err(error) = self.ctx.store.restore_archived(shown, ended.at) {
                tracing::error!(%error, "a discarded pod could not be shown");
            }
        }
    }
}

/// Removes what is kept of objects of one name, with their processes. `tomb`: what a file wants of the name, and that it stays away,
/// is what is kept instead; of a pod that comes back.
fn discard(
    ctx: &Context,
    all: &[Unusable],
    tomb: Option<Claim>,
    said: &str,
    now: Time,
) -> anyhow::Result<Option<Kept<PodSpec>>> {
    let next = tomb.as_ref().map(|claim| claim.object.uid().to_owned());
    for one in all.iter().filter(|one| one.kind == Kind::Pod) {
        for cgroup in cgroups(ctx, &one.uid) {
            cgroup.remove().map_err(|error| anyhow::anyhow!(chain(&error)))?;
        }
        tree::remove(&ctx.paths.run_pods().join(&one.uid))?;
        if one.directory.is_symlink() {
            continue;
        }
        for rest in ["volumes", "layers"] {
            tree::remove(&one.directory.join(rest))?;
        }
    }
    // Its records stay, so that attempts go on counting; but what cannot be used makes room.
    for one in all.iter().filter(|one| Some(&one.uid) == next.as_ref()) {
        if !fs::symlink_metadata(&one.directory).is_ok_and(|found| found.is_dir()) {
            tree::remove(&one.directory)?;
        }
        for file in ["object.json", "pod.json", "job.json", "state.json"].map(|name| one.directory.join(name)) {
            if fs::symlink_metadata(&file).is_ok_and(|found| !found.is_file()) {
                tree::remove(&file)?;
            }
        }
    }
    let kept = tomb.map(|claim| entomb(ctx, claim, said, now)).transpose()?.flatten();
    for one in all.iter().filter(|one| Some(&one.uid) != next.as_ref()) {
        tree::remove(&one.directory)?;
        if let (Kind::Pod, Some((namespace, name))) = (one.kind, &one.name) {
            tree::remove(&ctx.paths.ended(namespace, name, &one.uid).log)?;
        }
    }
    Ok(kept)
}

/// Writes down that what a file wants stays away.
fn entomb(ctx: &Context, claim: Claim, said: &str, now: Time) -> anyhow::Result<Option<Kept<PodSpec>>> {
    let state_dir = ctx.paths.state();
    let Wanted { origin, object } = claim.wanted();
    match object {
        Resource::Pod(object) => {
            let status = json!({"phase": "Unknown", "reason": STATE_UNUSABLE, "message": said});
            let ended = Some(Ended { at: now, status, stopped: false, archived: true });
            let kept = Kept { wanted: Wanted { origin, object }, state: PodState { ended, ..PodState::new(now) } };
            kept.write(state_dir, &ctx.clock)?;
            return Ok(Some(kept));
        }
        Resource::Job(object) => {
            let state = JobState { removal_at: Some(now), ..JobState::new(now) };
            Kept { wanted: Wanted { origin, object }, state }.write(state_dir, &ctx.clock)?;
        }
        Resource::CronJob(object) => {
            let at = ctx.clock.wall();
            let state = CronState { removed_at: Some(at), ..CronState::new(at) };
            Kept { wanted: Wanted { origin, object }, state }.write(state_dir, &ctx.clock)?;
        }
    }
    Ok(None)
}

/// Since when it is there, as far as its directory tells.
fn since(one: &Unusable) -> Timestamp {
    let changed = fs::symlink_metadata(&one.directory).and_then(|found| found.modified()).ok();
    changed.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// As the API shows it: what was written, if that can be read, and that nothing more is known.
fn shown(identity: &Identity, one: &Unusable, message: &str) -> Value {
    let mut object = one.object.clone().unwrap_or_else(|| {
        let template = json!({"spec": {"containers": []}});
        let spec = match identity.kind {
            Kind::Pod => json!({"containers": []}),
            Kind::Job => json!({"template": template}),
            Kind::CronJob => json!({"jobTemplate": {"spec": {"template": template}}}),
        };
        json!({"apiVersion": identity.kind.api_version(), "kind": identity.kind.to_string(), "metadata": {}, "spec": spec})
    });
    let at = since(one);
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), json!(identity.namespace));
        metadata.insert("name".to_owned(), json!(identity.name));
        metadata.insert("uid".to_owned(), json!(one.uid));
        metadata.insert("creationTimestamp".to_owned(), json!(at));
        if let Some(owner) = &one.owner {
            metadata.insert("ownerReferences".to_owned(), owner.to_references());
        }
    }
    let status = match identity.kind {
        Kind::Pod => json!({"phase": "Unknown", "reason": STATE_UNUSABLE, "message": message}),
        Kind::Job | Kind::CronJob => json!({"conditions": [{
            "type": STATE_UNUSABLE, "status": "True", "reason": STATE_UNUSABLE, "message": message, "lastTransitionTime": at,
        }]}),
    };
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    object
}
