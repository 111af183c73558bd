//! The life of one sandbox, seen from the agent: made or found, talked to, gone. One task each.

use std::sync::Arc;
use std::time::Duration;

use podwright_core::manifest::Document;
use podwright_core::time::Time;
use podwright_shim::proto::{Event, Record, Request, UNSAID_LIMIT};
use podwright_sys::cgroup::Cgroup;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Context;
use super::records;
use super::setup;
use super::volumes;
use crate::paths::PodPaths;
use crate::preflight::chain;
use crate::shim::{Connection, ConnectionError, Line, TooLong};

/// A shim that has not answered by then counts as dead. Under emulation a start takes seconds.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a shim may take to kill everything and leave, before its cgroup is killed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections in a row that may break before the shim's first word.
const MAX_RECONNECTS: u32 = 3;
/// Pause between tries to remove what is left, when processes outlive SIGKILL (a hung disk).
const DISMANTLE_RETRY: Duration = Duration::from_secs(10);

/// What the worker asks for.
#[derive(Debug)]
pub(super) enum Order {
    /// Tell the shim.
    Say(Line),
    /// End it, with all that is in it.
    Remove,
}

/// What the worker hears.
#[derive(Debug)]
pub(super) enum Word {
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
pub(super) enum Origin {
    /// Make it.
    Made,
    /// An earlier agent made it.
    Found,
}

/// What the task needs to know.
pub(super) struct Sandbox {
    /// Everybody's.
    pub(super) ctx: Arc<Context>,
    /// The pod.
    pub(super) document: Arc<Document>,
    /// Its directories.
    pub(super) paths: PodPaths,
    /// Its cgroup.
    pub(super) cgroup: Cgroup,
    /// The sandbox's number.
    pub(super) number: u32,
}

/// The other end of the task.
#[derive(Debug)]
pub(super) struct Handle {
    /// The sandbox's number.
    pub(super) number: u32,
    /// Its cgroup.
    pub(super) cgroup: Cgroup,
    /// The shim's pid, once it stands.
    pub(super) pid: Option<i32>,
    /// The longest request that its shim takes.
    pub(super) max_request: usize,
    orders: mpsc::UnboundedSender<Order>,
}

impl Handle {
    /// Orders are carried out one after the other. Those to a sandbox that is gone are lost.
    pub(super) fn order(&self, order: Order) {
        let _gone = self.orders.send(order);
    }

    /// Tells the shim, unless it would close the connection over a request as long as this one, and with that cut off
    /// everything else that the pod's containers wait for.
    pub(super) fn say(&self, request: &Request) -> Result<(), Untold> {
        let line = Line::of(request)?;
        line.fits(self.max_request)?;
        self.order(Order::Say(line));
        Ok(())
    }
}

/// Why a shim is not told something.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    /// It has no form in JSON: a path that is not UTF-8.
    #[error("a request cannot be written")]
    Unwritable(#[from] std::io::Error),
    /// See there.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// Starts the task. It ends when the sandbox is gone, or when the handle is dropped: then the sandbox stays as it is.
pub(super) fn start<T: Send + 'static>(
    sandbox: Sandbox,
    origin: Origin,
    words: mpsc::UnboundedSender<T>,
    wrap: fn(u32, Word) -> T,
) -> Handle {
    let (orders, receiver) = mpsc::unbounded_channel();
    let handle =
        Handle { number: sandbox.number, cgroup: sandbox.cgroup.clone(), pid: None, max_request: UNSAID_LIMIT, orders };
    tokio::spawn(async move {
        let number = sandbox.number;
        // The worker may have ended with the agent.
        let tell = |word| drop(words.send(wrap(number, word)));
        if let Some(last) = sandbox.live(origin, receiver, &tell).await {
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
    async fn live(&self, origin: Origin, orders: mpsc::UnboundedReceiver<Order>, tell: &impl Fn(Word)) -> Option<Word> {
        let mut child = None;
        let end = match origin {
            Origin::Found => self.converse(orders, tell).await,
            Origin::Made => match self.make().await {
                Ok(spawned) => {
                    child = Some(spawned);
                    match self.converse(orders, tell).await {
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
        let completed = self.dismantle().await;
        if let Some(mut child) = child {
            let _status = child.wait().await;
        }
        Some(last.map_or(Word::Gone(completed), Word::Failed))
    }

    async fn make(&self) -> Result<Child, String> {
        let (ctx, document, paths, number) =
            (Arc::clone(&self.ctx), Arc::clone(&self.document), self.paths.clone(), self.number);
        let volumes = volumes::check_host_paths(&document.pod, &ctx.asides.host_paths).await;
        volumes.map_err(|error| chain(&error))?;
        let runtime = tokio::runtime::Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            setup::make(&ctx, &document.pod, &paths, number)
        });
        match made.await {
            Ok(Ok(child)) => Ok(child),
            Ok(Err(error)) => Err(chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Talks to the shim until it is dead. An error: it never said a word.
    async fn converse(
        &self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        tell: &impl Fn(Word),
    ) -> Result<End, ConnectionError> {
        let mut connection = Connection::open(&self.paths.socket()).await?;
        let mut deadline = Some(Instant::now() + ANSWER_TIMEOUT);
        let (mut heard, mut removing, mut reconnects) = (false, false, 0);
        loop {
            tokio::select! {
                // Cancel-safe, see there. `None`: the shim has closed; a new connection tells whether it is dead.
                event = connection.next() => match event {
                    Ok(Some(Event::State { version: _, sandbox: _, pid, created, instances, memo, max_request })) => {
                        (heard, reconnects) = (true, 0);
                        if !removing {
                            deadline = None;
                        }
                        let created_at = self.ctx.clock.time_of(created, self.ctx.clock.boot_id());
                        tell(Word::Up { created_at, pid, instances, memo, max_request });
                    }
                    Ok(Some(Event::Failed { message })) => return Ok(End::Failed(message)),
                    Ok(Some(event)) => tell(Word::Said(event)),
                    closed => {
                        if let Err(error) = closed {
                            tracing::warn!(uid = self.document.pod.uid, error = chain(&error), "a shim's connection broke");
                        }
                        reconnects += 1;
                        match Connection::open(&self.paths.socket()).await {
                            Ok(again) if !removing && reconnects <= MAX_RECONNECTS => connection = again,
                            Err(error) if !heard => return Err(error),
                            _ => return Ok(End::Dead),
                        }
                    }
                },
                // Cancel-safe: a channel. Closing means that the worker has ended with the agent.
                order = orders.recv() => match order {
                    Some(Order::Say(line)) => self.say(&mut connection, Ok(line)).await,
                    Some(Order::Remove) => {
                        self.say(&mut connection, Line::of(&Request::Shutdown)).await;
                        removing = true;
                        deadline = Some(Instant::now() + SHUTDOWN_TIMEOUT);
                    }
                    None => return Ok(End::Left),
                },
                // Cancel-safe: a timer.
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    tracing::warn!(uid = self.document.pod.uid, removing, "the shim does not answer; killing the pod's cgroup");
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
                tracing::debug!(uid = self.document.pod.uid, error = chain(&error), "the shim could not be told")
            }
            Err(_) => tracing::warn!(uid = self.document.pod.uid, "the shim does not read what it is told"),
        }
    }

    /// Removes all that is left, however long that takes, and completes the records that nobody else will.
    async fn dismantle(&self) -> Vec<Record> {
        loop {
            let (ctx, paths, cgroup) = (Arc::clone(&self.ctx), self.paths.clone(), self.cgroup.clone());
            let (place, removals) = (paths.run.clone(), self.ctx.asides.removals.clone());
            let done = removals.change(&place, move || {
                setup::dismantle(&cgroup, &paths).map_err(|error| chain(&error))?;
                let mut records = records::read(&paths.records(), &ctx.clock).map_err(|error| error.to_string())?;
                records::complete(&paths.records(), &mut records, &ctx.clock).map_err(|error| chain(&error))
            });
            match done.await.map_err(|error| error.to_string()).flatten() {
                Ok(completed) => return completed,
                Err(error) => {
                    tracing::error!(
                        uid = self.document.pod.uid,
                        error,
                        "what is left of a sandbox cannot be removed; trying again"
                    );
                    tokio::time::sleep(DISMANTLE_RETRY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_shim::proto::{InstanceId, MAX_REQUEST};

    /// A shim from before limits were said takes 1 MiB, and closes the connection over more.
    #[test]
    fn a_shim_is_not_told_what_is_too_long_for_it() {
        let (orders, mut told) = mpsc::unbounded_channel();
        let cgroup = Cgroup::at("/nowhere");
        let mut handle = Handle { number: 1, cgroup, pid: None, max_request: UNSAID_LIMIT, orders };
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
