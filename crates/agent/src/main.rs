//! `podwrightd`: configuration, host checks, then the tasks that the agent is made of.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use podwright_agent::address;
use podwright_agent::api::command::COMMAND_QUEUE;
use podwright_agent::api::{self, Api, Closing};
use podwright_agent::aside::Aside;
use podwright_agent::clock::Clock;
use podwright_agent::config::{self, Config, Live, Settings};
use podwright_agent::context::{Asides, Context};
use podwright_agent::logging::{self, LevelHandle};
use podwright_agent::node::shim::ShimBinary;
use podwright_agent::notify;
use podwright_agent::paths::{Paths, short};
use podwright_agent::preflight::{self, Host};
use podwright_agent::registry::{Inputs, Registry, Stored};
use podwright_agent::sources::directory::task;
use podwright_agent::status::Store;
use podwright_agent::storage::Storage;
use podwright_core::bundle::{NodeFacts, NodeLimits};
use podwright_core::time::{LOCALTIME, zone_of};
use podwright_image::BundleStore;
use podwright_sys::printable;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing_subscriber::EnvFilter;

/// Threads for what blocks: file systems, mostly.
const BLOCKING_THREADS: usize = 16;
/// How long requests may go on once the agent ends.
const SERVER_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs the pods of a directory of Kubernetes manifests.
///
/// SIGTERM ends the agent, and pods go on; SIGHUP reads the configuration again.
#[derive(Debug, Parser)]
#[command(name = "podwrightd", version)]
struct Cli {
    /// Configuration file [default: /etc/podwright/config.yaml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and leave
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match config::load(&cli.settings, cli.config.as_deref()) {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{}", printable::line(&problem.to_string())));
            return ExitCode::FAILURE;
        }
    };
    if cli.check_config {
        println!("OK");
        return ExitCode::SUCCESS;
    }
    // Nothing that the agent makes depends on who started it; a socket is nobody else's even before its mode is set.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    match start(&cli, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwrightd: {}", printable::lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli, config: Config) -> anyhow::Result<()> {
    let level = logging::start(config.fixed.log_format, &config.live.log_level)?;
    let host = preflight::check(&config.fixed).map_err(|lacks| {
        let all: Vec<String> = lacks.iter().map(|lack| format!("  {lack}")).collect();
        anyhow::anyhow!("this host is not ready:\n{}", all.join("\n"))
    })?;
    can_start().context("this host lacks what podwrightd needs at least; it can be tried again")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        // One that has been started stays: tokio gives up where there is none and none can be had (EAGAIN: pids.max, threads-max).
        .thread_keep_alive(Duration::MAX)
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(run(cli, config, host, &level));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Looks for what tokio does not do without: descriptors for signals, and a thread for what blocks.
fn can_start() -> anyhow::Result<()> {
    std::os::unix::net::UnixStream::pair().context("making a pair of sockets")?;
    let thread = std::thread::Builder::new().spawn(|| {}).context("starting a thread")?;
    thread.join().map_err(|_| anyhow::anyhow!("a thread that does nothing failed"))
}

async fn run(cli: &Cli, config: Config, host: Host, level: &LevelHandle) -> anyhow::Result<()> {
    // The first of the threads that stay.
    tokio::task::spawn_blocking(|| {}).await.context("starting a thread")?;
    let paths = Paths::new(&config.fixed);
    let socket = paths.api_socket();
    let listener = bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    let (live, live_receiver) = watch::channel(config.live.clone());
    let (close, closing) = watch::channel(false);
    let (go, gone) = watch::channel(false);
    let (words, word_receiver) = mpsc::channel(1);
    let (commands, command_receiver) = mpsc::channel(COMMAND_QUEUE);
    let ctx = Arc::new(context(&config, &host, paths, live_receiver.clone())?);

    let reading = || format!("reading {}", ctx.paths.state().display());
    let stored = Stored::load(&ctx).with_context(reading)?;
    let registry = Registry::start(Arc::clone(&ctx), stored, gone).await;
    let clock = Arc::clone(&ctx.clock);
    let api = Api {
        store: ctx.store.clone(),
        commands,
        log_dir: config.fixed.log_dir.clone(),
        clock: Arc::new(move || clock.now()),
        closing: Closing(closing.clone()),
    };
    let mut server = tokio::spawn(api::serve(listener, api));
    let now = Arc::clone(&ctx.clock);
    let source = task::start(config.fixed.manifest_dir.clone(), move || now.now(), live_receiver.clone(), words);
    let mut source = tokio::spawn(source.context("watching manifestDir")?);
    let inputs =
        Inputs { words: word_receiver, commands: command_receiver, live: live_receiver, closing: Closing(closing) };
    // Whoever waits for the API gets its answer before anything changes.
    tokio::task::yield_now().await;
    let registry = tokio::spawn(registry.run(inputs));
    // Nobody listens where no pod was found.
    let _none = go.send(true);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), manifests = %config.fixed.manifest_dir.display(), socket = %socket.display(), "podwrightd runs");
    notify::ready();

    let settings = Aside::new("configuration files", 1, ctx.store.clone(), Arc::clone(&ctx.clock));
    let reloader = Reloader { cli, running: &config, live: &live, level, settings };
    let ended = wait(&reloader, &mut server, &mut source).await;
    notify::stopping();
    // The receivers are in the tasks; one that has ended needs no word.
    let _told = close.send(true);
    registry.await.context("the registry failed")?;
    if tokio::time::timeout(SERVER_TIMEOUT, server).await.is_err() {
        tracing::debug!("a request was cut off");
    }
    // The lock is still held: it is ours.
    drop(std::fs::remove_file(&socket));
    tracing::info!("podwrightd ends; pods go on");
    ended
}

type Task = tokio::task::JoinHandle<std::io::Result<()>>;

/// Handles signals until one ends the agent, or a task fails.
async fn wait(reloader: &Reloader<'_>, server: &mut Task, source: &mut Task) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reloading: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
    loop {
        // All cancel-safe: signals and tasks. Signal streams do not close.
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            // One at a time; another signal meanwhile is kept by its stream.
            _ = hangup.recv(), if reloading.is_none() => {
                notify::reloading();
                reloading = Some(Box::pin(reloader.reload()));
            }
            // The future stays where it is until it is done.
            () = async { if let Some(reload) = &mut reloading { reload.await } }, if reloading.is_some() => {
                reloading = None;
                notify::ready();
            }
            ended = &mut *server => {
                return ended?.context("the API server failed").and(Err(anyhow::anyhow!("the API server ended")));
            }
            ended = &mut *source => {
                return ended?.context("watching the manifest directory failed").and(Err(anyhow::anyhow!("the manifest directory's task ended")));
            }
        }
    }
}

/// Takes up a changed configuration.
struct Reloader<'a> {
    cli: &'a Cli,
    running: &'a Config,
    live: &'a watch::Sender<Live>,
    level: &'a LevelHandle,
    settings: Aside,
}

impl Reloader<'_> {
    async fn reload(&self) {
        let (settings, file) = (self.cli.settings.clone(), self.cli.config.clone());
        let path = file.clone().unwrap_or_else(|| config::DEFAULT_FILE.into());
        let wanted = match self.settings.look(&path, move || config::load(&settings, file.as_deref())).await {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(problems)) => {
                for problem in problems {
                    tracing::error!("configuration not taken up: {problem}");
                }
                return;
            }
            Err(error) => {
                tracing::error!("configuration not taken up: {error}");
                return;
            }
        };
        let fixed = config::fixed_differences(&self.running.fixed, &wanted.fixed);
        if !fixed.is_empty() {
            tracing::warn!(
                settings = fixed.join(", "),
                "these settings only change with a restart of podwrightd; the old values hold"
            );
        }
        match wanted.live.log_level.parse::<EnvFilter>() {
            Ok(filter) => drop(self.level.reload(filter)),
            Err(error) => tracing::error!(%error, "the log level was not taken up"),
        }
        let changed = self.live.send_if_modified(|now| {
            let differs = *now != wanted.live;
            *now = wanted.live;
            differs
        });
        tracing::info!(changed, "configuration read again");
    }
}

/// Binds the API's socket. One that is there is a dead agent's: the lock is ours.
fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let (path, _directory) = short(socket)?;
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

fn context(config: &Config, host: &Host, paths: Paths, live: watch::Receiver<Live>) -> anyhow::Result<Context> {
    let fixed = &config.fixed;
    let clock = Clock::start(&fixed.boot_id_file)
        .with_context(|| format!("bootIdFile: reading {}", fixed.boot_id_file.display()))?;
    let clock = Arc::new(clock);
    let store = Store::new(clock.now());
    let shown = Arc::clone(&clock);
    store.shown_by(move || shown.calendar());
    let asides = Asides::new(&store, &clock);
    let storage = Storage::new(&fixed.state_dir, &fixed.node_name, store.clone(), Arc::clone(&clock));
    let shim = ShimBinary::open(&fixed.shim).with_context(|| format!("shim: reading {}", fixed.shim.display()))?;
    Ok(Context {
        clock,
        asides,
        paths,
        live,
        store,
        storage,
        bundles: BundleStore::new(fixed.bundle_dir.clone()),
        shim,
        cgroup_root: host.cgroup_root.clone(),
        cgroup_mount: host.cgroup_mount.clone(),
        controllers: host.controllers.clone(),
        node: node_facts(host)?,
        host_name: std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned(),
        host_ips: address::of_node().iter().map(ToString::to_string).collect(),
        time_zone: zone_of(std::fs::read(LOCALTIME).ok().as_deref()),
        fixed: fixed.clone(),
    })
}

fn node_facts(host: &Host) -> anyhow::Result<NodeFacts> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let memory_controller = host.controllers.contains(&"memory");
    Ok(NodeFacts {
        memory: total.context("/proc/meminfo has no MemTotal")? * 1024,
        cpu_controller: host.controllers.contains(&"cpu"),
        memory_controller,
        swap_controller: memory_controller && host.cgroup_root.path().join("memory.swap.max").exists(),
        lowest_oom_score_adj: lowest_oom_score_adj()?,
        limits: node_limits()?,
    })
}

/// What the kernel and the agent's capabilities allow of resource limits. What the agent itself has counts for nothing.
fn node_limits() -> anyhow::Result<NodeLimits> {
    let number = |path: &str| -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        text.trim().parse().with_context(|| format!("{path} is no number"))
    };
    let ceilings = match may_raise_limits()? {
        true => None,
        false => Some(podwright_sys::process::hard_limits().context("reading the agent's resource limits")?),
    };
    Ok(NodeLimits {
        open_files: number("/proc/sys/fs/nr_open")?,
        pending_signals: number("/proc/sys/kernel/threads-max")? / 2,
        ceilings,
    })
}

/// Whether the agent has CAP_SYS_RESOURCE.
fn may_raise_limits() -> anyhow::Result<bool> {
    const CAP_SYS_RESOURCE: u32 = 24;
    Ok(podwright_sys::caps::permitted().context("reading the agent's capabilities")?.has(CAP_SYS_RESOURCE))
}

/// Without CAP_SYS_RESOURCE nobody goes below what he has (proc(5)): root in a container, mostly. Pods run all the same.
fn lowest_oom_score_adj() -> anyhow::Result<i32> {
    const LOWEST: i32 = -1000;
    if may_raise_limits()? {
        return Ok(LOWEST);
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").context("reading /proc/self/oom_score_adj")?;
    let own = own.trim().parse().context("/proc/self/oom_score_adj is no number")?;
    tracing::warn!(lowest = own, "the agent lacks CAP_SYS_RESOURCE: no container gets a lower oom_score_adj than this");
    Ok(own)
}
