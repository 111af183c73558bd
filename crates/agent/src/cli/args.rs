//! The arguments, and what their words mean.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Where the agent listens if nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/podwright/podwright.sock";

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
    /// The agent's socket [default: PODWRIGHT_SOCKET, else /run/podwright/podwright.sock]
    #[arg(long, global = true, value_name = "PATH")]
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

/// How long a container takes to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopTakes {
    /// So long.
    After(Duration),
    /// It ignores the signal.
    Never,
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

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => match (text.strip_suffix('m'), text.strip_suffix('h')) {
            (Some(number), _) => (number, 60.0),
            (None, Some(number)) => (number, 3600.0),
            (None, None) => (text.strip_suffix('s').unwrap_or(text), 1.0),
        },
    };
    let seconds = number.parse::<f64>().ok().map(|n| n * unit).filter(|s| *s <= 1e9);
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "accepted: a number of seconds, or with a unit, such as 500ms, 1.5s, 2m, 1h".to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "accepted: a whole number of seconds, 0 or more".to_owned())
}

fn stop_takes(text: &str) -> Result<StopTakes, String> {
    if text == "never" { Ok(StopTakes::Never) } else { duration(text).map(StopTakes::After) }
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Pods,
    Jobs,
    CronJobs,
    Events,
    Files,
}

impl Kind {
    /// What one of them is called: `pod`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Pods => "pod",
            Kind::Jobs => "job",
            Kind::CronJobs => "cronjob",
            Kind::Events => "event",
            Kind::Files => "file",
        }
    }

    /// The API's name of their list, and the path before its namespace.
    pub fn resource(self) -> (&'static str, &'static str) {
        match self {
            Kind::Pods => ("pods", "/api/v1"),
            Kind::Jobs => ("jobs", "/apis/batch/v1"),
            Kind::CronJobs => ("cronjobs", "/apis/batch/v1"),
            Kind::Events => ("events", "/api/v1"),
            Kind::Files => ("files", "/apis/podwright.dev/v1"),
        }
    }

    /// The API's kind of one of them.
    pub fn api(self) -> &'static str {
        match self {
            Kind::Pods => "Pod",
            Kind::Jobs => "Job",
            Kind::CronJobs => "CronJob",
            Kind::Events => "Event",
            Kind::Files => "File",
        }
    }

    /// Whether one of them can be named.
    pub fn has_names(self) -> bool {
        matches!(self, Kind::Pods | Kind::Jobs | Kind::CronJobs)
    }
}

fn kind(word: &str) -> Option<Kind> {
    match word {
        "pod" | "pods" | "po" => Some(Kind::Pods),
        "job" | "jobs" | "jobs.batch" | "job.batch" => Some(Kind::Jobs),
        "cronjob" | "cronjobs" | "cj" | "cronjobs.batch" | "cronjob.batch" => Some(Kind::CronJobs),
        "event" | "events" | "ev" => Some(Kind::Events),
        "file" | "files" => Some(Kind::Files),
        _ => None,
    }
}

/// The words of `get`: a kind and names, or `kind/name` each, all of one kind.
///
/// # Errors
/// A text for the user.
pub fn get_words(words: &[String]) -> Result<(Kind, Vec<String>), String> {
    let accepted = "accepted: pods, jobs, cronjobs [NAME...], KIND/NAME..., events, files";
    let first = words.first().map(String::as_str).unwrap_or_default();
    let word = first.split('/').next().unwrap_or_default();
    let kind = kind(word).ok_or_else(|| format!("cannot get \"{first}\"; {accepted}"))?;
    if !kind.has_names() && (words.len() != 1 || first.contains('/')) {
        return Err(format!("\"{first}\" takes no names; {accepted}"));
    }
    let names = if first.contains('/') { words } else { &words[1..] };
    Ok((
        kind,
        names.iter().map(|name| name_of(name, kind, &[kind])).map(|n| n.map(|(_, n)| n)).collect::<Result<_, _>>()?,
    ))
}

/// The words of a command about objects of these kinds, the first of which is meant by a bare name: `NAME...`, `KIND NAME...`,
/// or `KIND/NAME...`.
///
/// # Errors
/// A text for the user.
pub fn object_words(words: &[String], kinds: &[Kind]) -> Result<Vec<(Kind, String)>, String> {
    let bare = kinds.first().copied().unwrap_or(Kind::Pods);
    let (default, names) = match words {
        [first, rest @ ..] if !rest.is_empty() => match kind(first).filter(|kind| kinds.contains(kind)) {
            Some(kind) => (kind, rest),
            None => (bare, words),
        },
        all => (bare, all),
    };
    names.iter().map(|name| name_of(name, default, kinds)).collect()
}

/// As of [`object_words`], for pods only.
///
/// # Errors
/// A text for the user.
pub fn pod_words(words: &[String]) -> Result<Vec<String>, String> {
    Ok(object_words(words, &[Kind::Pods])?.into_iter().map(|(_, name)| name).collect())
}

/// One pod and perhaps a container: `NAME`, `NAME/CONTAINER`, `pod NAME`, `pod/NAME`, `pod/NAME/CONTAINER`.
///
/// # Errors
/// A text for the user.
pub fn pod_and_container(words: &[String], container: Option<&str>) -> Result<(String, Option<String>), String> {
    let word = match words {
        [one] => one.as_str(),
        [first, name] if kind(first) == Some(Kind::Pods) => name.as_str(),
        _ => return Err("accepted: one pod, NAME or NAME/CONTAINER".to_owned()),
    };
    let word = match word.split_once('/') {
        Some((prefix, rest)) if kind(prefix) == Some(Kind::Pods) => rest,
        _ => word,
    };
    let (name, named) = word.split_once('/').map_or((word, None), |(name, container)| (name, Some(container)));
    match (named, container) {
        (Some(a), Some(b)) if a != b => Err(format!("two containers are named: {a} and {b}")),
        (named, option) => {
            let (_, name) = name_of(name, Kind::Pods, &[Kind::Pods])?;
            Ok((name, option.or(named).map(str::to_owned)))
        }
    }
}

/// What is to be explained: a pod, maybe one of its containers, a job or a cron job.
///
/// # Errors
/// A text for the user.
pub fn explained(words: &[String], container: Option<&str>) -> Result<(Kind, String, Option<String>), String> {
    let batch = |word: &str| kind(word).filter(|kind| matches!(kind, Kind::Jobs | Kind::CronJobs));
    let first = words.first().map(String::as_str).unwrap_or_default();
    let (prefix, rest) = first.split_once('/').map_or((first, None), |(prefix, rest)| (prefix, Some(rest)));
    let named = match (batch(prefix), rest, words) {
        (Some(kind), Some(name), [_]) => Some((kind, name)),
        (Some(kind), None, [_, name]) => Some((kind, name.as_str())),
        _ => None,
    };
    let Some((kind, name)) = named else {
        let (name, container) = pod_and_container(words, container)?;
        return Ok((Kind::Pods, name, container));
    };
    if let Some(container) = container {
        let (word, message) = (kind.word(), "has no containers; ask about one of its pods");
        return Err(format!("a {word} {message}: podwright why POD/{container}"));
    }
    let (_, name) = name_of(name, kind, &[kind])?;
    Ok((kind, name, None))
}

/// The pod whose life is to be drawn.
///
/// # Errors
/// A text for the user.
pub fn charted(words: &[String]) -> Result<String, String> {
    let (kind, name, _) = explained(words, None)?;
    let of_its_own = format!("a {} has no chart of its own", kind.word());
    match kind {
        Kind::Jobs => Err(format!("{of_its_own}; its pods have: podwright get pods -l job-name={name}")),
        Kind::CronJobs => Err(format!("{of_its_own}; what became of its jobs: podwright why cronjob/{name}")),
        Kind::Pods | Kind::Events | Kind::Files => Ok(name),
    }
}

/// `NAME` of a default kind, or `KIND/NAME`.
///
/// # Errors
/// A text for the user.
pub fn name_of(word: &str, default: Kind, kinds: &[Kind]) -> Result<(Kind, String), String> {
    let (kind, name) = match word.split_once('/') {
        Some((prefix, name)) => match kind(prefix).filter(|kind| kinds.contains(kind)) {
            Some(kind) => (kind, name),
            None => {
                let accepted: Vec<String> = kinds.iter().map(|kind| format!("{}/NAME", kind.word())).collect();
                let accepted = accepted.join(", ");
                return Err(format!("\"{word}\": cannot do this with \"{prefix}\"; accepted: NAME, {accepted}"));
            }
        },
        None => (default, word),
    };
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(legal) {
        let what = kind.word();
        return Err(format!(
            "\"{name}\" cannot be the name of a {what}; accepted: lower-case letters, digits, - and ."
        ));
    }
    Ok((kind, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn names_may_have_their_kind() {
        let pods = |text: &str| pod_words(&words(text)).unwrap().join(" ");
        assert_eq!(pods("web"), "web");
        assert_eq!(pods("pod web db"), "web db");
        assert_eq!(pods("pod/web po/db"), "web db");
        assert_eq!(pods("pod"), "pod");
        assert!(pod_words(&words("deployment/web")).unwrap_err().contains("\"deployment\""));
        assert!(pod_words(&words("Web_1")).is_err());
        assert!(pod_words(&words("pod/")).is_err());
        assert_eq!(get_words(&words("pods")).unwrap(), (Kind::Pods, vec![]));
        assert_eq!(get_words(&words("po/web pod/db")).unwrap(), (Kind::Pods, words("web db")));
        assert_eq!(get_words(&words("files")).unwrap(), (Kind::Files, vec![]));
        let objects = |text: &str| object_words(&words(text), &[Kind::Pods, Kind::Jobs]);
        assert_eq!(objects("web job/nightly").unwrap(), [(Kind::Pods, "web".into()), (Kind::Jobs, "nightly".into())]);
        assert_eq!(objects("jobs a b").unwrap(), [(Kind::Jobs, "a".into()), (Kind::Jobs, "b".into())]);
        assert!(objects("cronjob/x").unwrap_err().ends_with("accepted: NAME, pod/NAME, job/NAME"));
        assert_eq!(get_words(&words("job nightly")).unwrap(), (Kind::Jobs, words("nightly")));
        assert_eq!(get_words(&words("cj")).unwrap(), (Kind::CronJobs, vec![]));
        assert!(get_words(&words("job/a pod/b")).is_err());
        assert!(get_words(&words("files x")).is_err());
        assert!(get_words(&words("events/x")).is_err());
        assert!(get_words(&words("nodes")).unwrap_err().contains("cannot get \"nodes\""));
    }

    #[test]
    fn a_container_may_stand_behind_its_pod() {
        let both = |text: &str| pod_and_container(&words(text), None);
        let web = |container: Option<&str>| Ok(("web".to_owned(), container.map(str::to_owned)));
        for (text, container) in [
            ("web", None),
            ("web/app", Some("app")),
            ("pod web", None),
            ("pod/web/app", Some("app")),
            ("pod web/app", Some("app")),
        ] {
            assert_eq!(both(text), web(container), "{text}");
        }
        assert_eq!(charted(&words("pod/web")), Ok("web".to_owned()));
        assert!(charted(&words("job/nightly")).unwrap_err().ends_with("get pods -l job-name=nightly"));
        assert_eq!(pod_and_container(&words("web/app"), Some("app")), web(Some("app")));
        assert!(pod_and_container(&words("web/app"), Some("db")).is_err());
        assert!(both("web db").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(stop_takes("never"), Ok(StopTakes::Never));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "x", "-1s", "1d", "inf", "nan", "1e99"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
