//! What both sides hold to.

/// Version of the wire and of the disk format.
pub const VERSION: u32 = 1;

/// Longest request a shim takes, in bytes: the 2 MiB of arguments and variables that execve(2) takes, each byte of them as an
/// escape of JSON (`\u0001`), and twice as much as a bundle's configuration may have for all the rest. It says so in
/// `Event::State`; nobody sends it more, since it closes such a connection.
pub const MAX_REQUEST: usize = 6 * (2 << 20) + 2 * (4 << 20);

/// Longest event an agent takes, in bytes: the states of a pod of 2000 containers, of which each record has 64 KiB at most, all
/// of it escapes. It says so in `Request::Hello`, and the shim tells of no more instances than there is room for.
pub const MAX_EVENT: usize = 128 << 20;

/// What a peer takes that says nothing: all did, in both directions, before they said so.
pub const UNSAID_LIMIT: usize = 1 << 20;

/// Longest `Request::Remember::memo`, in bytes.
pub const MAX_MEMO: usize = 512 << 10;

pub(crate) fn unsaid_limit() -> usize {
    UNSAID_LIMIT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_unsaid(limit: &usize) -> bool {
    *limit == UNSAID_LIMIT
}
