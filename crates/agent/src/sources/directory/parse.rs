//! Bytes of a file -> accepted objects, or all that is wrong with them.

use std::fmt::Write as _;

use podwright_core::manifest::{self, Format};
use sha2::{Digest as _, Sha256};

use super::Seen;

/// Reads a file's content. Problems name the file, the line and the field.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Seen {
    let Some(format) = Format::of(name) else {
        return Seen::Ignored { reason: "ignored: only files named *.yaml, *.yml or *.json are manifests" };
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            return Seen::Bad { problems: vec![format!("{name}:{line}: not UTF-8 text; save it as UTF-8")] };
        }
    };
    match manifest::read(text, format) {
        Err(problems) => Seen::Bad { problems: problems.iter().map(|p| p.in_file(name)).collect() },
        Ok(objects) => {
            let notes = objects.iter().flat_map(|object| object.notes()).map(|note| note.in_file(name)).collect();
            Seen::Good { digest: digest(bytes), objects, notes }
        }
    }
}

/// SHA-256, in hex.
fn digest(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex
}
