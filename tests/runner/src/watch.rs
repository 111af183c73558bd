//! Follows the pods of the API in the background, over the agent's deaths.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::Value;

use crate::host::boot_ns;
use crate::http;

const RETRY: Duration = Duration::from_millis(20);
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// What was seen, and when (`CLOCK_BOOTTIME` ns).
#[derive(Debug)]
pub struct Seen {
    /// When.
    pub at_ns: i64,
    /// What.
    pub what: News,
}

/// What can be seen.
#[derive(Debug)]
pub enum News {
    /// Every pod at the begin of a watch.
    List {
        /// The active ones.
        active: Vec<Value>,
        /// These, and those that have gone: one may have ended before the watch stood.
        all: Vec<Value>,
    },
    /// A pod was added or modified.
    Changed(Value),
    /// A pod is no longer active.
    Removed(Value),
}

/// A watch that goes on until it is dropped.
#[derive(Debug)]
pub struct Watch {
    /// What it saw.
    pub news: Receiver<Seen>,
    over: Arc<AtomicBool>,
}

impl Watch {
    /// Begins as soon as the socket answers.
    pub fn new(socket: PathBuf) -> Watch {
        let (send, news) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                // Any failure means that the agent is down: it is asked again until the case is over.
                drop(follow(&socket, &send));
                sleep(RETRY);
            }
        });
        Watch { news, over }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn follow(socket: &Path, send: &Sender<Seen>) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let answer = http::request(socket, "GET", "/api/v1/pods?watch=true", None).map_err(text)?;
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    // Listed after the watch stands, so that nothing that ends in between is missed.
    let list = |path| -> Result<Vec<Value>, String> {
        let (_, list) = http::fetch(socket, "GET", path, LIST_TIMEOUT).map_err(text)?;
        let list: Value = serde_json::from_str(&list).map_err(|e| e.to_string())?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    let (active, all) = (list("/api/v1/pods")?, list("/api/v1/pods?all=true")?);
    let tell = |what| send.send(Seen { at_ns: boot_ns(), what }).map_err(|e| e.to_string());
    tell(News::List { active, all })?;
    for line in BufReader::new(answer.body).lines() {
        let mut change: Value = serde_json::from_str(&line.map_err(text)?).map_err(|e| e.to_string())?;
        let object = change["object"].take();
        match change["type"].as_str() {
            Some("ADDED" | "MODIFIED") => tell(News::Changed(object))?,
            Some("DELETED") => tell(News::Removed(object))?,
            _ => return Err("the watch expired".to_owned()),
        }
    }
    Ok(())
}
