//! Why a container cannot be run as it stands.

use super::expand::TooLong;

/// How many leading words of a bundle's `process.args` are its entrypoint, which a container's `args` leave in place; the
/// rest are default arguments, which they replace. Without this annotation of the bundle all are entrypoint.
pub const ENTRYPOINT_LENGTH: &str = "podwright.dev/entrypoint-length";

/// Why a container cannot be run as it stands. The kubelet's reason for all of these is [`ConfigError::REASON`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no container of that index.
    #[error("the pod has no container {index}")]
    NoContainer {
        /// What was asked for.
        index: usize,
    },
    /// `runAsNonRoot`, and the bundle's user is root.
    #[error("container {name} has runAsNonRoot and its bundle runs as root; set securityContext.runAsUser")]
    NonRootImage {
        /// The container's name.
        name: String,
    },
    /// `runAsNonRoot`, and `runAsUser: 0`.
    #[error("container {name} has runAsNonRoot and runAsUser 0; accepted: one of them")]
    NonRootContradicted {
        /// The container's name.
        name: String,
    },
    /// Neither the container nor the bundle says what to run.
    #[error("no command specified: container {name} has no command, and its bundle no process.args")]
    NoCommand {
        /// The container's name.
        name: String,
    },
    /// The bundle's annotation is no number, or larger than the number of its args.
    #[error(
        "the bundle's annotation {ENTRYPOINT_LENGTH} is {found:?}, accepted: from 0 to {args}, the number of its args"
    )]
    EntrypointLength {
        /// What it is.
        found: String,
        /// How many args the bundle has.
        args: usize,
    },
    /// What the kernel would refuse to execute.
    #[error("container {name}")]
    TooLong {
        /// The container's name.
        name: String,
        /// What about it.
        source: TooLong,
    },
    /// A volume has not been set up.
    #[error("volume {volume:?} of container {name} is not set up")]
    NoVolume {
        /// The container's name.
        name: String,
        /// The volume's name.
        volume: String,
    },
    /// The built-in seccomp profile cannot be read.
    #[error("the seccomp profile RuntimeDefault cannot be read")]
    Seccomp(#[source] serde_json::Error),
}

impl ConfigError {
    /// The waiting reason of the container.
    pub const REASON: &'static str = "CreateContainerConfigError";
}
