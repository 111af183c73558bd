//! What every command has at hand.

use crate::client::Client;
use crate::output::Out;
use crate::page::Style;

/// What every command has at hand.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) style: Style,
    pub(crate) out: Out,
}
