//! `?watch=true`: one JSON object a line, `{"type": "ADDED|MODIFIED|DELETED|ERROR", "object": …}`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::Closing;
use super::error::ApiError;
use super::selector::Selector;
use crate::status::{Change, Index, Snapshot, Watcher};

/// One watching client.
pub(super) struct Watch {
    /// What it wants to see.
    pub(super) selector: Selector,
    /// Follows the store from where the list stood.
    pub(super) watcher: Watcher,
    /// Ends the stream when the agent stops.
    pub(super) closing: Closing,
    /// `timeoutSeconds`.
    pub(super) timeout: Option<Duration>,
}

struct State {
    watch: Watch,
    deadline: Option<Instant>,
    first: Option<String>,
    over: bool,
}

impl Watch {
    /// Streams `initial` as ADDED, then every change.
    pub(super) fn respond(self, initial: Option<Snapshot>) -> Response {
        let mut first = String::new();
        for (_, object) in initial.iter().flat_map(|s| &s.items).filter(|(index, _)| self.selector.matches(index)) {
            push_line(&mut first, "ADDED", object);
        }
        let deadline = self.timeout.and_then(|t| Instant::now().checked_add(t));
        let state = State { watch: self, deadline, first: (!first.is_empty()).then_some(first), over: false };
        let body = Body::from_stream(futures_util::stream::unfold(state, |mut state| async move {
            let text = state.next().await?;
            Some((Ok::<_, Infallible>(Bytes::from(text)), state))
        }));
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl State {
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let timeout = async {
                match self.deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Every arm may be dropped at any time: none of them takes anything before it is ready.
            let changes = tokio::select! {
                () = self.watch.closing.wait() => return None,
                () = timeout => return None,
                changes = self.watch.watcher.next() => changes,
            };
            let mut text = String::new();
            match changes {
                Ok(changes) => changes.iter().for_each(|c| self.push(&mut text, c)),
                Err(expired) => {
                    self.over = true;
                    push_line(&mut text, "ERROR", &ApiError::from(expired).status().to_string());
                }
            }
            if !text.is_empty() {
                return Some(text);
            }
        }
    }

    fn push(&self, text: &mut String, change: &Change) {
        let shown = |index: &Option<Arc<Index>>| index.as_deref().is_some_and(|i| self.watch.selector.matches(i));
        match (shown(&change.before), shown(&change.after)) {
            (false, true) => push_line(text, "ADDED", &change.object),
            (true, true) => push_line(text, "MODIFIED", &change.object),
            (true, false) => push_line(text, "DELETED", &change.object),
            (false, false) => {}
        }
    }
}

fn push_line(text: &mut String, kind: &str, object: &str) {
    text.push_str("{\"type\":\"");
    text.push_str(kind);
    text.push_str("\",\"object\":");
    text.push_str(object);
    text.push_str("}\n");
}
