//! How a fake container behaves.

use std::time::Duration;

/// The behaviour of a container, instance by instance; the last [`Turn`] repeats.
#[derive(Debug, Clone)]
pub struct Actor {
    /// At least one.
    pub turns: Vec<Turn>,
}

/// One instance's behaviour.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// How its start goes.
    pub start: Start,
    /// It leaves by itself after this; `None`: never.
    pub run: Option<Duration>,
    /// Exit code of that end.
    pub code: i32,
    /// What it does when it is told to stop.
    pub term: Term,
    /// Its startup probe succeeds from this age on.
    pub startup_after: Duration,
    /// Its readiness probe succeeds from this age on.
    pub ready_after: Duration,
    /// Its liveness probe fails from this age on; `None`: never.
    pub live_until: Option<Duration>,
    /// How its postStart hook goes, if it has one.
    pub post_start: HookTurn,
    /// How its preStop hook goes, if it has one.
    pub pre_stop: HookTurn,
}

/// How a hook goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookTurn {
    /// How long it takes; `None`: it never returns.
    pub takes: Option<Duration>,
    /// Whether it fails then.
    pub fails: bool,
}

impl HookTurn {
    /// Done at once.
    pub const GOOD: HookTurn = HookTurn { takes: Some(Duration::ZERO), fails: false };
}

/// How a start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It runs.
    Runs,
    /// Its image is not there.
    NoImage,
    /// A mount fails before the runtime is called.
    NotPrepared,
    /// The runtime refuses it.
    Refused,
}

/// What an instance does on its stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// Leaves after a while.
    Leaves {
        /// How long it takes.
        after: Duration,
        /// With this code.
        code: i32,
    },
    /// Nothing.
    Ignores,
}

impl Turn {
    /// Starts, runs for ever, passes its probes at once, leaves with 0 when told to.
    pub const STEADY: Turn = Turn {
        start: Start::Runs,
        run: None,
        code: 0,
        term: Term::Leaves { after: Duration::ZERO, code: 0 },
        startup_after: Duration::ZERO,
        ready_after: Duration::ZERO,
        live_until: None,
        post_start: HookTurn::GOOD,
        pre_stop: HookTurn::GOOD,
    };
}

impl Actor {
    /// The same for every instance.
    pub fn always(turn: Turn) -> Actor {
        Actor { turns: vec![turn] }
    }

    /// The behaviour of the `n`-th instance.
    pub fn turn(&self, n: u32) -> Turn {
        let last = self.turns.len() - 1;
        self.turns[usize::try_from(n).map_or(last, |n| n.min(last))]
    }
}
