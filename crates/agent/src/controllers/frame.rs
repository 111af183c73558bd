//! The life of one object, whatever its kind: what happens is taken in, a decision follows, what has to outlive the agent is made
//! durable, then the steps are carried out and the status is published, and nothing happens until something new does.
//!
//! A [`Controller`] is the rest: the decision of its kind (which is core's), and how its steps are carried out.

use std::sync::Arc;

use podwright_core::ledger::Cause;
use podwright_core::manifest::Spec;
use podwright_core::objects::FileOrigin;
use podwright_sys::durable::Durability;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

use crate::context::Context;
use crate::sources::wanted::WantedOf;
use crate::state::object::{Kept, Part};
use crate::storage::Listener;

/// Answered when a request was written for the first time: `Err` is why it is not on disk yet.
pub type Recorded = oneshot::Sender<Result<(), String>>;

/// A request to remove an object.
#[derive(Debug)]
pub struct Removal {
    /// Of a pod: overrides the spec's grace period.
    pub grace: Option<Duration>,
    /// Who asks, and why.
    pub cause: Cause,
    /// By hand, or because its time is over: it stays away until this file changes.
    pub suppress: Option<FileOrigin>,
    /// Told when the request would survive a power cut, or why it does not yet. Dropped: the object has come to its end meanwhile.
    pub recorded: Option<Recorded>,
}

/// What a controller is told.
pub enum Input<C: Controller> {
    /// The same object as written anew, or from another origin.
    Update(WantedOf<C::Spec>),
    /// It is to be removed.
    Remove(Removal),
    /// The object as of that save was written, or why not.
    Saved(u64, Result<(), String>),
    /// The node's settings have changed, or its clock was set.
    Settings,
    /// Somebody wants to see what it knows.
    Look(oneshot::Sender<C::Look>),
    /// What only objects of the kind are told.
    Event(C::Event),
    /// The agent ends; the object goes on.
    Leave,
}

/// Where a controller is told something.
pub type Sender<C> = mpsc::UnboundedSender<Input<C>>;

/// What is to follow once the steps of a plan were carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Something was answered at once: decide again.
    Decide,
    /// Nothing until something happens, or the plan's moment comes.
    Rest,
}

/// How objects of one kind are looked after.
pub trait Controller: Sized + Send + 'static {
    /// Their specs.
    type Spec: Spec;
    /// What only they are told.
    type Event: Send;
    /// What a decision comes to.
    type Plan: Send;
    /// What they show of themselves to who asks why.
    type Look: Send;
    /// The last word.
    type Finished: Send;

    /// Whether no step is carried out before the state that it follows from is on disk. Where not, the decision knows by
    /// [`Controller::saving`] and [`Controller::saved`] what is not, and what waits for that.
    const STATE_FIRST: bool;

    /// What is kept of the object, and how that gets to disk.
    fn desk(&mut self) -> &mut Desk<Self>;

    /// Shows the object as it was found, before anything is done about it.
    fn show_as_found(&mut self);
    /// The object is written differently; the desk has it.
    fn updated(&mut self);
    /// It is to be removed; what follows is for the next decision.
    fn remove(&mut self, cause: Cause, grace: Option<Duration>);
    /// Takes in what has happened.
    fn event(&mut self, event: Self::Event);
    /// The node's settings have changed, or its clock was set.
    fn settings(&mut self) {}
    /// Something new is being written.
    fn saving(&mut self) {}
    /// What was written last is on disk, or why not; told after every try.
    fn saved(&mut self, result: Result<(), String>);
    /// What it knows.
    fn look(&mut self) -> Self::Look;

    /// Decides, and has the desk keep what has to outlive the agent.
    fn decide(&mut self) -> Self::Plan;
    /// Whether steps go on although what they follow from could not be written: a removal, which may be what makes room.
    fn goes_on_unsaved(&self, plan: &Self::Plan) -> bool {
        let _ = plan;
        false
    }
    /// Carries out the steps.
    fn carry_out(&mut self, plan: &Self::Plan) -> impl Future<Output = Next> + Send;
    /// Shows the status, and tells what is worth telling.
    fn publish(&mut self, plan: &Self::Plan);
    /// Whether the object will never do anything again.
    fn is_over(&self, plan: &Self::Plan) -> bool;
    /// Returns when it is to be decided again if nothing happens before. Cancel-safe.
    fn rest(&mut self, plan: &Self::Plan) -> impl Future<Output = ()> + Send;
    /// What is left to do at the end.
    fn finish(self) -> impl Future<Output = Self::Finished> + Send;
}

/// Holds what an earlier agent has left back until the API shows all of it.
#[derive(Debug)]
pub struct Gate {
    /// Told when the object is shown.
    pub ready: oneshot::Sender<()>,
    /// Becomes true when all go on.
    pub go: watch::Receiver<bool>,
}

impl Gate {
    async fn pass(mut self) {
        // Whoever waited has gone: the agent ends.
        let _gone = self.ready.send(());
        let _gone = self.go.wait_for(|go| *go).await;
    }
}

/// What is kept of an object, and how that gets to disk.
pub struct Desk<C: Controller> {
    /// What everybody shares.
    pub ctx: Arc<Context>,
    /// The object as it is now.
    pub kept: Kept<C::Spec>,
    /// To the controller itself.
    pub sender: Sender<C>,
    /// As it was handed over to be written last; `None`: never.
    written: Option<Kept<C::Spec>>,
    /// How often that was.
    saves: u64,
    progress: Progress,
    recorded: Vec<Recorded>,
}

/// Where the newest state is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    OnDisk,
    Writing,
    Failed(String),
}

impl<C: Controller> Desk<C> {
    /// Of an object that is on disk as it is, or (`is_new`) was just accepted.
    pub fn new(ctx: Arc<Context>, kept: Kept<C::Spec>, sender: Sender<C>, is_new: bool) -> Desk<C> {
        let written = (!is_new).then(|| kept.clone());
        Desk { ctx, kept, sender, written, saves: 0, progress: Progress::OnDisk, recorded: Vec::new() }
    }

    /// Whether it was never handed over to be written.
    pub fn is_new(&self) -> bool {
        self.written.is_none()
    }

    /// What is tried to be written again and again, and why that fails.
    pub fn failure(&self) -> Option<&str> {
        if let Progress::Failed(error) = &self.progress { Some(error) } else { None }
    }

    /// Has the next save answered.
    pub fn answer(&mut self, recorded: Recorded) {
        self.recorded.push(recorded);
    }

    /// Has it written if it is not as it was written last, or if somebody waits to hear of it; `true`: so it was.
    pub fn save(&mut self) -> bool {
        let object_is = self.written.as_ref().is_some_and(|written| written.is_of(&self.kept.wanted));
        let all_is = object_is && self.written.as_ref().is_some_and(|written| written.state == self.kept.state);
        if all_is && self.recorded.is_empty() {
            return false;
        }
        self.saves += 1;
        self.progress = Progress::Writing;
        let (number, sender, mut recorded) = (self.saves, self.sender.clone(), std::mem::take(&mut self.recorded));
        let listener: Listener = Box::new(move |result| {
            for told in recorded.drain(..) {
                // Whoever asked may have gone.
                drop(told.send(result.map_err(str::to_owned)));
            }
            // The controller may have come to its end.
            drop(sender.send(Input::Saved(number, result.map_err(str::to_owned))));
        });
        let part = if object_is { Part::State } else { Part::All };
        let (state_dir, ctx) = (self.ctx.paths.state(), &self.ctx);
        self.kept.keep((state_dir, part), &ctx.storage, &ctx.clock, Durability::Synced, Some(listener));
        self.written = Some(self.kept.clone());
        true
    }

    /// Takes in how a save went; `None`: a newer one is under way.
    fn saved(&mut self, number: u64, result: Result<(), String>) -> Option<Result<(), String>> {
        match &result {
            Ok(()) if number < self.saves => return None,
            Ok(()) => self.progress = Progress::OnDisk,
            Err(error) => self.progress = Progress::Failed(error.clone()),
        }
        Some(result)
    }
}

/// Runs an object to its end, or until the agent leaves it (`None`).
pub async fn run<C: Controller>(
    mut controller: C,
    mut inputs: mpsc::UnboundedReceiver<Input<C>>,
    gate: Option<Gate>,
) -> Option<C::Finished> {
    if let Some(gate) = gate {
        controller.show_as_found();
        gate.pass().await;
    }
    // What has come while the disk was waited for.
    let mut backlog = Vec::new();
    loop {
        for input in backlog.drain(..) {
            take(&mut controller, input)?;
        }
        while let Ok(input) = inputs.try_recv() {
            take(&mut controller, input)?;
        }
        let plan = controller.decide();
        if controller.desk().save() {
            controller.saving();
        }
        if C::STATE_FIRST && !until_saved(&mut controller, &mut inputs, &mut backlog, &plan).await? {
            continue;
        }
        let next = controller.carry_out(&plan).await;
        controller.publish(&plan);
        if controller.is_over(&plan) {
            return Some(controller.finish().await);
        }
        if next == Next::Decide || !backlog.is_empty() {
            continue;
        }
        let input = tokio::select! {
            // Cancel-safe: a channel. It cannot close: the desk holds a sender.
            input = inputs.recv() => input,
            // Cancel-safe, see there.
            () = controller.rest(&plan) => None,
        };
        if let Some(input) = input {
            take(&mut controller, input)?;
        }
    }
}

/// Takes an input in; `None`: leave.
fn take<C: Controller>(controller: &mut C, input: Input<C>) -> Option<()> {
    match input {
        Input::Leave => return None,
        Input::Settings => controller.settings(),
        Input::Update(wanted) => {
            controller.desk().kept.wanted = wanted;
            controller.updated();
        }
        Input::Remove(Removal { grace, cause, suppress, recorded }) => {
            let desk = controller.desk();
            if let Some(file) = suppress {
                desk.kept.wanted.origin = podwright_core::objects::Origin::Directory(file);
            }
            desk.recorded.extend(recorded);
            controller.remove(cause, grace);
        }
        Input::Saved(number, result) => {
            if let Some(result) = controller.desk().saved(number, result) {
                controller.saved(result);
            }
        }
        Input::Look(reply) => {
            // Whoever asked may have gone.
            drop(reply.send(controller.look()));
        }
        Input::Event(event) => controller.event(event),
    }
    Some(())
}

/// Waits until the plan's state is on disk (`true`), or may be decided on anew (`false`). Meanwhile nothing else is decided: a disk is
/// slower than what happens, and each decision would have to be written as well. `None`: leave.
async fn until_saved<C: Controller>(
    controller: &mut C,
    inputs: &mut mpsc::UnboundedReceiver<Input<C>>,
    backlog: &mut Vec<Input<C>>,
    plan: &C::Plan,
) -> Option<bool> {
    loop {
        let progress = controller.desk().progress.clone();
        if progress == Progress::OnDisk || progress != Progress::Writing && controller.goes_on_unsaved(plan) {
            return Some(true);
        }
        // It cannot close: the desk holds a sender.
        match inputs.recv().await? {
            // A removal waits for no disk that fails.
            input @ Input::Remove(_) => {
                backlog.push(input);
                return Some(false);
            }
            // What was given up for want of the disk may have changed meanwhile.
            input @ (Input::Update(_) | Input::Event(_)) if controller.desk().failure().is_some() => {
                backlog.push(input);
                return Some(false);
            }
            input @ (Input::Update(_) | Input::Event(_) | Input::Settings) => backlog.push(input),
            input @ (Input::Leave | Input::Saved(..) | Input::Look(_)) => take(controller, input)?,
        }
    }
}
