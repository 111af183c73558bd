//! The node's conditions (`podwright status`).

use serde_json::Value;

/// The agent's word on its node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// `v1` NodeConditions.
    pub conditions: Vec<Value>,
    /// What could not be removed so far: `path` and `error`.
    pub leftovers: Vec<Value>,
}
