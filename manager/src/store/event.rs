//! Kubernetes Events about a `LatticeCluster` or an InfraProvider.
//!
//! An Event's name is made from what it says, so a restarted manager that says it again adds nothing.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use lattice_protocol::clock;
use sha2::{Digest, Sha256};

use super::{Error, Store};

/// Events of cluster-scoped objects live here; `kubectl describe` finds them.
const NAMESPACE: &str = "default";
/// The API server refuses a longer note.
const NOTE_BYTES_MAX: usize = 1_024;
/// Who reports.
const CONTROLLER: &str = "lattice.dev/manager";

/// Whether a person should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing to worry about.
    Normal,
    /// Worth a look.
    Warning,
}

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// Whether a person should look.
    pub severity: Severity,
    /// `UpperCamelCase`, at most 128 characters.
    pub reason: String,
    /// What was being done, in the same form.
    pub action: String,
    /// One sentence.
    pub note: String,
    /// Tells this occasion from others that say the same: an operation's id, or a time.
    pub occasion: String,
}

impl Store {
    /// Publishes an Event about `regarding`; content with one that was published before.
    pub async fn publish(&self, note: &EventNote, regarding: &ObjectReference, instance: &str) -> Result<(), Error> {
        self.fence.check()?;
        let name = event_name(note, regarding);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(note.action.clone()),
            reason: Some(note.reason.clone()),
            note: Some(cut(&note.note, NOTE_BYTES_MAX).to_owned()),
            type_: Some(match note.severity {
                Severity::Normal => "Normal".to_owned(),
                Severity::Warning => "Warning".to_owned(),
            }),
            event_time: Some(MicroTime(clock::now())),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(cut(instance, 128).to_owned()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        match self.write("create", &format!("Event {name}"), api.create(&PostParams::default(), &event)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn event_name(note: &EventNote, regarding: &ObjectReference) -> String {
    let mut hash = Sha256::new();
    for part in [regarding.uid.as_deref().unwrap_or_default(), &note.reason, &note.action, &note.note, &note.occasion] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{}.{}", regarding.name.as_deref().unwrap_or("lattice"), lattice_protocol::tls::hex(&hash.finalize()[..8]))
}

fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str, occasion: &str) -> EventNote {
        EventNote {
            severity: Severity::Normal,
            reason: "PhaseChanged".into(),
            action: "Provision".into(),
            note: text.into(),
            occasion: occasion.into(),
        }
    }

    #[test]
    fn the_same_occasion_said_twice_is_one_event() {
        let about = ObjectReference { name: Some("backend".into()), uid: Some("u".into()), ..Default::default() };
        assert_eq!(event_name(&note("a", "1"), &about), event_name(&note("a", "1"), &about));
        assert_ne!(event_name(&note("a", "1"), &about), event_name(&note("a", "2"), &about));
        assert_ne!(event_name(&note("a", "1"), &about), event_name(&note("b", "1"), &about));
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
