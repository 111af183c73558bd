//! Removes what a pod leaves behind. What cannot be removed (an immutable file, a busy mount) keeps nobody waiting: it is
//! moved aside, so that the next run of the pod does not meet it, reported, and tried again until it is gone.
//!
//! Nothing here writes: a full disk is freed by it. Blocking, but for [`resume`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use podwright_sys::tree::{self, RemoveError};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::context::Context;

/// How what was moved aside is called: `.removing-NAME-N`, beside NAME.
const PREFIX: &str = ".removing-";
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What is left is left alone that many times as long as the last try took: however much there is, trying takes a tenth of a CPU.
const SHARE: u32 = 9;
/// Tries at a time, of all that is left: each has a thread of those that all that blocks shares.
static REMOVING: Semaphore = Semaphore::const_new(2);

/// What could not be removed: where it is now, and why. To be handed to [`follow_up`].
pub type Left = (PathBuf, RemoveError);

/// Removes a tree; what cannot be removed is moved aside, if that can be done. Touches nothing but files, so that a thread may
/// do it that has no descriptors but its own.
pub fn remove(clock: &Clock, path: &Path) -> Option<Left> {
    let error = tree::remove(path).err()?;
    let aside = aside(clock, path);
    let moved = fs::rename(path, &aside).is_ok();
    Some((if moved { aside } else { path.to_owned() }, error))
}

/// Sees to it that what is left goes as soon as it can be removed.
pub fn follow_up(ctx: &Arc<Context>, left: impl IntoIterator<Item = Left>) {
    left.into_iter().for_each(|(path, error)| retry(ctx, path, error));
}

/// Removes a tree, or sees to it that it goes as soon as it can be removed.
pub fn discard(ctx: &Arc<Context>, path: &Path) {
    follow_up(ctx, remove(&ctx.clock, path));
}

/// Makes sure that nothing is at `path`, which is about to be used anew.
///
/// # Errors
/// What is there can neither be removed nor moved aside.
pub fn clear(ctx: &Arc<Context>, path: &Path) -> Result<(), RemoveError> {
    hold(ctx, path);
    match remove(&ctx.clock, path) {
        Some((left, error)) if left == path => Err(error),
        left => {
            follow_up(ctx, left);
            Ok(())
        }
    }
}

/// What is at `path` is in use: it is not removed any more.
pub fn hold(ctx: &Context, path: &Path) {
    // Whoever is removing it comes to his end first.
    let _turn = ctx.storage.removal(path);
    ctx.storage.leftover(path, None);
}

/// A name beside `path` that nothing has: the clock tells agents apart, the count the calls of one.
fn aside(clock: &Clock, path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix(PREFIX).unwrap_or(&name);
    let (now, count) = (clock.now().0, COUNT.fetch_add(1, Ordering::Relaxed));
    path.with_file_name(format!("{PREFIX}{name}-{now}-{count}"))
}

/// Tries again and again, as long as nobody uses it.
fn retry(ctx: &Arc<Context>, path: PathBuf, error: RemoveError) {
    ctx.storage.leftover(&path, Some(error.to_string()));
    let of = Arc::clone(ctx);
    ctx.storage.spawn(async move {
        let ctx = of;
        let (mut pause, mut took) = (FIRST_PAUSE, Duration::ZERO);
        loop {
            tokio::time::sleep(pause.max(took * SHARE)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            let (of, left) = (Arc::clone(&ctx), path.clone());
            let Ok(_thread) = REMOVING.acquire().await else { return };
            let begun = Instant::now();
            let tried = tokio::task::spawn_blocking(move || {
                let _turn = of.storage.removal(&left);
                if !of.storage.is_leftover(&left) {
                    return true;
                }
                let failed = tree::remove(&left).err().map(|error| error.to_string());
                let gone = failed.is_none();
                of.storage.leftover(&left, failed);
                gone
            });
            // It fails when the agent ends.
            if tried.await.unwrap_or(true) {
                return;
            }
            took = begun.elapsed();
        }
    });
}

/// Whether an entry of a directory was moved aside.
pub fn is_aside(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Goes on removing what an earlier agent could not, in `directory` itself.
pub fn resume(ctx: &Arc<Context>, directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if is_aside(&entry.file_name()) {
            let (of, path) = (Arc::clone(ctx), entry.path());
            ctx.storage.spawn(async move {
                let Ok(_thread) = REMOVING.acquire().await else { return };
                // It fails when the agent ends.
                let _ended = tokio::task::spawn_blocking(move || discard(&of, &path)).await;
            });
        }
    }
}
