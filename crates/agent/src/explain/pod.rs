//! Why a pod is as it is, and its timeline: records and earlier pods of the name are read from disk.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PodStatus;
use podwright_core::ledger::{Asker, Entry};
use podwright_core::objects::{Identity, Kind};
use podwright_core::pod::Machine;
use podwright_core::pod::observe::{Memo, Observed, Sandbox};
use podwright_core::pod::spec::PodSpec;
use podwright_core::pod::why::{self, Case, Explanation, Job, JobSays, Known, Revision};
use podwright_core::timeline::{self, Timeline};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::api::command::Refused;
use crate::context::Context;
use crate::controllers::frame::{Input, Sender};
use crate::controllers::pod::look::Snapshot;
use crate::controllers::pod::{PodController, recover};
use crate::node::ledger;
use crate::node::records::{self, Records};
use crate::state::object::Kept;
use crate::status::{FileState, Index, Snapshot as Listed};

/// Earlier pods of a name that are looked at for one that worked, the newest ones.
const MOST_EARLIER: usize = 5;

/// A pod to be explained.
struct Subject {
    kept: Kept<PodSpec>,
    observed: Observed,
    status: PodStatus,
    entries: Vec<Entry>,
    over: bool,
}

/// An earlier pod of the same name, or of the same job.
struct Earlier {
    name: String,
    manifest: Value,
    entries: Vec<Entry>,
}

/// Explains a pod or one of its containers, whose job, if it has one, `says` something. A name that there is no pod of is explained too.
///
/// # Errors
/// When the pod has no such container, or what is kept of it cannot be read.
pub(super) async fn why(
    ctx: Arc<Context>,
    identity: Identity,
    container: Option<String>,
    controller: Option<Sender<PodController>>,
    says: JobSays,
) -> Result<Explanation, Refused> {
    let snapshot = ask(controller).await;
    blocking(move || {
        let Some(subject) = subject(&ctx, &identity, snapshot)? else {
            return Ok(why::missing(Kind::Pod, &identity.namespace, &identity.name, &known(&ctx)));
        };
        let spec = subject.kept.spec();
        let index = container.map(|name| index_of(&subject, &name)).transpose()?;
        let earlier = earlier(&ctx, &identity, &subject);
        let file = subject.kept.wanted.origin.file();
        let file = file.map(|from| ctx.fixed.manifest_dir.join(&from.file).display().to_string()).unwrap_or_default();
        let problems = file_problems(&ctx, &file);
        let paths = ctx.paths.pod(spec);
        let unwritten = [&paths.state, &paths.run].map(|directory| ctx.storage.below(directory)).concat();
        let case = Case {
            unwritten: &unwritten,
            spec,
            policy: &ctx.policy(),
            observed: &subject.observed,
            status: &subject.status,
            over: subject.over,
            entries: &subject.entries,
            manifest: &subject.kept.document().manifest,
            earlier: earlier.as_ref().map(|e| Revision { name: &e.name, manifest: &e.manifest, entries: &e.entries }),
            file_problems: &problems,
            file: &file,
            job: subject.kept.owner().map(|owner| Job { name: &owner.name, says: &says }),
            boot_id: ctx.clock.boot_id(),
            now: ctx.clock.now(),
        };
        Ok(why::explain(&case, index))
    })
    .await
}

/// The life of a pod as rows of a chart.
///
/// # Errors
/// When there is no such pod, or what is kept of it cannot be read.
pub(super) async fn timeline(
    ctx: Arc<Context>,
    identity: Identity,
    controller: Option<Sender<PodController>>,
) -> Result<Timeline, Refused> {
    let snapshot = ask(controller).await;
    blocking(move || {
        let Some(subject) = subject(&ctx, &identity, snapshot)? else {
            return Err(Refused::NotFound {
                kind: identity.kind,
                namespace: identity.namespace.clone(),
                name: identity.name.clone(),
            });
        };
        Ok(timeline::draw(&timeline::Life {
            spec: subject.kept.spec(),
            observed: &subject.observed,
            status: &subject.status,
            entries: &subject.entries,
            ended_at: subject.kept.state.ended.as_ref().map(|ended| ended.at),
            now: ctx.clock.now(),
        }))
    })
    .await
}

/// What a worker knows now; `None` if there is none, or if it is at its end.
async fn ask(controller: Option<Sender<PodController>>) -> Option<Snapshot> {
    let (reply, answer) = oneshot::channel();
    controller?.send(Input::Look(reply)).ok()?;
    answer.await.ok()
}

pub(super) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(job).await {
        Ok(answer) => answer,
        Err(error) => Err(Refused::Internal { message: error.to_string() }),
    }
}

fn subject(ctx: &Context, identity: &Identity, snapshot: Option<Snapshot>) -> Result<Option<Subject>, Refused> {
    let mut subject = match snapshot {
        Some(snapshot) => Some(living(ctx, snapshot)?),
        None => ended(ctx, identity)?,
    };
    // Records of older agents say that the pod was removed; who did is kept with the pod.
    if let Some((by, entries)) =
        subject.as_mut().and_then(|s| Some((s.kept.state.deletion.as_ref()?.cause.by, &mut s.entries)))
    {
        let causes = entries.iter_mut().filter_map(|entry| entry.cause.as_mut());
        causes.filter(|cause| cause.by == Asker::Deletion).for_each(|cause| cause.by = by);
    }
    Ok(subject)
}

fn living(ctx: &Context, Snapshot { kept, mut machine, told }: Snapshot) -> Result<Subject, Refused> {
    let now = ctx.clock.now();
    let status = machine.plan(now).status;
    let observed = machine.observed().clone();
    let mut records = read_records(ctx, &kept)?;
    records.extend(told);
    let mut entries: Vec<Entry> = records.values().map(|record| ledger::entry(record, &ctx.clock)).collect();
    // The health of what runs is in memory only.
    for (container, known) in kept.spec().containers.iter().zip(&observed.containers) {
        let Some(newest) = known.instances.last().filter(|n| n.is_live()) else { continue };
        let of_it = |e: &&mut Entry| e.container == container.name && e.attempt == newest.attempt;
        if let Some(entry) = entries.iter_mut().find(of_it) {
            entry.health = known.health.clone();
        }
    }
    Ok(Subject { kept, observed, status, entries, over: false })
}

/// A pod that is over, from what is kept of it.
fn ended(ctx: &Context, identity: &Identity) -> Result<Option<Subject>, Refused> {
    let Some(stored) = ctx.store.pod(&identity.namespace, &identity.name, true) else { return Ok(None) };
    let kept = read_kept(ctx, &stored.key.uid)?;
    let spec = kept.spec();
    let records = read_records(ctx, &kept)?;
    let number = records.values().map(|record| record.sandbox).max();
    let sandbox = number.map_or(Sandbox::None, |number| Sandbox::Gone { number });
    let observed = recover::observed(&kept, sandbox, &records, spec, ctx);
    let status = match &kept.state.ended {
        Some(ended) => serde_json::from_value(ended.status.clone()).unwrap_or_default(),
        None => {
            Machine::new(spec.clone(), ctx.policy(), observed.clone(), Memo::default()).plan(ctx.clock.now()).status
        }
    };
    let entries = records.values().map(|record| ledger::entry(record, &ctx.clock)).collect();
    Ok(Some(Subject { over: kept.state.ended.is_some(), kept, observed, status, entries }))
}

pub(super) fn read_kept(ctx: &Context, uid: &str) -> Result<Kept<PodSpec>, Refused> {
    let directory = ctx.paths.state_pods().join(uid);
    Kept::read(&directory, &ctx.storage, &ctx.clock).map_err(|error| Refused::Internal {
        message: format!("{} {}", directory.display(), podwright_sys::error::chain(&error)),
    })
}

fn read_records(ctx: &Context, kept: &Kept<PodSpec>) -> Result<Records, Refused> {
    let directory = ctx.paths.pod(kept.spec()).records();
    records::read(&directory, &ctx.storage, &ctx.clock)
        .map_err(|error| Refused::Internal { message: format!("{}: {error}", directory.display()) })
}

fn read_entries(ctx: &Context, kept: &Kept<PodSpec>) -> Result<Vec<Entry>, Refused> {
    Ok(read_records(ctx, kept)?.values().map(|record| ledger::entry(record, &ctx.clock)).collect())
}

/// The newest earlier pod in which some container worked: of the name, or of the same job one that succeeded.
fn earlier(ctx: &Context, identity: &Identity, subject: &Subject) -> Option<Earlier> {
    let present = &subject.kept.spec().uid;
    let snapshot = ctx.store.pods();
    let in_namespace = snapshot.items.iter().filter(|(index, _)| index.namespace == identity.namespace);
    let field = |index: &Index, name: &str| index.fields.get(name).cloned();
    let uids: Vec<String> = match subject.kept.owner() {
        None => {
            let of_name =
                in_namespace.filter(|(index, _)| field(index, "metadata.name").as_ref() == Some(&identity.name));
            of_name.filter_map(|(index, _)| field(index, "metadata.uid")).filter(|uid| uid != present).collect()
        }
        Some(owner) => {
            let is_run = runs_of(ctx, &identity.namespace, &owner.name);
            let of_job = in_namespace.filter(|(index, _)| {
                index.labels.get("batch.kubernetes.io/job-name").is_some_and(|job| is_run(job))
                    && field(index, "status.phase").is_some_and(|phase| phase == "Succeeded")
            });
            let mut by_end: Vec<(String, String)> =
                of_job.filter_map(|(index, pod)| Some((finished(pod), field(index, "metadata.uid")?))).collect();
            by_end.sort_unstable_by(|a, b| b.cmp(a));
            by_end.into_iter().take(MOST_EARLIER).map(|(_, uid)| uid).collect()
        }
    };
    // One that cannot be read has nothing to be compared with.
    let mut all: Vec<Kept<PodSpec>> = uids.iter().filter_map(|uid| read_kept(ctx, uid).ok()).collect();
    all.retain(|kept| kept.state.accepted_at <= subject.kept.state.accepted_at);
    all.sort_by_key(|kept| std::cmp::Reverse(kept.state.accepted_at));
    all.into_iter().take(MOST_EARLIER).find_map(|kept| {
        let entries = read_entries(ctx, &kept).ok()?;
        let document = kept.document();
        let (name, manifest) = (document.spec.name.clone(), document.manifest.clone());
        entries.iter().any(why::worked).then_some(Earlier { name, manifest, entries })
    })
}

/// Whether a job of some name does the work of this one: it is this one, or another run of the cron job that made it.
fn runs_of(ctx: &Context, namespace: &str, job: &str) -> impl Fn(&str) -> bool {
    let object = ctx.store.object(Kind::Job, namespace, job);
    let object: Value = object.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let cron =
        object.pointer("/metadata/ownerReferences/0/name").and_then(Value::as_str).map(|cron| format!("{cron}-"));
    let job = job.to_owned();
    move |name| {
        let minutes = cron.as_ref().and_then(|cron| name.strip_prefix(cron.as_str()));
        name == job || minutes.is_some_and(|minutes| minutes.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// When the last container of a pod ended, as its status has it: such times sort as text.
pub(super) fn finished(pod: &str) -> String {
    let pod: Value = serde_json::from_str(pod).unwrap_or_default();
    let containers = pod["status"]["containerStatuses"].as_array();
    let ends = containers.into_iter().flatten().filter_map(|c| c["state"]["terminated"]["finishedAt"].as_str());
    ends.max().unwrap_or_default().to_owned()
}

fn index_of(subject: &Subject, name: &str) -> Result<usize, Refused> {
    let spec = subject.kept.spec();
    spec.containers.iter().position(|c| c.name == name).ok_or_else(|| {
        let known: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
        let message =
            format!("pod {}/{} has no container {name:?}; it has: {}", spec.namespace, spec.name, known.join(", "));
        Refused::Conflict { message }
    })
}

pub(super) fn file_problems(ctx: &Context, file: &str) -> Vec<String> {
    let files = ctx.store.files();
    let rejected = files.into_iter().find(|report| report.file == file && report.state == FileState::Rejected);
    rejected.map_or_else(Vec::new, |report| report.problems)
}

/// What can be meant by a name.
pub(super) fn known(ctx: &Context) -> Known {
    let of_kind = |kind, snapshot: Listed| {
        let name = |index: &Index| index.fields.get("metadata.name").cloned().unwrap_or_default();
        snapshot.items.into_iter().map(move |(index, _)| (kind, index.namespace.clone(), name(&index)))
    };
    let all = [
        (Kind::Pod, ctx.store.pods()),
        (Kind::Job, ctx.store.objects(Kind::Job)),
        (Kind::CronJob, ctx.store.objects(Kind::CronJob)),
    ];
    let rejected = ctx.store.files().into_iter().filter(|report| report.state == FileState::Rejected);
    let live = ctx.live.borrow();
    Known {
        names: all.into_iter().flat_map(|(kind, snapshot)| of_kind(kind, snapshot)).collect(),
        rejected: rejected.map(|report| (report.file, report.problems)).collect(),
        retention: format!("{}, {} at most", why::duration(live.retention_age), live.retention_pods),
        directory: ctx.fixed.manifest_dir.display().to_string(),
    }
}
