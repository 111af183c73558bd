//! The HTTP API on the agent's Unix socket: Kubernetes JSON, read from [`crate::status`], commands passed to the agent.

pub mod command;
