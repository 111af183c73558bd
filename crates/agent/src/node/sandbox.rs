//! The life of one sandbox, seen from the agent: made or found, talked to, gone. One task each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podwright_core::manifest::PodDocument;
use podwright_core::time::Time;
use podwright_proto::{Event, InstanceId, Record, Request, UNSAID_LIMIT, record_file};
use podwright_sys::cgroup::Cgroup;
use podwright_sys::error::chain;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::records::{self, Records};
use super::{leftovers, setup, volumes};
use crate::context::Context;
use crate::node::shim::{Connection, ConnectionError, Line, TooLong};
use crate::paths::PodPaths;
use crate::storage::{self, condition::is_of_disk};

/// A shim that has not answered by then counts as dead. Under emulation a start takes seconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a shim may take to kill everything and leave, before its cgroup is killed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shim of a removed pod may wait for the disk before the agent takes its records over: its volumes are gone by
/// then, and if it was they that filled the disk, that is time enough.
const TAKE_OVER: Duration = Duration::from_secs(3);
/// Connections in a row that may break before the shim's first word.
const MAX_RECONNECTS: u32 = 3;
/// Pause between tries to remove what is left, when processes outlive SIGKILL (a hung disk).
const DISMANTLE_RETRY: Duration = Duration::from_secs(10);

/// What the worker asks for.
#[derive(Debug)]
pub enum Order {
    /// Tell the shim.
    Say(Line),
    /// End it, with all that is in it.
    Remove {
        /// Its pod is removed: nobody waits until the disk takes its records.
        deleted: bool,
        /// Nothing of this run of the pod follows: its volumes go before the shim does, whose records need the room.
        volumes: bool,
    },
}

/// What the worker hears.
#[derive(Debug)]
pub enum Word {
    /// It stands; also said again after a broken connection: what was asked before may have been lost.
    Up {
        /// When its namespaces stood.
        created_at: Time,
        /// The shim's pid.
        pid: i32,
        /// Every instance of this sandbox.
        instances: Vec<Record>,
        /// What an agent has left with it.
        memo: Option<String>,
        /// The longest request that it takes.
        max_request: usize,
    },
    /// The shim said something.
    Said(Event),
    /// It could not be made, and nothing is left of it.
    Failed(String),
    /// It is gone, and nothing is left of it. These records were completed by the agent.
    Gone(Vec<Record>),
}

/// How a sandbox begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Make it.
    Made,
    /// An earlier agent made it.
    Found,
}

/// What the task needs to know.
pub struct Sandbox {
    /// Everybody's.
    pub ctx: Arc<Context>,
    /// The pod.
    pub document: Arc<PodDocument>,
    /// Its directories.
    pub paths: PodPaths,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// The sandbox's number.
    pub number: u32,
    /// It is the first of a run of the pod.
    pub first: bool,
}

/// The other end of the task.
#[derive(Debug)]
pub struct Handle {
    /// The sandbox's number.
    pub number: u32,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// The shim's pid, once it stands.
    pub pid: Option<i32>,
    /// The longest request that its shim takes.
    pub max_request: usize,
    orders: mpsc::UnboundedSender<Order>,
    told: Told,
}

/// What the shim has told and the disk may not have: outranks what is read there.
type Told = Arc<Mutex<Records>>;

fn lock(told: &Told) -> MutexGuard<'_, Records> {
    // Nothing panics while it holds the lock.
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// What the shim has told and the disk may not have.
    pub fn told(&self) -> Records {
        lock(&self.told).clone()
    }

    /// Orders are carried out one after the other. Those to a sandbox that is gone are lost.
    pub fn order(&self, order: Order) {
        let _gone = self.orders.send(order);
    }

    /// Tells the shim, unless it would close the connection over a request as long as this one, and with that cut off
    /// everything else that the pod's containers wait for.
    pub fn say(&self, request: &Request) -> Result<(), Untold> {
        let line = Line::of(request)?;
        line.fits(self.max_request)?;
        self.order(Order::Say(line));
        Ok(())
    }
}

/// Why a shim is not told something.
#[derive(Debug, thiserror::Error)]
pub enum Untold {
    /// It has no form in JSON: a path that is not UTF-8.
    #[error("a request cannot be written")]
    Unwritable(#[from] std::io::Error),
    /// See there.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// Starts the task. It ends when the sandbox is gone, or when the handle is dropped: then the sandbox stays as it is.
pub fn start<T: Send + 'static>(
    sandbox: Sandbox,
    origin: Origin,
    words: mpsc::UnboundedSender<T>,
    wrap: fn(u32, Word) -> T,
) -> Handle {
    let (orders, receiver) = mpsc::unbounded_channel();
    let told = Told::default();
    let handle = Handle {
        number: sandbox.number,
        cgroup: sandbox.cgroup.clone(),
        pid: None,
        max_request: UNSAID_LIMIT,
        orders,
        told: Arc::clone(&told),
    };
    tokio::spawn(async move {
        let number = sandbox.number;
        // The worker may have ended with the agent.
        let tell = |word| drop(words.send(wrap(number, word)));
        if let Some(last) = sandbox.live(origin, receiver, &tell, &told).await {
            tell(last);
        }
    });
    handle
}

/// Why a conversation with a shim ended.
enum End {
    /// Nobody is interested any more; the shim goes on.
    Left,
    /// The shim is dead or has to die.
    Dead,
    /// It could not make the sandbox.
    Failed(String),
}

impl Sandbox {
    async fn live(
        &self,
        origin: Origin,
        orders: mpsc::UnboundedReceiver<Order>,
        tell: &impl Fn(Word),
        told: &Told,
    ) -> Option<Word> {
        let mut child = None;
        let end = match origin {
            Origin::Found => self.converse(orders, tell, told).await,
            Origin::Made => match self.make().await {
                Ok(spawned) => {
                    child = Some(spawned);
                    match self.converse(orders, tell, told).await {
                        Ok(end) => Ok(end),
                        Err(error) => Ok(End::Failed(chain(&error))),
                    }
                }
                Err(message) => Ok(End::Failed(message)),
            },
        };
        let last = match end {
            Ok(End::Left) => return None,
            Ok(End::Dead) | Err(_) => None,
            Ok(End::Failed(message)) => Some(message),
        };
        if let Some(child) = &mut child {
            // It may not have come as far as its cgroup. An error: it has ended already.
            let _ended = child.start_kill();
        }
        let completed = self.dismantle(told).await;
        if let Some(mut child) = child {
            let _status = child.wait().await;
        }
        Some(last.map_or(Word::Gone(completed), Word::Failed))
    }

    async fn make(&self) -> Result<Child, String> {
        let (ctx, document, paths) = (Arc::clone(&self.ctx), Arc::clone(&self.document), self.paths.clone());
        let (number, first) = (self.number, self.first);
        let volumes = volumes::check_host_paths(&document.spec, &ctx.asides.host_paths).await;
        volumes.map_err(|error| chain(&error))?;
        let runtime = tokio::runtime::Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            setup::make(&ctx, &document.spec, &paths, number, first)
        });
        match made.await {
            Ok(Ok(child)) => {
                self.ctx.storage.report(&self.paths.run, None);
                Ok(child)
            }
            Ok(Err(error)) => {
                let of_disk = is_of_disk(&error).then_some(&error as &(dyn std::error::Error + 'static));
                self.ctx.storage.report(&self.paths.run, of_disk);
                Err(chain(&error))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Talks to the shim until it is dead. An error: it never said a word.
    async fn converse(
        &self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        tell: &impl Fn(Word),
        told: &Told,
    ) -> Result<End, ConnectionError> {
        let mut connection = Connection::open_patiently(&self.paths.socket()).await?;
        let mut deadline = Some(Instant::now() + ANSWER_TIMEOUT);
        let (mut heard, mut removing, mut deleting, mut reconnects) = (false, false, false, 0);
        loop {
            tokio::select! {
                // Cancel-safe, see there. `None`: the shim has closed; a new connection tells whether it is dead.
                event = connection.next() => match event {
                    Ok(Some(Event::State { version: _, sandbox: _, pid, created, instances, memo, max_request })) => {
                        (heard, reconnects) = (true, 0);
                        if !removing {
                            deadline = None;
                        }
                        self.hear_all(told, &instances);
                        let created_at = self.ctx.clock.time_of(created, self.ctx.clock.boot_id());
                        tell(Word::Up { created_at, pid, instances, memo, max_request });
                    }
                    Ok(Some(Event::Failed { message })) => return Ok(End::Failed(message)),
                    Ok(Some(event)) => {
                        if let Event::Instance(record) = &event {
                            self.hear(told, record);
                        }
                        tell(Word::Said(event));
                    }
                    closed => {
                        if let Err(error) = closed {
                            tracing::warn!(uid = self.document.spec.uid, error = chain(&error), "a shim's connection broke");
                        }
                        reconnects += 1;
                        match Connection::open_patiently(&self.paths.socket()).await {
                            Ok(again) if !removing && reconnects <= MAX_RECONNECTS => connection = again,
                            Err(error) if !heard => return Err(error),
                            _ => return Ok(End::Dead),
                        }
                    }
                },
                // Cancel-safe: a channel. Closing means that the worker has ended with the agent.
                order = orders.recv() => match order {
                    Some(Order::Say(line)) => self.say(&mut connection, Ok(line)).await,
                    Some(Order::Remove { deleted, volumes }) => {
                        self.say(&mut connection, Line::of(&Request::Shutdown)).await;
                        (removing, deleting) = (true, deleted || deleting);
                        let timeout = if deleted && waits_for_disk(told) { TAKE_OVER } else { SHUTDOWN_TIMEOUT };
                        deadline = Some(Instant::now() + timeout);
                        if volumes {
                            self.remove_volumes().await;
                        }
                    }
                    None => return Ok(End::Left),
                },
                // Cancel-safe: a timer.
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    if removing && waits_for_disk(told) {
                        if deleting {
                            tracing::info!(uid = self.document.spec.uid, "the shim's records are taken over: the disk does not take them yet");
                            return Ok(End::Dead);
                        }
                        // It is the only one that knows, whatever becomes of the agent. Its death is seen by the connection.
                        deadline = Some(Instant::now() + SHUTDOWN_TIMEOUT);
                        continue;
                    }
                    tracing::warn!(uid = self.document.spec.uid, removing, "the shim does not answer; killing the pod's cgroup");
                    return Ok(End::Dead);
                }
            }
        }
    }

    /// A shim that does not read is found out by its silence; an error shows at the next read.
    async fn say(&self, connection: &mut Connection, line: std::io::Result<Line>) {
        let sent = async { connection.send(&line?).await };
        match timeout(SHUTDOWN_TIMEOUT, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(uid = self.document.spec.uid, error = chain(&error), "the shim could not be told")
            }
            Err(_) => tracing::warn!(uid = self.document.spec.uid, "the shim does not read what it is told"),
        }
    }

    /// What the shim tells, and whether the disk takes it.
    fn hear(&self, told: &Told, record: &Record) {
        let mut told = lock(told);
        let path = record_file(&self.paths.records(), &record.id);
        match &record.unsaved {
            Some(why) => {
                let error = storage::shim_error(why.errno, &why.message);
                self.ctx.storage.report(&path, Some(&error));
            }
            None if told.get(&record.id).is_some_and(|known| known.unsaved.is_some()) => {
                self.ctx.storage.report(&path, None);
            }
            None => {}
        }
        records::hear(&mut told, record);
    }

    /// All that the shim knows: what it says nothing of any more is on disk.
    fn hear_all(&self, told: &Told, instances: &[Record]) {
        let before = std::mem::take(&mut *lock(told));
        instances.iter().for_each(|record| self.hear(told, record));
        let after = lock(told);
        for id in before.keys().filter(|id| !after.contains_key(id)) {
            self.ctx.storage.report(&record_file(&self.paths.records(), id), None);
        }
    }

    async fn remove_volumes(&self) {
        let (clock, volumes, removals) = (Arc::clone(&self.ctx.clock), self.paths.volumes(), &self.ctx.asides.removals);
        match removals.change(&self.paths.run, move || leftovers::remove(&clock, &volumes)).await {
            Ok(left) => leftovers::follow_up(&self.ctx, left),
            Err(error) => tracing::error!(%error, "removing a pod's volumes failed"),
        }
    }

    /// Completes the records that nobody else will.
    async fn complete(&self, told: &Told) -> Vec<Record> {
        let (ctx, directory, told) = (Arc::clone(&self.ctx), self.paths.records(), lock(told).clone());
        let path = directory.clone();
        records::insist(&path, move || {
            // Without them it would not be known whose end nobody saw.
            let mut records = records::read(&directory, &ctx.storage, &ctx.clock)?;
            let ids: Vec<InstanceId> = told.keys().cloned().collect();
            let completed = records::complete(&directory, &mut records, told.clone(), &ctx.storage, &ctx.clock);
            // Those are the agent's to write now, and the others are on disk.
            for id in ids.iter().filter(|id| !completed.iter().any(|record| record.id == **id)) {
                ctx.storage.report(&record_file(&directory, id), None);
            }
            Ok(completed)
        })
        .await
    }

    /// Removes all that is left, however long that takes, and completes the records that nobody else will.
    async fn dismantle(&self, told: &Told) -> Vec<Record> {
        loop {
            let (clock, paths, cgroup) = (Arc::clone(&self.ctx.clock), self.paths.clone(), self.cgroup.clone());
            let removals = &self.ctx.asides.removals;
            let done = removals.change(&self.paths.run, move || {
                setup::dismantle(&clock, &cgroup, &paths).map_err(|error| chain(&error))
            });
            match done.await.map_err(|error| error.to_string()).flatten() {
                Ok(left) => {
                    leftovers::follow_up(&self.ctx, left);
                    return self.complete(told).await;
                }
                Err(error) => {
                    tracing::error!(
                        uid = self.document.spec.uid,
                        error,
                        "what is left of a sandbox cannot be removed; trying again"
                    );
                    tokio::time::sleep(DISMANTLE_RETRY).await;
                }
            }
        }
    }
}

/// Whether a shim has nothing left to do but to write what the disk has refused so far.
fn waits_for_disk(told: &Told) -> bool {
    let told = lock(told);
    !told.is_empty() && told.values().all(|record| record.exit.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_proto::MAX_REQUEST;

    /// A shim from before limits were said takes 1 MiB, and closes the connection over more.
    #[test]
    fn a_shim_is_not_told_what_is_too_long_for_it() {
        let (orders, mut told) = mpsc::unbounded_channel();
        let cgroup = Cgroup::at("/proc/nowhere");
        let mut handle =
            Handle { number: 1, cgroup, pid: None, max_request: UNSAID_LIMIT, orders, told: Told::default() };
        let id = InstanceId { container: "app".into(), attempt: 0 };
        let exec =
            |bytes: usize| Request::Exec { seq: 1, id: id.clone(), command: vec!["x".repeat(bytes)], timeout_ms: 1 };
        handle.say(&exec(UNSAID_LIMIT / 2)).unwrap();
        assert!(matches!(told.try_recv(), Ok(Order::Say(_))));
        let refused = handle.say(&exec(UNSAID_LIMIT)).unwrap_err().to_string();
        assert!(refused.contains("argument list too long") && refused.contains("1048576"), "{refused}");
        assert!(told.try_recv().is_err());
        handle.max_request = MAX_REQUEST;
        handle.say(&exec(12 << 20)).unwrap();
        assert!(matches!(told.try_recv(), Ok(Order::Say(_))));
    }
}
