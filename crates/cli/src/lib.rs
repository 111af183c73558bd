//! The command line `podwright`: arguments ([`args`]), the agent's API ([`client`]), and printers that turn an object
//! and a time into text ([`pods`], [`describe`], [`events`], [`files`], [`yaml`]). [`run`] is the whole program.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod age;
pub mod args;
mod chart;
pub mod client;
mod context;
pub mod describe;
mod describe_container;
mod describe_job;
mod error;
pub mod events;
pub mod files;
mod get;
pub mod jobs;
pub mod kind;
mod logs;
mod manifests;
mod moments;
mod output;
pub mod page;
pub mod pods;
pub mod status;
mod steer;
pub mod svg;
pub mod table;
pub mod timeline;
mod values;
mod wait;
pub mod why;
pub mod words;
pub mod yaml;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::Shell as CompletionShell;
use podwright_core::api::DEFAULT_SOCKET;

use args::{Args, Color, Command, Shell};
use client::Client;
use context::Context;
use error::{CliError, Done};
use output::Out;
use page::{Page, Style, Tone};

/// Runs the program with the arguments, environment and streams of this process.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let mut context =
        Context { client: Client::new(socket(args.socket)), style: style(args.color), out: Out::of_process() };
    match dispatch(args.command, &mut context) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough (`podwright logs … | head`).
        Err(CliError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let said = chain(&error);
            if !said.is_empty() {
                let mut page = Page::new(Style::Plain);
                page.lines(("error: ", ""), Tone::Normal, &said);
                context.out.note(&page);
            }
            ExitCode::from(error.exit_status())
        }
    }
}

fn dispatch(command: Command, context: &mut Context) -> Done {
    match command {
        Command::Validate(args) => manifests::validate(&args, context),
        Command::Plan(args) => manifests::plan(&args, context),
        Command::Completion { shell } => completion(shell, context),
        Command::Version { client: true } => version_of_client(context),
        online => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| CliError::Failed(format!("cannot wait for the agent: {e}")))?;
            runtime.block_on(dispatch_online(online, context))
        }
    }
}

async fn dispatch_online(command: Command, context: &mut Context) -> Done {
    match command {
        Command::Get(args) => get::get(args, context).await,
        Command::Describe(args) => get::describe(args, context).await,
        Command::Events(args) => get::events(args, context).await,
        Command::Logs(args) => logs::logs(args, context).await,
        Command::Status(args) => status::status(args, context).await,
        Command::Why(args) => why::why(args, context).await,
        Command::Timeline(args) => timeline::timeline(args, context).await,
        Command::Delete(args) => steer::delete(args, context).await,
        Command::Restart(args) => steer::restart(args, context).await,
        Command::Create(args) => steer::create(args, context).await,
        Command::Wait(args) => wait::wait(args, context).await,
        Command::Version { .. } => {
            version_of_client(context)?;
            let agent = context.client.get("/version").await?;
            let text = |key: &str| agent[key].as_str().unwrap_or("<unknown>");
            context.out.print(&Page::of_line(format_args!(
                "Agent Version: {} ({})",
                text("gitVersion"),
                text("platform")
            )))
        }
        Command::Validate(_) | Command::Plan(_) | Command::Completion { .. } => Ok(()),
    }
}

fn version_of_client(context: &mut Context) -> Done {
    context.out.print(&Page::of_line(concat!("Client Version: v", env!("CARGO_PKG_VERSION"))))
}

fn completion(shell: Shell, context: &mut Context) -> Done {
    let shell = match shell {
        Shell::Bash => CompletionShell::Bash,
        Shell::Zsh => CompletionShell::Zsh,
        Shell::Fish => CompletionShell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "podwright", &mut script);
    context.out.raw(&script)
}

fn socket(given: Option<PathBuf>) -> PathBuf {
    let from_environment = || std::env::var_os("PODWRIGHT_SOCKET").filter(|v| !v.is_empty()).map(PathBuf::from);
    given.or_else(from_environment).unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
}

fn style(color: Option<Color>) -> Style {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let coloured = match color {
        Some(Color::Always) => true,
        Some(Color::Never) => false,
        // Asked for nothing, or for what is usual.
        Some(Color::Auto) | None => !refused && io::stdout().is_terminal(),
    };
    if coloured { Style::Coloured } else { Style::Plain }
}

/// An error with its causes in one line, without saying anything twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
