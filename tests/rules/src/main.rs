//! `rules`: holds the repository to what ARCHITECTURE.md says of its files. One problem a line; the exit status is 0 without one.

mod arrows;
mod circles;
mod code;
mod modules;
mod msrv;
mod paths;
mod resolve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

const USAGE: &str = "usage: rules [--repository DIR] circles|msrv|paths...";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            problems.iter().for_each(|problem| println!("{problem}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("rules: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<Vec<String>> {
    let (repository, rest) = match args {
        [flag, directory, rest @ ..] if flag == "--repository" => (PathBuf::from(directory), rest),
        rest => (Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), rest),
    };
    let repository = repository.canonicalize().with_context(|| format!("{}", repository.display()))?;
    let mut problems = Vec::new();
    for rule in rest {
        problems.extend(match rule.as_str() {
            "circles" => circles::check(&repository)?,
            "msrv" => msrv::check(&repository)?,
            "paths" => paths::check(&repository)?,
            _ => bail!("{USAGE}"),
        });
    }
    if rest.is_empty() { bail!("{USAGE}") } else { Ok(problems) }
}
