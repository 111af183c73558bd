//! Options as runc takes them: `--name value` or `--name=value`, switches also as `--name=true|false`, before or after the id.

use std::path::PathBuf;

use lexopt::prelude::Value;
use lexopt::{Parser, ValueExt as _};

use crate::error::{Error, Result};

pub(super) fn usage(err: lexopt::Error) -> Error {
    Error::Usage(err.to_string())
}

/// A switch: alone it is on.
pub(super) fn flag(args: &mut Parser, name: &str) -> Result<bool> {
    let Some(value) = args.optional_value() else { return Ok(true) };
    match value.string().map_err(usage)?.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        other => Err(Error::Usage(format!("--{name}={other}: true or false is accepted"))),
    }
}

pub(super) fn path(args: &mut Parser) -> Result<PathBuf> {
    args.value().map(PathBuf::from).map_err(usage)
}

pub(super) fn text(args: &mut Parser) -> Result<String> {
    args.value().and_then(|value| value.string()).map_err(usage)
}

pub(super) fn number<T: std::str::FromStr>(args: &mut Parser, name: &str) -> Result<T> {
    let value = text(args)?;
    value.parse().map_err(|_| Error::Usage(format!("--{name} {value:?}: a number is accepted")))
}

/// `table` or `json`: whether it is the latter.
pub(super) fn is_json(args: &mut Parser) -> Result<bool> {
    match text(args)?.as_str() {
        "json" => Ok(true),
        "table" => Ok(false),
        other => Err(Error::Usage(format!("--format {other:?}: table or json is accepted"))),
    }
}

pub(super) fn only_id(mut args: Parser) -> Result<String> {
    let mut id = String::new();
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Value(word) if id.is_empty() => id = word.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&id)?;
    Ok(id)
}

pub(super) fn nothing(mut args: Parser) -> Result<()> {
    args.next().map_err(usage)?.map_or(Ok(()), |arg| Err(usage(arg.unexpected())))
}

pub(super) fn require_id(id: &str) -> Result<()> {
    if id.is_empty() { Err(Error::Usage("no container id given".into())) } else { Ok(()) }
}

/// All that is left, dashes or not.
pub(super) fn rest(args: &mut Parser) -> Result<Vec<String>> {
    args.raw_args().map_err(usage)?.map(|word| word.string().map_err(usage)).collect()
}
