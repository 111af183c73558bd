//! The manager's side of objects of which the state cannot be used: shown, left alone, discarded by a user.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use podwright_core::api::STATE_UNUSABLE;
use podwright_core::cron::state::JobSeen;
use podwright_core::job::state::{JobState, PodEnd, PodSeen};
use podwright_core::manifest::Resource;
use podwright_core::objects::{Identity, Kind};
use podwright_core::pod::why::{Explanation, Unusable as Known, unusable as explain};
use podwright_core::time::Time;
use podwright_proto::Record;
use podwright_sys::cgroup::Cgroup;
use podwright_sys::durable::Durability;
use podwright_sys::error::chain;
use podwright_sys::own::{MAX_STATE, read_regular};
use podwright_sys::tree;
use serde_json::{Value, json};

use super::Context;
use super::holds::sentence;
use super::kept::{Ended, Kept, KeptError};
use super::manager::Manager;
use super::publish;
use crate::job::disk::{CronKept, JobKept};
use crate::job::{CronInput, JobInput};
use crate::paths::{POD_FILE, SANDBOX_FILE};
use crate::server::command::{Accepted, Refused, Reply};
use crate::source::decide::Claim;
use crate::source::{Listing, Seen};
use crate::status::{Collection, EventInput, FileState, PodKey, Subject};
use crate::unusable::{Unusable, is_name};

/// Names of log directories below this are not cut ([`crate::paths::log_directory`]).
const LONG_LOG_NAME: usize = 200;

/// All that can be found out about a pod whose `pod.json` cannot be used.
pub(super) fn find_unusable(ctx: &Context, directory: &Path, error: &KeptError) -> Unusable {
    let mut found = Unusable::find(Kind::Pod, directory, POD_FILE, error);
    if found.name.is_none() {
        found.name = name_elsewhere(ctx, &found.uid);
    }
    found.runs = cgroups(ctx, &found.uid).iter().any(|cgroup| cgroup.populated().unwrap_or(false));
    found
}

/// The name of a pod by what bears it besides its state: its sandbox, its logs.
fn name_elsewhere(ctx: &Context, uid: &str) -> Option<(String, String)> {
    let names = |namespace: &str, name: &str| {
        (is_name(namespace) && is_name(name)).then(|| (namespace.to_owned(), name.to_owned()))
    };
    let sandbox = read_regular(&ctx.paths.run_pods().join(uid).join(SANDBOX_FILE), MAX_STATE).ok();
    let sandbox: Value = sandbox.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    if let (Some(namespace), Some(name)) = (sandbox["namespace"].as_str(), sandbox["name"].as_str())
        && sandbox["uid"] == uid
    {
        return names(namespace, name);
    }
    fs::read_dir(&ctx.fixed.log_dir).into_iter().flatten().flatten().find_map(|entry| {
        // The name in a longer one may have been cut.
        let log = entry.file_name().into_string().ok().filter(|log| log.len() < LONG_LOG_NAME)?;
        let (namespace, name) = log.strip_suffix(uid)?.strip_suffix('_')?.split_once('_')?;
        names(namespace, name)
    })
}

/// Where a pod of this uid may have its cgroup: which it is follows from its manifest.
pub(super) fn cgroups(ctx: &Context, uid: &str) -> Vec<Cgroup> {
    let root = &ctx.cgroup_root;
    let all = [root.clone(), root.child("burstable"), root.child("besteffort")];
    all.into_iter().map(|class| class.child(&format!("pod{uid}"))).filter(Cgroup::exists).collect()
}

/// Whether an empty file is what a power cut leaves of a pod that was just accepted, since the first write of one that has not run
/// before is not synced. One that has seen an instance end was more than that.
pub(super) fn was_cut_short(directory: &Path, error: &KeptError) -> bool {
    let is_empty = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0);
    matches!(error, KeptError::Damaged(_))
        && is_empty(&directory.join(POD_FILE))
        && !has_ended(&directory.join("records"))
}

/// Whether a record tells of an end, or it cannot be known that none does.
fn has_ended(records: &Path) -> bool {
    let list = |directory: &Path| match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>(),
    };
    let tells = |file: &PathBuf| match read_regular(file, MAX_STATE) {
        Ok(text) if text.is_empty() => false,
        Ok(text) => serde_json::from_slice::<Record>(&text).map_or(true, |record| record.exit.is_some()),
        Err(_) => true,
    };
    let Ok(containers) = list(records) else { return true };
    containers.iter().any(|container| list(container).map_or(true, |files| files.iter().any(tells)))
}

impl Manager {
    /// Whether there is a job of that uid, or nobody knows what has become of it.
    pub(super) fn has_job(&self, uid: &str) -> bool {
        self.jobs.has_job(uid) || self.holds.knows(Kind::Job, uid)
    }

    /// Takes the names of what cannot be used, once it is known what can, and says so.
    pub(super) fn hold(&mut self, unusable: Vec<Unusable>) {
        let (places, claims, jobs) = (&self.places, &self.claims, &self.jobs);
        self.holds.settle(unusable, |identity| {
            let has_pod = places.get(identity).is_some_and(|place| place.slot.current.is_some());
            has_pod || claims.contains_key(identity) || jobs.has(identity)
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
            match identity.kind {
                Kind::Pod => {
                    let acts = self.places.entry(identity.clone()).or_default().slot.remove();
                    self.carry_out(&identity, acts);
                }
                Kind::Job | Kind::CronJob => self.jobs.remove(&identity),
            }
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
            Kind::Job => self.ctx.store.put_object(Collection::Jobs, shown),
            Kind::CronJob => self.ctx.store.put_object(Collection::CronJobs, shown),
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
            Kind::Job => self.ctx.store.remove_object(Collection::Jobs, &namespace, &name),
            Kind::CronJob => self.ctx.store.remove_object(Collection::CronJobs, &namespace, &name),
        }
    }

    /// Whoever made it neither counts it nor makes it anew: it is there, and not over.
    fn tell_owner(&self, identity: &Identity) {
        for one in self.holds.of(identity).into_iter().flatten() {
            let Some(owner) = &one.owner else { continue };
            let name = identity.name.clone();
            match identity.kind {
                Kind::Pod => {
                    let seen = PodSeen::Live { ready: false, restarts: 0, deleting: false };
                    self.jobs.tell(&owner.uid, JobInput::Pod { name, seen });
                }
                Kind::Job => {
                    let created_at = since(one);
                    let seen = JobSeen { uid: one.uid.clone(), created_at, end: None, removing: false };
                    self.jobs.tell_cron(&owner.uid, CronInput::Job { name, seen: Some(seen) });
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
        let as_ = |kind| Identity::new(kind, &asked.namespace, &asked.name);
        let is_pod =
            self.places.contains_key(asked) || self.ctx.store.pod(&asked.namespace, &asked.name, true).is_some();
        let kinds = if asked.kind == Kind::Pod && !is_pod { &[Kind::Job, Kind::CronJob][..] } else { &[] };
        let mut names = std::iter::once(asked.clone()).chain(kinds.iter().map(|kind| as_(*kind)));
        let identity = names.find(|name| self.holds.of(name).is_some() || self.jobs.has(name))?;
        let all = self.holds.of(&identity)?;
        let problems: Vec<&str> = all.iter().map(|one| one.problem.as_str()).collect();
        let file = self.held_back.get(&identity).map(|claim| self.ctx.fixed.manifest_dir.join(&claim.file));
        let file = file.map(|file| file.display().to_string());
        let known = Known { problems: &problems, runs: all.iter().any(|one| one.runs), file: file.as_deref() };
        let mut told = explain(identity.kind, (&identity.namespace, &identity.name), known);
        let of = if identity.kind == Kind::Pod { "job" } else { "cronjob" };
        told.owner = all.iter().find_map(|one| one.owner.as_ref()).map(|owner| format!("{of}/{}", owner.name));
        Some(told)
    }

    /// Discards what is kept of it, if it is such an object. What a file wants of its name stays away until that file changes, as of
    /// anything that is deleted by hand.
    pub(super) async fn discard(&mut self, identity: &Identity) -> Option<Reply> {
        let all = self.holds.of(identity)?.to_vec();
        let uid = all.first()?.uid.clone();
        let claim = self.held_back.get(identity).map(|claim| Claim { suppressed: true, ..claim.clone() });
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
            let path = self.ctx.fixed.manifest_dir.join(&claim.file).display().to_string();
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
        match (identity.kind, &one.owner) {
            (Kind::Pod, Some(owner)) => {
                let at = self.ctx.clock.now();
                let end = PodEnd { succeeded: false, at, stopped: true, exits: vec![], conditions: vec![] };
                self.jobs.tell(&owner.uid, JobInput::Pod { name, seen: PodSeen::Ended(end) });
            }
            (Kind::Pod, None) => {}
            (Kind::Job, owner) => {
                if let Some(owner) = owner {
                    self.jobs.tell_cron(&owner.uid, CronInput::Job { name, seen: None });
                }
                let pods = self.places.values().filter(|p| p.owner.as_ref().is_some_and(|o| o.uid == one.uid));
                let uids: Vec<String> = pods.filter_map(|p| Some(p.slot.current.as_ref()?.0.clone())).collect();
                for uid in uids {
                    self.uncounted.remove(&uid);
                }
                self.job_removed(identity, &one.uid);
            }
            (Kind::CronJob, _) => {
                for job in self.jobs.owned_by(&one.uid) {
                    let _uid = self.jobs.delete(&job, None, None);
                }
            }
        }
    }

    /// That the name stays away is in force.
    fn bury(&mut self, identity: &Identity, claim: Claim<Resource>, buried: Option<Kept>) {
        let uid = claim.object.uid().to_owned();
        self.held_back.remove(identity);
        self.claims.insert(identity.clone(), claim);
        let Some(kept) = buried else { return self.jobs.entomb(identity, &uid) };
        self.suppressed.insert(identity.clone(), uid);
        if let Some(ended) = &kept.ended {
            let shown = publish::pod(&kept, &self.ctx.fixed.node_name, &ended.status);
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
    tomb: Option<Claim<Resource>>,
    said: &str,
    now: Time,
) -> anyhow::Result<Option<Kept>> {
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
        for file in ["pod.json", "job.json", "state.json"].map(|name| one.directory.join(name)) {
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
fn entomb(ctx: &Context, claim: Claim<Resource>, said: &str, now: Time) -> anyhow::Result<Option<Kept>> {
    let state = ctx.paths.state();
    match claim.object.clone() {
        Resource::Pod(pod) => {
            let status = json!({"phase": "Unknown", "reason": STATE_UNUSABLE, "message": said});
            let ended = Some(Ended { at: now, status, stopped: false, archived: true });
            let kept = Kept { ended, ..Kept::new(claim.with(Arc::clone(&pod)), now) };
            kept.write(&ctx.paths.pod(&pod.pod).file(), &ctx.clock, Durability::Synced)?;
            Ok(Some(kept))
        }
        Resource::Job(job) => {
            let state_of = JobState { removal_at: Some(now), ..JobState::new(now) };
            let kept = JobKept { claim: claim.with(job), owner: None, state: state_of };
            let directory = kept.directory(state);
            kept.write_object(&directory)?;
            kept.write_state(&directory, &ctx.clock)?;
            Ok(None)
        }
        Resource::CronJob(cron) => {
            let removed_at = Some(ctx.clock.wall());
            let kept = CronKept { removed_at, ..CronKept::new(claim.with(cron), &ctx.clock) };
            let directory = kept.directory(state);
            kept.write_object(&directory)?;
            kept.write_state(&directory, &ctx.clock)?;
            Ok(None)
        }
    }
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
        let (version, spec) = match identity.kind {
            Kind::Pod => ("v1", json!({"containers": []})),
            Kind::Job => ("batch/v1", json!({"template": template})),
            Kind::CronJob => ("batch/v1", json!({"jobTemplate": {"spec": {"template": template}}})),
        };
        json!({"apiVersion": version, "kind": identity.kind.to_string(), "metadata": {}, "spec": spec})
    });
    let at = since(one);
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), json!(identity.namespace));
        metadata.insert("name".to_owned(), json!(identity.name));
        metadata.insert("uid".to_owned(), json!(one.uid));
        metadata.insert("creationTimestamp".to_owned(), json!(at));
        if let Some(owner) = &one.owner {
            let kind = if identity.kind == Kind::Pod { "Job" } else { "CronJob" };
            metadata.insert("ownerReferences".to_owned(), owner.references(kind));
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
