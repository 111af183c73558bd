//! Why a command did not do what it was asked to.

use std::io;

use crate::client::ClientError;

/// Why a command did not do what it was asked to; each kind has an exit status of its own (`podwright --help`).
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{0}\nSee podwright --help")]
    Usage(String),
    #[error("{0}")]
    NotFound(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    #[error("{0}")]
    TimedOut(String),
    #[error("{0}")]
    Failed(String),
    /// All that there is to say was said.
    #[error("")]
    Reported,
}

impl CliError {
    /// The exit status that tells it.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            CliError::Failed(_) | CliError::Reported | CliError::Output(_) => 1,
            CliError::Usage(_) => 2,
            CliError::NotFound(_) => 3,
            CliError::TimedOut(_) => 6,
            CliError::Client(ClientError::Unreachable { .. } | ClientError::Broken { .. }) => 4,
            CliError::Client(ClientError::Refused { code: 404, .. }) => 3,
            CliError::Client(ClientError::Refused { code: 409, .. }) => 5,
            CliError::Client(ClientError::Refused { .. }) => 1,
        }
    }
}

/// What a command leaves behind.
pub(crate) type Done = Result<(), CliError>;
