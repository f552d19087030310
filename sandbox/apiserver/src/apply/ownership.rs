//! How writes move ownership: updates take what they change, applies what they say.

use std::fmt::Write as _;

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::fieldset::{FieldSet, of_applied};
use super::managed::{Entry, Manager};
use super::merge;
use crate::schema::Place;
use crate::status::{Cause, Status};

/// Fields that nobody owns.
fn unowned() -> FieldSet {
    FieldSet::of_paths(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
}

/// A write as far as ownership goes.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) manager: &'a Manager,
    pub(crate) now: &'a str,
    /// Fields that this path of the resource does not write.
    pub(crate) reset: &'a FieldSet,
}

/// What an apply comes to.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) object: Value,
    pub(crate) entries: Vec<Entry>,
}

impl Write<'_> {
    /// Moves ownership after an update from `live` to `new`.
    pub(crate) fn update(&self, live: &Value, new: &Value, mut entries: Vec<Entry>) -> Vec<Entry> {
        let changes = compare(self.place, live, new).without(self.reset);
        let taken = changes.added.union(&changes.modified);
        for entry in &mut entries {
            entry.set = entry.set.difference(&taken).difference(&changes.removed);
        }
        let mine = taken.difference(&unowned());
        let own = entries.iter().position(|entry| entry.manager.is(self.manager));
        if !mine.is_empty() {
            match own.and_then(|index| entries.get_mut(index)) {
                Some(entry) => {
                    entry.set = entry.set.union(&mine);
                    entry.time = Some(self.now.to_owned());
                }
                None => {
                    entries.push(Entry { manager: self.manager.clone(), time: Some(self.now.to_owned()), set: mine });
                }
            }
        }
        tidy(entries)
    }

    /// Applies an object over the live one.
    pub(crate) fn apply(
        &self,
        live: &Value,
        applied: &Value,
        mut entries: Vec<Entry>,
        force: bool,
    ) -> Result<Applied, Status> {
        let merged = merge::merge(self.place, live, applied);
        let set = of_applied(self.place, applied).without(self.reset);
        let position = entries.iter().position(|entry| entry.manager.is(self.manager));
        let last = position.map(|index| entries.remove(index));
        let object = match &last {
            Some(last) => self.prune(&merged, &set, &last.set, &entries),
            None => merged,
        };
        let changes = compare(self.place, live, &object).without(self.reset);
        let conflicts = conflicts(&changes, &entries);
        if !conflicts.is_empty() {
            if !force {
                return Err(refusal(&conflicts));
            }
            for (entry, lost) in &conflicts {
                if let Some(known) = entries.iter_mut().find(|known| known.manager == entry.manager) {
                    known.set = known.set.difference(lost);
                }
            }
        }
        for entry in &mut entries {
            entry.set = entry.set.difference(&changes.removed);
        }
        let changed = !(changes.added.is_empty() && changes.modified.is_empty() && changes.removed.is_empty());
        let time = if changed { Some(self.now.to_owned()) } else { last.and_then(|last| last.time) };
        entries.push(Entry { manager: self.manager.clone(), time, set: set.difference(&unowned()) });
        Ok(Applied { object, entries: tidy(entries) })
    }

    /// Removes what the manager applied last time, does not any more, and nobody else owns.
    fn prune(&self, merged: &Value, set: &FieldSet, last: &FieldSet, others: &[Entry]) -> Value {
        if last.is_empty() {
            return merged.clone();
        }
        let named = |set: &FieldSet| set.with_named_fields(self.place);
        let merged_set = of_applied(self.place, merged);
        let pruned = merge::remove(self.place, merged, &named(last));
        let owned = others.iter().fold(set.clone(), |all, entry| all.union(&entry.set));
        let keep = named(&of_applied(self.place, &pruned)).union(&named(&owned));
        let back = merge::remove(self.place, merged, &named(&merged_set).difference(&keep));
        let dangling = named(&merged_set).difference(&named(&of_applied(self.place, &back)));
        merge::remove(self.place, merged, &dangling.intersection(&named(last)))
    }
}

fn conflicts(changes: &Comparison, entries: &[Entry]) -> Vec<(Entry, FieldSet)> {
    let taken = changes.added.union(&changes.modified);
    let lost = entries.iter().map(|entry| (entry.clone(), entry.set.intersection(&taken)));
    lost.filter(|(_, lost)| !lost.is_empty()).collect()
}

fn tidy(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        entry.set.trim();
    }
    entries.retain(|entry| !entry.set.is_empty());
    entries
}

/// Names a manager as conflicts do.
fn shown(manager: &Manager) -> String {
    let mut out = format!("\"{}\"", manager.name);
    if !manager.subresource.is_empty() {
        let _ = write!(out, " with subresource \"{}\"", manager.subresource);
    }
    if !manager.applies {
        let _ = write!(out, " using {}", manager.api_version);
    }
    out
}

/// Words the refusal of an apply over other managers' fields.
fn refusal(conflicts: &[(Entry, FieldSet)]) -> Status {
    let mut named: Vec<(String, String, Vec<String>)> = conflicts
        .iter()
        .map(|(entry, lost)| (entry.manager.name.clone(), shown(&entry.manager), lost.paths()))
        .collect();
    named.sort();
    let total: usize = named.iter().map(|(_, _, paths)| paths.len()).sum();
    let message = match named.as_slice() {
        [(_, who, paths)] if paths.len() == 1 => {
            format!("Apply failed with 1 conflict: conflict with {who}: {}", paths.concat())
        }
        many => {
            let parts: Vec<String> =
                many.iter().map(|(_, who, paths)| format!("conflicts with {who}:\n- {}", paths.join("\n- "))).collect();
            format!("Apply failed with {total} conflicts: {}", parts.join("\n"))
        }
    };
    let mut status = Status::new(409, "Conflict", message);
    for (_, who, paths) in named {
        for field in paths {
            let message = format!("conflict with {who}");
            status = status.with_cause(Cause { reason: "FieldManagerConflict".to_owned(), message, field });
        }
    }
    status
}
