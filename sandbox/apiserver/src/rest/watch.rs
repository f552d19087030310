//! Watches: a stream of changes from a revision on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::list::Selection;
use super::serve;
use crate::core::Core;
use crate::faults::Effect;
use crate::json;
use crate::kinds::Resource;
use crate::options::{ListOptions, unsigned};
use crate::protobuf;
use crate::status::{Result, Status};
use crate::store::{Change, Event, Miss, Stored};
use crate::view::{Encoding, Shown};

/// How long a watch lives that does not say so itself.
const TIMEOUT: Duration = Duration::from_mins(45);
/// How often a quiet watch that takes bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// How long before its end a watch gets its last bookmark.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Changes that are taken from history at a time.
const BATCH_MAX: usize = 128;

/// A running watch.
pub(crate) struct Watch {
    core: Arc<Core>,
    resource: Arc<Resource>,
    selection: Selection,
    shown: Shown,
    encoding: Encoding,
    changed: Receiver<u64>,
    at: u64,
    ends: Instant,
    bookmark: Option<Instant>,
    queue: VecDeque<Bytes>,
    first: bool,
    over: bool,
    /// Says nothing more once the queue is empty.
    silent: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("at", &self.at).finish_non_exhaustive()
    }
}

/// Starts a watch.
pub(crate) fn start(
    core: &Arc<Core>,
    resource: &Arc<Resource>,
    selection: Selection,
    options: &ListOptions,
    (shown, encoding): (Shown, Encoding),
) -> Result<Watch> {
    let from = match options.resource_version.as_str() {
        "" => 0,
        text => unsigned(text)
            .map_err(|why| Status::unforeseen(format!("resourceVersion: Invalid value: {text:?}: {why}")))?,
    };
    let changed = core.store.subscribe(&resource.storage).ok_or_else(Status::page_not_found)?;
    let now = Instant::now();
    let ends = now + options.timeout_seconds.map_or(TIMEOUT, Duration::from_secs);
    let mut watch = Watch {
        core: Arc::clone(core),
        resource: Arc::clone(resource),
        selection,
        shown,
        encoding,
        changed,
        at: from,
        ends,
        bookmark: options.bookmarks.then(|| (now + BOOKMARK_EVERY).min(ends - BOOKMARK_BEFORE_END.min(ends - now))),
        queue: VecDeque::new(),
        first: true,
        over: false,
        silent: false,
    };
    watch.begin(from, options.initial_events, options.bookmarks);
    Ok(watch)
}

impl Watch {
    /// Queues what the watch begins with: the objects that are there, where it asks for them.
    fn begin(&mut self, from: u64, initial: Option<bool>, bookmarks: bool) {
        let lists = initial.unwrap_or(from == 0);
        if initial == Some(false) && from == 0 {
            self.at = self.core.store.revision();
        }
        if !lists {
            return;
        }
        let (now, objects) = self.core.store.list(&self.resource.storage, &self.selection.namespace);
        self.at = now;
        for stored in objects {
            let object = serve::served(&self.resource, &stored);
            if self.selection.matches(&object) {
                self.push("ADDED", object);
            }
        }
        if initial == Some(true) && bookmarks {
            self.push_bookmark(true);
        }
    }

    /// Makes the watch fail as faults say.
    pub(crate) fn spoil(&mut self, effects: &[Effect]) {
        self.silent |= effects.contains(&Effect::Silence);
        if effects.contains(&Effect::Expire) {
            let text = format!("too old resource version: {} ({})", self.at, self.core.store.revision());
            self.push_raw("ERROR", &Status::new(410, "Expired", text).to_value());
            self.over = true;
        }
    }

    fn push(&mut self, event: &str, object: Value) {
        let object = self.shown.watched(&self.core, &self.resource, object, self.first);
        self.first = false;
        self.push_raw(event, &object);
    }

    fn push_raw(&mut self, event: &str, object: &Value) {
        let written = (self.encoding == Encoding::Protobuf).then(|| protobuf::write::event(event, object)).flatten();
        let line = written.unwrap_or_else(|| {
            let mut line = serde_json::to_vec(&json!({"type": event, "object": object})).unwrap_or_default();
            line.push(b'\n');
            line
        });
        self.queue.push_back(Bytes::from(line));
    }

    fn push_bookmark(&mut self, ends_initial: bool) {
        let mut object = serve::empty(&self.resource);
        object["metadata"] = json!({"resourceVersion": self.at.to_string()});
        if ends_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        if self.shown.is_partial() {
            object = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            });
        } else if self.shown.is_table() {
            object["metadata"]["name"] = "".into();
            object = self.shown.watched(&self.core, &self.resource, object, self.first);
            for row in object["rows"].as_array_mut().into_iter().flatten() {
                json::remove(row, &["object", "metadata", "name"]);
            }
        }
        self.push_raw("BOOKMARK", &object);
    }

    /// Takes what history has after the last revision that was told.
    fn advance(&mut self) {
        match self.core.store.changes(&self.resource.storage, self.at, BATCH_MAX) {
            Ok(changes) => {
                for change in &changes.found {
                    self.tell(change);
                }
                self.at = self.at.max(changes.up_to);
                self.over |= changes.closed;
            }
            Err(Miss::TooOld(oldest)) => {
                let text = format!("too old resource version: {} ({oldest})", self.at);
                let status = Status::new(410, "Expired", text);
                self.push_raw("ERROR", &status.to_value());
                self.over = true;
            }
            Err(Miss::Exists | Miss::Changed) => self.over = true,
        }
    }

    /// Tells a change as the selection sees it: objects come and go as they begin and cease to match.
    fn tell(&mut self, change: &Change) {
        if !self.selection.namespace.is_empty() && *self.selection.namespace != *change.object.key.namespace {
            return;
        }
        let serve = |stored: &Stored| serve::served(&self.resource, stored);
        let new = serve(&change.object);
        let selects = self.selection.selects();
        let matches = change.event != Event::Deleted && (!selects || self.selection.matches(&new));
        // What an object was matters only to a watch that selects.
        let old = change.old.as_deref().filter(|_| selects).map(serve);
        let matched =
            if selects { old.as_ref().is_some_and(|old| self.selection.matches(old)) } else { change.old.is_some() };
        match (change.event, matched, matches) {
            (Event::Deleted, true, _) => self.push("DELETED", new),
            (_, false, true) => self.push("ADDED", new),
            (_, true, true) => self.push("MODIFIED", new),
            (_, true, false) => {
                let mut last = old.unwrap_or_default();
                last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                self.push("DELETED", last);
            }
            (_, false, false) => {}
        }
    }

    /// Returns the next lines, or nothing when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.queue.is_empty() {
                let lines: Vec<Bytes> = self.queue.drain(..).collect();
                return Some(Bytes::from(lines.concat()));
            }
            if self.over {
                return None;
            }
            if self.silent {
                sleep_until(self.ends).await;
                return None;
            }
            self.changed.borrow_and_update();
            self.advance();
            if !self.queue.is_empty() || self.over {
                continue;
            }
            let bookmark = self.bookmark.unwrap_or(self.ends);
            tokio::select! {
                biased;
                () = sleep_until(self.ends) => self.over = true,
                () = sleep_until(bookmark), if self.bookmark.is_some() => {
                    self.at = self.at.max(self.core.store.revision().min(self.current()));
                    self.push_bookmark(false);
                    let last = self.ends.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(self.ends);
                    let next = (Instant::now() + BOOKMARK_EVERY).min(last);
                    self.bookmark = (next > Instant::now()).then_some(next);
                }
                changed = self.changed.changed() => self.over |= changed.is_err(),
            }
        }
    }

    /// Returns the revision up to which nothing is left to tell.
    fn current(&self) -> u64 {
        match self.core.store.changes(&self.resource.storage, self.at, 1) {
            Ok(changes) if changes.found.is_empty() => changes.up_to,
            _ => self.at,
        }
    }

    /// Makes the stream of an answer's body.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        futures::stream::unfold(self, |mut watch| async move { watch.next().await.map(|bytes| (bytes, watch)) })
    }
}
