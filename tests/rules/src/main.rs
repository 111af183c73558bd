//! `rules`: holds the repository to what ARCHITECTURE.md says of its files. One problem a line; the exit status is 0 without one.

mod arrows;
mod circles;
mod code;
mod modules;
mod resolve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

const USAGE: &str = "usage: rules [--repository DIR] circles";

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
    match rest {
        [rule] if rule == "circles" => circles::check(&repository),
        _ => bail!("{USAGE}"),
    }
}
