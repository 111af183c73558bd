//! What is known of a pod when its worker begins: nothing, or what records, files and the shim of an earlier life tell.

use std::io;
use std::sync::Arc;

use podwright_core::manifest::PodDocument;
use podwright_core::pod::observe::{ContainerObserved, Memo, Observed, Sandbox as SandboxState, Unsaved};
use podwright_core::pod::spec::PodSpec;
use podwright_sys::cgroup::Cgroup;
use podwright_sys::durable::Durability;
use podwright_sys::error::chain;
use tokio::sync::{mpsc, oneshot};

use super::takeover;
use crate::context::Context;
use crate::node::records::{self, Records};
use crate::node::sandbox::{self, Handle, Origin, Sandbox, Word};
use crate::node::{ledger, leftovers, setup};
use crate::paths::PodPaths;
use crate::state::identity::Claimant;
use crate::state::object::{Kept, OBJECT, Part};
use crate::storage::told as told_once;

/// How a worker begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// A new run. There may be records of earlier ones.
    Run,
    /// Going on with the run of an earlier agent, or with a pod that has ended.
    Resume,
}

/// What was found.
pub struct Recovered {
    /// For the state machine.
    pub observed: Observed,
    /// What the shim kept for it.
    pub memo: Memo,
    /// The sandbox, if it is up.
    pub sandbox: Option<Handle>,
}

/// What is on disk.
struct OnDisk {
    records: Records,
    /// The number of the newest sandbox that is known of; 0: there is none.
    last: u32,
    /// The sandbox that may be up: its number and cgroup.
    sandbox: Option<(u32, Cgroup)>,
}

/// Finds out, and settles what is over: a dead sandbox is removed, its open records are completed.
pub async fn recover<T: Send + 'static>(
    ctx: &Arc<Context>,
    kept: &mut Kept<PodSpec>,
    paths: &PodPaths,
    beginning: Beginning,
    inputs: &mpsc::UnboundedSender<T>,
    wrap: fn(u32, Word) -> T,
) -> Recovered {
    let document = Arc::clone(kept.document());
    let sandbox = takeover::find(ctx, &document, paths).await;
    let mut disk = look(ctx, kept, paths, sandbox).await;
    let mut memo = Memo::default();
    let mut unsaved = None;
    if beginning == Beginning::Run {
        kept.state.first_sandbox = disk.last + 1;
        unsaved = save_new_run(ctx, kept).await.err();
    }
    let (mut created_at, mut handle) = (None, None);
    if let Some((number, cgroup)) = disk.sandbox.take() {
        // The first words are taken here, the later ones by the worker.
        let (words, mut receiver) = mpsc::unbounded_channel();
        let sandbox = Sandbox {
            ctx: Arc::clone(ctx),
            document: Arc::clone(&document),
            paths: paths.clone(),
            cgroup,
            number,
            first: false,
        };
        let mut found = sandbox::start(sandbox, Origin::Found, words, |number, word| (number, word));
        let word = receiver.recv().await;
        // What the shim has written since, it may have forgotten; and one that had only that left to do may be gone by now.
        disk.records = records_of(ctx, paths).await;
        match word {
            Some((_, Word::Up { created_at: at, pid, instances, memo: text, max_request })) => {
                disk.records.extend(instances.into_iter().map(|record| (record.id.clone(), record)));
                memo = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
                created_at = Some((number, at));
                found.pid = Some(pid);
                found.max_request = max_request;
                handle = Some(found);
                forward(receiver, inputs.clone(), wrap);
            }
            Some((_, Word::Gone(completed))) => {
                takeover::tell_lost(ctx, &document, number);
                disk.records.extend(completed.into_iter().map(|record| (record.id.clone(), record)));
            }
            // It cannot say anything else first; without a word there is no sandbox.
            Some((_, Word::Said(_) | Word::Failed(_))) | None => {}
        }
    }
    let state = match (created_at, disk.last) {
        (Some((number, created_at)), _) => SandboxState::Ready { number, created_at },
        (None, 0) => SandboxState::None,
        (None, number) => SandboxState::Gone { number },
    };
    let mut observed = observed(kept, state, &disk.records, &document.spec, ctx);
    observed.unsaved = unsaved.map(|error| Unsaved { since: ctx.clock.now(), error: Some(error) });
    Recovered { observed, memo, sandbox: handle }
}

/// Hands the sandbox's later words on.
fn forward<T: Send + 'static>(
    mut words: mpsc::UnboundedReceiver<(u32, Word)>,
    inputs: mpsc::UnboundedSender<T>,
    wrap: fn(u32, Word) -> T,
) {
    tokio::spawn(async move {
        while let Some((number, word)) = words.recv().await {
            if inputs.send(wrap(number, word)).is_err() {
                return;
            }
        }
    });
}

/// What records and files tell, for the state machine.
pub fn observed(
    kept: &Kept<PodSpec>,
    sandbox: SandboxState,
    records: &Records,
    spec: &PodSpec,
    ctx: &Context,
) -> Observed {
    let mut containers = vec![ContainerObserved::default(); spec.containers.len()];
    // By name, then attempt: the instances of each container come out oldest first.
    for record in records.values() {
        let Some((container, instance)) = records::instance(record, spec, &ctx.clock) else { continue };
        containers[container].instances.push(instance);
        containers[container].health = ledger::health(record, &ctx.clock);
    }
    Observed {
        accepted_at: kept.state.accepted_at,
        first_sandbox: kept.state.first_sandbox,
        restart_below: kept.state.restart_below,
        restart_at: kept.state.restart_at,
        deletion: kept.state.deletion.clone(),
        taken_up_at: ctx.clock.now(),
        deadline_set_at: kept.state.accepted_at,
        evicted: kept.state.evicted.clone(),
        unsaved: None,
        sandbox,
        sandbox_failure: None,
        containers,
    }
}

async fn records_of(ctx: &Arc<Context>, paths: &PodPaths) -> Records {
    let (context, directory) = (Arc::clone(ctx), paths.records());
    let read = move || records::read(&directory, &context.storage, &context.clock);
    records::insist(&paths.records(), read).await
}

async fn look(ctx: &Arc<Context>, kept: &Kept<PodSpec>, paths: &PodPaths, sandbox: Option<(u32, Cgroup)>) -> OnDisk {
    let (ctx, theirs, kept) = (Arc::clone(ctx), paths.clone(), kept.clone());
    records::insist(&paths.records(), move || look_blocking(&ctx, &kept, &theirs, sandbox.clone())).await
}

fn look_blocking(
    ctx: &Arc<Context>,
    kept: &Kept<PodSpec>,
    paths: &PodPaths,
    sandbox: Option<(u32, Cgroup)>,
) -> io::Result<OnDisk> {
    let document: &PodDocument = kept.document();
    let mut records = records::read(&paths.records(), &ctx.storage, &ctx.clock)?;
    let newest = sandbox.as_ref().map_or(0, |(number, _)| *number);
    let recorded = records.values().map(|r| r.sandbox).max().unwrap_or(0);
    let last = recorded.max(newest).max(kept.state.first_sandbox.saturating_sub(1));
    if sandbox.is_none() {
        settle(ctx, &document.spec, paths, &mut records);
    }
    Ok(OnDisk { records, last, sandbox })
}

/// A pod is known before its first process runs, so that an agent that dies in between finds it; and it is known which
/// records are not of this run, so that it does not take an earlier one's end for this one's.
///
/// # Errors
/// Why it is not on disk yet. It is tried again until it is.
async fn save_new_run(ctx: &Arc<Context>, kept: &Kept<PodSpec>) -> Result<(), String> {
    // A file's pod is accepted again after a power cut that took this; a job's has to be found, and an earlier run not be lost.
    let directory = kept.directory(ctx.paths.state());
    let is_new = kept.owner().is_none() && !Claimant::is_in(&directory) && !directory.join(OBJECT).exists();
    let durability = if is_new { Durability::Rename } else { Durability::Synced };
    let (answer, told) = oneshot::channel();
    kept.keep((ctx.paths.state(), Part::All), &ctx.storage, &ctx.clock, durability, Some(told_once(answer)));
    told.await.unwrap_or_else(|_| Err("the agent ends".to_owned()))
}

/// Without a sandbox nothing can run, and every record has to have an end (a reboot leaves it so).
fn settle(ctx: &Arc<Context>, spec: &PodSpec, paths: &PodPaths, records: &mut Records) {
    let cgroup = setup::pod_cgroup(ctx, spec);
    let dismantled = if cgroup.exists() { setup::dismantle(&ctx.clock, &cgroup, paths) } else { Ok(Vec::new()) };
    match dismantled {
        Ok(left) => leftovers::follow_up(ctx, left),
        Err(error) => tracing::error!(uid = spec.uid, error = chain(&error), "what is left of a pod cannot be removed"),
    }
    records::complete(&paths.records(), records, Records::new(), &ctx.storage, &ctx.clock);
}
