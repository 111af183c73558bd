//! Questions about any object: why it is as it is. Answered beside its controller, which only hands out what it knows.

mod pod;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use podwright_core::cron;
use podwright_core::cron::why as cron_why;
use podwright_core::job::state::{JobState, PodSeen};
use podwright_core::job::why::{self as job_why, Failed};
use podwright_core::manifest::Spec;
use podwright_core::objects::{Identity, Kind};
use podwright_core::pod::spec::PodSpec;
use podwright_core::pod::why::{self, Explanation, JobSays, Situation};
use podwright_core::timeline::Timeline;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::api::command::Refused;
use crate::context::Context;
use crate::controllers::cron_job::{CronController, CronLook};
use crate::controllers::frame::{Controller, Input, Sender};
use crate::controllers::job::{JobController, JobLook};
use crate::controllers::pod::{PodController, reports};
use crate::state::object::Kept;
use pod::{blocking, file_problems, finished, known};

/// Most pods of a job, and jobs of a cron job, that are asked.
const MOST_ASKED: usize = 8;
/// Failed pods of a job that are looked at, the newest ones.
const MOST_FAILED: usize = 4;
/// A controller that waits for another one does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an explanation may ask: the controllers of a namespace, by the names of their objects.
pub struct Asked {
    ctx: Arc<Context>,
    /// What it is about.
    identity: Identity,
    /// Of pods.
    pub pods: HashMap<String, Sender<PodController>>,
    /// Of jobs.
    pub jobs: HashMap<String, Sender<JobController>>,
    /// Of cron jobs.
    pub cron_jobs: HashMap<String, Sender<CronController>>,
}

/// What a controller knows; `None`: it is gone.
async fn look<C: Controller>(controller: Option<&Sender<C>>) -> Result<Option<C::Look>, Refused> {
    let (reply, answer) = oneshot::channel();
    let Some(controller) = controller else { return Ok(None) };
    if controller.send(Input::Look(reply)).is_err() {
        return Ok(None);
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(look) => Ok(look.ok()),
        Err(_) => {
            let message =
                "its controller does not answer: does the disk of the agent's state hang? See the agent's log";
            Err(Refused::Internal { message: message.to_owned() })
        }
    }
}

impl Asked {
    /// Nobody yet.
    pub fn new(ctx: Arc<Context>, identity: Identity) -> Asked {
        Asked { ctx, identity, pods: HashMap::new(), jobs: HashMap::new(), cron_jobs: HashMap::new() }
    }

    /// Explains an object. A name that there is no object of is explained too.
    ///
    /// # Errors
    /// When the pod has no such container, it is no pod and a container is named, or what is kept of it cannot be read.
    pub async fn why(self, container: Option<String>) -> Result<Explanation, Refused> {
        let identity = self.identity.clone();
        let told = match (identity.kind, container) {
            (Kind::Pod, container) => {
                let job = self.job_of(&identity).await?;
                let controller = self.pods.get(&identity.name).cloned();
                return pod::why(self.ctx, identity, container, controller, job).await;
            }
            (kind, Some(container)) => {
                let message = format!(
                    "a {} has no containers; ask about one of its pods: podwright why POD/{container}",
                    kind.singular()
                );
                return Err(Refused::Invalid { message });
            }
            (Kind::Job, None) => self.job(&identity.name).await?,
            (Kind::CronJob, None) => self.cron().await?,
        };
        let missing = || why::missing(identity.kind, &identity.namespace, &identity.name, &known(&self.ctx));
        Ok(told.unwrap_or_else(missing))
    }

    /// The life of a pod as rows of a chart.
    ///
    /// # Errors
    /// When there is no such pod, or what is kept of it cannot be read.
    pub async fn timeline(self) -> Result<Timeline, Refused> {
        let controller = self.pods.get(&self.identity.name).cloned();
        pod::timeline(self.ctx, self.identity, controller).await
    }

    /// What the job of a pod says of itself.
    async fn job_of(&self, pod: &Identity) -> Result<JobSays, Refused> {
        let owner = self.ctx.store.pod(&pod.namespace, &pod.name, true).and_then(|stored| {
            let pod: Value = serde_json::from_str(&stored.object).ok()?;
            let owner = pod.pointer("/metadata/ownerReferences/0")?;
            Some((owner["name"].as_str()?.to_owned(), owner["uid"].as_str()?.to_owned()))
        });
        let Some((name, uid)) = owner else { return Ok(JobSays::Gone) };
        let look = look(self.jobs.get(&name)).await?;
        let look = look.filter(|look| look.kept.spec().uid == uid);
        Ok(look.map_or(JobSays::Gone, |look| JobSays::Says(self.explain(&look, &[], None).summary)))
    }

    fn explain(&self, look: &JobLook, live: &[Explanation], failed: Option<&Failed>) -> Explanation {
        let JobLook { kept, seen, refused, unwritten } = look;
        let file = self.file(kept);
        let mut told = job_why::explain(&job_why::Case {
            spec: kept.spec(),
            state: &kept.state,
            seen,
            live,
            failed,
            refused: refused.as_ref(),
            cron: kept.owner().map(|owner| owner.name.as_str()),
            file: kept.owner().is_none().then_some(file.as_str()),
            file_problems: &file_problems(&self.ctx, &file),
            now: self.ctx.clock.now(),
        });
        told.details.extend(unwritten.iter().cloned());
        told
    }

    /// The file that describes the object; empty: another object has made it.
    fn file<S: Spec>(&self, kept: &Kept<S>) -> String {
        let file = kept.wanted.origin.file();
        file.map(|from| self.ctx.fixed.manifest_dir.join(&from.file).display().to_string()).unwrap_or_default()
    }

    async fn job(&self, name: &str) -> Result<Option<Explanation>, Refused> {
        let Some(job) = look(self.jobs.get(name)).await? else { return Ok(None) };
        let is_live = |name: &&str| matches!(job.seen.get(*name), Some(PodSeen::Live { .. }));
        let pods = job.kept.state.pods.values().map(|pod| pod.name.as_str());
        let mut live = Vec::new();
        for pod in pods.filter(is_live).take(MOST_ASKED) {
            // One that was just decided on is not there yet.
            live.extend(Some(self.pod(pod).await?).filter(|told| told.situation != Situation::NotFound));
        }
        let failed = self.failed(&job).await?;
        Ok(Some(self.explain(&job, &live, failed.as_ref())))
    }

    /// A pod of the job that is explained.
    async fn pod(&self, name: &str) -> Result<Explanation, Refused> {
        let identity = Identity::new(Kind::Pod, &self.identity.namespace, name);
        let controller = self.pods.get(name).cloned();
        pod::why(Arc::clone(&self.ctx), identity, None, controller, JobSays::Asks).await
    }

    /// The pod that failed last of those that nobody told to stop; the one that settled the job, where that is known.
    async fn failed(&self, job: &JobLook) -> Result<Option<Failed>, Refused> {
        let (ctx, state, uid) = (Arc::clone(&self.ctx), job.kept.state.clone(), job.kept.spec().uid.clone());
        let Some(kept) = blocking(move || Ok(last_failed(&ctx, &state, &uid))).await? else { return Ok(None) };
        let PodSeen::Ended(end) = reports::of_kept(&kept) else { return Ok(None) };
        let document = kept.document();
        let index = document.manifest.pointer("/metadata/annotations/batch.kubernetes.io~1job-completion-index");
        let index = index.and_then(Value::as_str).and_then(|index| index.parse().ok());
        let told = self.pod(&document.spec.name).await?;
        Ok(Some(Failed { name: document.spec.name.clone(), index, end, told }))
    }

    async fn cron(&self) -> Result<Option<Explanation>, Refused> {
        let cron = self.cron_jobs.get(&self.identity.name);
        let Some(CronLook { kept, jobs, refused, unwritten }) = look(cron).await? else { return Ok(None) };
        let active = jobs.iter().filter(|(_, job)| job.end.is_none() && !job.removing).map(|(name, _)| name.as_str());
        let mut jobs_told = Vec::new();
        for name in active.take(MOST_ASKED).chain(cron_why::failed(&jobs)) {
            jobs_told.extend(self.job(name).await?);
        }
        let file = self.file(&kept);
        let (now, zone) = (self.ctx.clock.wall(), self.ctx.time_zone.clone());
        let mut told = cron_why::explain(&cron_why::Case {
            spec: kept.spec(),
            state: &kept.state,
            jobs: &jobs,
            removing: kept.state.removed_at.is_some(),
            refused: refused.as_deref(),
            told: &jobs_told,
            file: &file,
            file_problems: &file_problems(&self.ctx, &file),
            moment: &cron::Moment { now, jumped: false, zone },
        });
        told.details.extend(unwritten);
        Ok(Some(told))
    }
}

fn last_failed(ctx: &Context, state: &JobState, uid: &str) -> Option<Kept<PodSpec>> {
    let snapshot = ctx.store.pods();
    let of_job = snapshot.items.iter().filter(|(index, _)| {
        let owner = index.labels.get("batch.kubernetes.io/controller-uid");
        owner.is_some_and(|owner| owner == uid)
            && index.fields.get("status.phase").is_some_and(|phase| phase == "Failed")
    });
    let mut newest: Vec<(String, &String)> =
        of_job.filter_map(|(index, object)| Some((finished(object), index.fields.get("metadata.uid")?))).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let settled = state.verdict.as_ref().map_or("", |verdict| verdict.message.as_str());
    let kept = newest.iter().take(MOST_FAILED).filter_map(|(_, uid)| pod::read_kept(ctx, uid).ok());
    // Of this run of the job.
    let kept = kept.filter(|kept| kept.state.accepted_at >= state.accepted_at);
    kept.filter(|kept| kept.state.ended.is_some()).max_by_key(|kept| {
        let named = settled.contains(&format!("/{} ", kept.spec().name));
        let ended = kept.state.ended.as_ref();
        (named, ended.is_some_and(|ended| !ended.stopped), ended.map(|ended| ended.at))
    })
}
