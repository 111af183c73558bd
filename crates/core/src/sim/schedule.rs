//! One schedule: pods, behaviours and mishaps chosen by a seed, run to the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::actor::{Actor, HookTurn, Start, Term, Turn};
use super::check::Violation;
use super::random::Random;
use super::world::World;
use crate::pod::NodePolicy;
use crate::pod::backoff;
use crate::pod::spec::{
    Container, Hook, HttpGet, Lifecycle, MessagePolicy, PodSecurity, PodSpec, Probe, ProbeAction, PullPolicy,
    Resources, RestartAction, RestartPolicy, RestartRule, Role, Security, StartGate,
};
use crate::time::Time;

/// A schedule is over when nothing happened for this long: longer than the longest back-off.
const QUIET: Duration = Duration::from_secs(320);

/// Virtual time a schedule gets at most: longer than any chain of back-offs and graces it can make.
const LENGTH: Duration = Duration::from_secs(50_000);

/// What a seed stands for.
#[derive(Debug, Clone)]
pub struct Schedule {
    seed: u64,
    pods: Vec<(PodSpec, Vec<Actor>)>,
    mishaps: bool,
}

/// How a schedule went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Steps the agent carried out.
    pub steps: u64,
    /// Phase and newest exit codes of the mains, of every pod whose outcome does not hang on time: one with a deadline, or
    /// with a startup or liveness probe on a main, may well end otherwise when its agent was away; so may one whose hook is a
    /// request, which goes down with its agent, or one in which a container may ask for a restart of all at any time.
    pub outcomes: Vec<(String, Vec<Option<i32>>)>,
    /// The timeline, a line each.
    pub timeline: Vec<String>,
    /// An invariant that did not hold.
    pub violation: Option<Violation>,
}

impl Schedule {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> Schedule {
        let mut random = Random::new(seed);
        let count = 1 + random.below(3);
        let pods = (0..count).map(|n| pod(&mut random, n)).collect();
        // Half of the schedules let every pod come to its own end, so that crashes can be shown to change no outcome.
        Schedule { seed, pods, mishaps: random.chance(50) }
    }

    /// Whether only the agent's crashes disturb it: then they may change no outcome.
    pub fn is_undisturbed(&self) -> bool {
        !self.mishaps
    }

    /// Runs it; the agent dies before the steps named by `crashes`.
    pub fn run(&self, crashes: &[u64]) -> Report {
        let start = Time(1_700_000_000_000_000_000);
        let random = Random::new(self.seed ^ 0x5eed);
        let policy = NodePolicy { start_gate: StartGate::Ready, crash_backoff: backoff::DEFAULT, host_ips: Vec::new() };
        let mut world = World::new(start, policy, Some(random.clone()));
        let mut disk = Random::new(self.seed ^ 0xd15c);
        if disk.chance(40) {
            // Some pods come to a disk that is full already.
            let delay = if disk.chance(40) { Duration::ZERO } else { disk.millis(0, 60_000) };
            world.fill_disk_after(delay, disk.millis(100, 150_000));
        }
        for (spec, actors) in &self.pods {
            world.add(spec.clone(), actors.clone());
        }
        for step in crashes {
            world.crash_before_step(*step);
        }
        if self.mishaps {
            self.disturb(&mut world, random);
        }
        let violation = world.run(QUIET, start + LENGTH).and_then(|()| world.check_progress()).err();
        let name = |p: usize, c: usize| &self.pods[p].0.containers[c].name;
        let timeline = world.log.iter().map(|e| {
            format!(
                "{:10.3} s  pod {}  {:?} {}",
                e.at.since(start).as_secs_f64(),
                e.pod,
                e.what,
                names(&e.what, e.pod, &name)
            )
        });
        Report {
            steps: world.steps_until_quiet(),
            outcomes: (0..self.pods.len())
                .filter(|p| is_timeless(&self.pods[*p].0))
                .map(|p| outcome(&world, p))
                .collect(),
            timeline: timeline.collect(),
            violation,
        }
    }

    fn disturb(&self, world: &mut World, mut random: Random) {
        for p in 0..self.pods.len() {
            if random.chance(40) {
                world.lose_shim_after(random.millis(0, 60_000), p);
            }
            if random.chance(15) {
                world.restart_after(random.millis(0, 60_000), p);
            }
            if random.chance(50) {
                let grace = random.chance(30).then(|| Duration::from_secs(random.below(20)));
                world.delete_after(random.millis(0, 90_000), p, grace);
            }
            if random.chance(20) {
                world.delete_after(random.millis(0, 90_000), p, Some(Duration::from_secs(random.below(5))));
            }
        }
        for _ in 0..random.below(4) {
            world.crash_after(random.millis(0, 90_000));
        }
    }
}

fn is_timeless(spec: &PodSpec) -> bool {
    let steady = |c: &Container| {
        let main = c.role == Role::Main;
        let probed = main && (c.startup_probe.is_some() || c.liveness_probe.is_some());
        let asks = matches!(c.lifecycle.post_start, Some(Hook::HttpGet(_)));
        let all = c.restart_rules.iter().any(|rule| rule.action == RestartAction::RestartAllContainers);
        !probed && !asks && !all
    };
    spec.active_deadline.is_none() && spec.containers.iter().all(steady)
}

fn outcome(world: &World, p: usize) -> (String, Vec<Option<i32>>) {
    (world.phase(p).to_owned(), world.main_exit_codes(p))
}

fn names<'a>(what: &super::node::What, pod: usize, name: &impl Fn(usize, usize) -> &'a String) -> String {
    use super::node::What;
    match what {
        What::Started { container, .. }
        | What::Ready { container }
        | What::Hooked { container, .. }
        | What::HookDone { container, .. }
        | What::Signaled { container, .. }
        | What::Killed { container, .. }
        | What::Ended { container, .. }
        | What::StartFailed { container } => name(pod, *container).clone(),
        _ => String::new(),
    }
}

fn pod(random: &mut Random, n: u64) -> (PodSpec, Vec<Actor>) {
    let policy = random.pick(&[RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]);
    let mut containers = Vec::new();
    for i in 0..random.below(4) {
        let role = random.pick(&[Role::Init, Role::Sidecar]);
        containers.push(container(random, role, i));
    }
    for i in 0..1 + random.below(2) {
        containers.push(container(random, Role::Main, 10 + i));
    }
    let actors = containers.iter().map(|c| actor(random, c.role, policy)).collect();
    let spec = PodSpec {
        namespace: "default".to_owned(),
        name: format!("pod-{n}"),
        uid: format!("uid-{n}"),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        restart_policy: policy,
        grace: Duration::from_secs(random.below(12)),
        active_deadline: random.chance(10).then(|| Duration::from_secs(1 + random.below(60))),
        start_gate: random.pick(&[None, Some(StartGate::Started), Some(StartGate::Ready)]),
        readiness_gates: Vec::new(),
        hostname: format!("pod-{n}"),
        runtime_class: None,
        host_network: false,
        host_pid: false,
        host_ipc: false,
        security: PodSecurity::default(),
        volumes: Vec::new(),
        containers,
    };
    (spec, actors)
}

fn container(random: &mut Random, role: Role, i: u64) -> Container {
    let probed = role != Role::Init;
    Container {
        name: format!(
            "{}{i}",
            match role {
                Role::Init => "init",
                Role::Sidecar => "side",
                Role::Main => "main",
            }
        ),
        role,
        image: "simulated".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        ports: Vec::new(),
        resources: Resources::default(),
        mounts: Vec::new(),
        startup_probe: (probed && random.chance(25)).then(|| probe(random)),
        readiness_probe: (probed && random.chance(35)).then(|| probe(random)),
        liveness_probe: (probed && random.chance(20)).then(|| probe(random)),
        lifecycle: if probed { lifecycle(random) } else { Lifecycle::default() },
        restart_policy: restart_policy(random, role),
        restart_rules: if random.chance(12) { rules(random) } else { Vec::new() },
        message_path: "/dev/termination-log".to_owned(),
        message_policy: MessagePolicy::File,
        security: Security::default(),
    }
}

fn lifecycle(random: &mut Random) -> Lifecycle {
    Lifecycle {
        // One that fails for ever is restarted for ever.
        post_start: random.chance(20).then(|| hook(random)).filter(|hook| *hook != Hook::TcpSocket),
        pre_stop: random.chance(30).then(|| hook(random)),
        stop_signal: None,
    }
}

fn hook(random: &mut Random) -> Hook {
    match random.below(8) {
        0 => Hook::Sleep(Duration::from_secs(random.below(6))),
        1 => Hook::TcpSocket,
        2 => Hook::HttpGet(HttpGet {
            scheme: "http".to_owned(),
            host: None,
            port: 80,
            path: "/".to_owned(),
            headers: Vec::new(),
        }),
        _ => Hook::Exec { command: vec!["true".to_owned()] },
    }
}

fn restart_policy(random: &mut Random, role: Role) -> Option<RestartPolicy> {
    let own = match role {
        Role::Sidecar => return None,
        Role::Init => random.pick(&[RestartPolicy::OnFailure, RestartPolicy::Never]),
        Role::Main => random.pick(&[RestartPolicy::OnFailure, RestartPolicy::Never, RestartPolicy::OnFailure]),
    };
    random.chance(12).then_some(own)
}

/// None that matches 0: what leaves so for ever would be restarted for ever.
fn rules(random: &mut Random) -> Vec<RestartRule> {
    let rule = |random: &mut Random| RestartRule {
        action: random.pick(&[RestartAction::Restart, RestartAction::RestartAllContainers]),
        not_in: false,
        values: vec![random.pick(&[1, 7, 128])],
    };
    let mut rules: Vec<RestartRule> = (0..1 + random.below(2)).map(|_| rule(random)).collect();
    if random.chance(20) {
        rules.push(RestartRule { not_in: true, values: vec![0], ..rule(random) });
    }
    rules
}

fn hook_turn(random: &mut Random) -> HookTurn {
    HookTurn { takes: (!random.chance(15)).then(|| random.millis(0, 8_000)), fails: random.chance(20) }
}

fn probe(random: &mut Random) -> Probe {
    Probe {
        action: ProbeAction::Exec { command: vec!["true".to_owned()] },
        initial_delay: Duration::from_secs(random.below(3)),
        period: Duration::from_secs(1 + random.below(8)),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 1 + u32::try_from(random.below(5)).unwrap_or(0),
        grace: random.chance(20).then(|| Duration::from_secs(1 + random.below(5))),
    }
}

fn actor(random: &mut Random, role: Role, policy: RestartPolicy) -> Actor {
    let mut turns: Vec<Turn> = (0..random.below(3)).map(|_| turn(random, role)).collect();
    // The last turn repeats for ever: it must let the pod get somewhere.
    let ends = role == Role::Init || (role == Role::Main && policy != RestartPolicy::Always);
    let run = ends.then(|| random.millis(0, 20_000));
    turns.push(Turn { run, pre_stop: hook_turn(random), ..Turn::STEADY });
    Actor { turns }
}

fn turn(random: &mut Random, role: Role) -> Turn {
    let ends = role == Role::Init || random.chance(60);
    Turn {
        start: random.pick(&[
            Start::Runs,
            Start::Runs,
            Start::Runs,
            Start::Runs,
            Start::NoImage,
            Start::NotPrepared,
            Start::Refused,
        ]),
        run: ends.then(|| random.millis(0, 20_000)),
        code: random.pick(&[0, 0, 1, 7]),
        term: match random.below(4) {
            0 => Term::Ignores,
            _ => Term::Leaves { after: random.millis(0, 9_000), code: random.pick(&[0, 0, 3, 143]) },
        },
        startup_after: random.millis(0, 6_000),
        ready_after: random.millis(0, 6_000),
        live_until: random.chance(40).then(|| random.millis(0, 20_000)),
        post_start: hook_turn(random),
        pre_stop: hook_turn(random),
    }
}
