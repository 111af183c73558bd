//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use podwright_core::api::DEFAULT_SOCKET;

use crate::values::{StopTakes, duration, seconds, stop_takes};

const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  failed; validate: a file has a problem
  2  wrong usage
  3  no such object
  4  the agent cannot be reached, or broke off
  5  the agent refused: the object's state does not allow it
  6  wait: not within the time

Environment:
  PODWRIGHT_SOCKET  the agent's socket, if --socket is not given
  NO_COLOR          not empty: no colours, if --color is not given";

/// See and steer the pods and jobs of this node.
#[derive(Debug, Parser)]
#[command(name = "podwright", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Args {
    /// The agent's socket.
    #[arg(long, global = true, value_name = "PATH",
          help = format!("The agent's socket [default: PODWRIGHT_SOCKET, else {DEFAULT_SOCKET}]"))]
    pub socket: Option<PathBuf>,
    /// Colour the output [default: auto, on a terminal]
    #[arg(long, global = true, value_name = "WHEN")]
    pub color: Option<Color>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List pods, jobs, cron jobs, events or manifest files
    Get(Get),
    /// Show everything about a pod, ended ones included, a job or a cron job
    Describe(Names),
    /// Show what a container wrote
    Logs(Logs),
    /// Show what happened
    Events(Events),
    /// Show how the node and its agent fare: a full disk, say, and since when
    Status(Status),
    /// Explain what a pod, job or cron job waits for, what ended it last, and what to do
    Why(Why),
    /// Draw the life of a pod as a chart
    Timeline(Timeline),
    /// Stop and remove a pod, a job with its pods, or a cron job with its jobs
    ///
    /// What comes from a file of the directory stays away until that file changes.
    Delete(Delete),
    /// Stop a pod and run it again from its first init container, back-off forgotten
    Restart(PodNames),
    /// Make a job from a cron job, now
    Create(Create),
    /// Wait until something is true of pods or jobs
    Wait(Wait),
    /// Check manifests without an agent
    Validate(Validate),
    /// Show the order in which a manifest's pods would start and stop, without an agent
    Plan(Plan),
    /// Show the versions of this program and of the agent
    Version {
        /// Only of this program
        #[arg(long)]
        client: bool,
    },
    /// Write a completion script for a shell to stdout
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// Shells with completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "names of programs")]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// pod/NAME, one a line
    Name,
}

/// One namespace, or all.
#[derive(Debug, ClapArgs)]
pub struct Scope {
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// `get`.
#[derive(Debug, ClapArgs)]
pub struct Get {
    /// pods, jobs or cronjobs [NAME...], KIND/NAME..., events, or files
    #[arg(required = true, value_name = "WHAT")]
    pub what: Vec<String>,
    /// Which namespaces.
    #[command(flatten)]
    pub scope: Scope,
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// Go on showing changes
    #[arg(short, long)]
    pub watch: bool,
    /// Also pods that have ended and were removed
    #[arg(long)]
    pub all: bool,
    /// Only those with these labels, such as app=web,tier!=db
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// Only those with these fields, such as status.phase=Running
    #[arg(long, value_name = "FIELDS")]
    pub field_selector: Option<String>,
}

/// Pods by name.
#[derive(Debug, ClapArgs)]
pub struct PodNames {
    /// NAME, pod NAME, or pod/NAME
    #[arg(required = true, value_name = "POD")]
    pub what: Vec<String>,
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

/// Pods, jobs or cron jobs by name.
#[derive(Debug, ClapArgs)]
pub struct Names {
    /// NAME of a pod, KIND NAME, or KIND/NAME; KIND: pod, job, cronjob
    #[arg(required = true, value_name = "WHAT")]
    pub what: Vec<String>,
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

/// `create`.
#[derive(Debug, ClapArgs)]
pub struct Create {
    /// What.
    #[command(subcommand)]
    pub what: CreateWhat,
}

/// What `create` makes.
#[derive(Debug, Subcommand)]
pub enum CreateWhat {
    /// Make a job from a cron job, now
    Job {
        /// The job's name
        name: String,
        /// The cron job: cronjob/NAME
        #[arg(long, value_name = "CRONJOB")]
        from: String,
        /// The namespace
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
}

/// `wait`.
#[derive(Debug, ClapArgs)]
pub struct Wait {
    /// Which.
    #[command(flatten)]
    pub names: Names,
    /// condition=TYPE[=STATUS] (complete, failed, ready, ...), or delete
    #[arg(long = "for", value_name = "WHAT")]
    pub until: String,
    /// How long for all of them; 0: look once
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// `logs`.
#[derive(Debug, ClapArgs)]
pub struct Logs {
    /// NAME of a pod, pod/NAME, or job/NAME
    #[arg(required = true, value_name = "POD")]
    pub what: Vec<String>,
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Go on until the container will not run again, over log rotation and restarts
    #[arg(short, long)]
    pub follow: bool,
    /// Which container [default: the first main one]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// The instance before the present one
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// Only the last N lines; -1: all
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..))]
    pub tail: Option<i64>,
    /// Begin each line with its time
    #[arg(long)]
    pub timestamps: bool,
}

/// `events`.
#[derive(Debug, ClapArgs)]
pub struct Events {
    /// Which namespaces.
    #[command(flatten)]
    pub scope: Scope,
    /// Only about this: NAME of a pod, or KIND/NAME
    #[arg(long = "for", value_name = "WHAT")]
    pub about: Option<String>,
    /// Go on showing new ones
    #[arg(short, long)]
    pub watch: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
}

/// `status`.
#[derive(Debug, ClapArgs)]
pub struct Status {
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Data>,
}

/// `why`.
#[derive(Debug, ClapArgs)]
pub struct Why {
    /// NAME or NAME/CONTAINER of a pod, job/NAME, cronjob/NAME; NAME is also a job's or cron job's if there is no such pod
    #[arg(required = true, value_name = "WHAT")]
    pub what: Vec<String>,
    /// Which container [default: the one that matters most]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Data>,
}

/// `timeline`.
#[derive(Debug, ClapArgs)]
pub struct Timeline {
    /// NAME, pod NAME, or pod/NAME
    #[arg(required = true, value_name = "POD")]
    pub what: Vec<String>,
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Write an SVG picture instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "ascii", "width"])]
    pub svg: Option<PathBuf>,
    /// Only ASCII characters
    #[arg(long)]
    pub ascii: bool,
    /// Columns of the chart [default: COLUMNS, else the terminal's, else 100]
    #[arg(long, value_name = "COLUMNS")]
    pub width: Option<usize>,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", conflicts_with_all = ["ascii", "width"])]
    pub output: Option<Data>,
}

/// Output formats of what is no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Data {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

impl From<Data> for Output {
    fn from(data: Data) -> Output {
        match data {
            Data::Json => Output::Json,
            Data::Yaml => Output::Yaml,
        }
    }
}

/// `delete`.
#[derive(Debug, ClapArgs)]
pub struct Delete {
    /// Which.
    #[command(flatten)]
    pub names: Names,
    /// Seconds between the stop signal and SIGKILL [default: the pod's own]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    pub grace_period: Option<u64>,
    /// The shortest grace period, 1 second
    #[arg(long, conflicts_with = "grace_period")]
    pub now: bool,
    /// Wait until it is gone
    #[arg(long)]
    pub wait: bool,
}

/// `validate`.
#[derive(Debug, ClapArgs)]
pub struct Validate {
    /// Manifests, directories of them, or - for stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `plan`.
#[derive(Debug, ClapArgs)]
pub struct Plan {
    /// A manifest, or - for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How long a plain init container is assumed to run
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub init_takes: Duration,
    /// How long a main container is assumed to run, unless it is to run always
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub main_takes: Duration,
    /// How long a container is assumed to take to leave once told to; never: it ignores the stop signal
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = stop_takes)]
    pub stop_takes: StopTakes,
    /// The node's sidecarStartGate
    #[arg(long, value_name = "GATE", default_value = "Ready")]
    pub sidecar_start_gate: Gate,
}

/// `sidecarStartGate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Gate {
    /// Once it is ready
    #[value(name = "Ready")]
    Ready,
    /// Once it has started
    #[value(name = "Started")]
    Started,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
