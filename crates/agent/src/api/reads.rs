//! Reads of logs. A pod may have the directory of the logs as a volume, and lead a read to where nobody answers: so reads never happen on
//! the agent's own thread, and only so many of the threads for what blocks are theirs.

use std::io;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Reads at a time; half of the threads for what blocks.
static READS: Semaphore = Semaphore::const_new(8);
/// How long a read waits for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads beside the agent's own thread.
///
/// # Errors
/// When no other read comes to its end in time, or the call panics.
pub(super) async fn read<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let full = || io::Error::new(io::ErrorKind::TimedOut, "other logs are being read, and do not answer");
    let turn = match timeout(PATIENCE, READS.acquire()).await {
        Ok(turn) => turn.map_err(io::Error::other)?,
        Err(_) => return Err(full()),
    };
    let reading = tokio::task::spawn_blocking(move || {
        let result = call();
        // Held by the call, however long that takes, not by whoever waits for it.
        drop(turn);
        result
    });
    reading.await.map_err(io::Error::other)
}
