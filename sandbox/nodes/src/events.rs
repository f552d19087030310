//! Events, told as the real components tell them; a repeated one is counted, not written again.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams, PostParams};

use crate::op::{CONTROLLERS, KUBELET, SCHEDULER};
use crate::{kubelet, meta, scheduler};

/// How many different events are remembered for counting. Too few: repeats are written as new ones.
const REMEMBERED_MAX: usize = 512;

/// Something worth telling about an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    regarding: ObjectReference,
    warning: bool,
    reason: &'static str,
    message: String,
    component: &'static str,
    host: Option<String>,
    /// Given by the recorder.
    write: Option<Write>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    name: String,
    first: Timestamp,
    last: Timestamp,
    count: i32,
}

impl Note {
    /// Makes an ordinary note.
    pub(crate) fn normal<K: Resource<DynamicType = ()>>(
        component: &'static str,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            regarding: reference(object),
            warning: false,
            reason,
            message: message.into(),
            component,
            host: None,
            write: None,
        }
    }

    /// Makes a note about something that went wrong.
    pub(crate) fn warning<K: Resource<DynamicType = ()>>(
        component: &'static str,
        object: &K,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { warning: true, ..Self::normal(component, object, reason, message) }
    }

    /// Says which node it comes from.
    pub(crate) fn by_host(self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self }
    }

    /// Says which container it is about.
    pub(crate) fn about_container(mut self, init: bool, container: &str) -> Self {
        let list = if init { "initContainers" } else { "containers" };
        self.regarding.field_path = Some(format!("spec.{list}{{{container}}}"));
        self
    }

    /// The program that tells it: its name stands in `managedFields`, where many components share one program's.
    fn manager(&self) -> String {
        let manager = match self.component {
            kubelet::COMPONENT => KUBELET,
            scheduler::COMPONENT => SCHEDULER,
            _ => CONTROLLERS,
        };
        manager.to_owned()
    }

    fn key(&self) -> String {
        let about = &self.regarding;
        format!("{:?}/{:?}/{}/{}", about.uid, about.field_path, self.reason, self.message)
    }

    /// Writes the event; a failure is logged, nothing more.
    pub(crate) async fn write(self, client: &Client) {
        let Some(write) = &self.write else { return };
        let namespace = self.regarding.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        let result = if write.count == 1 {
            let params = PostParams { field_manager: Some(self.manager()), ..PostParams::default() };
            events.create(&params, &self.event(namespace, write)).await
        } else {
            let patch = serde_json::json!({ "count": write.count, "lastTimestamp": meta::time(write.last) });
            let params = PatchParams { field_manager: Some(self.manager()), ..PatchParams::default() };
            events.patch(&write.name, &params, &Patch::Merge(patch)).await
        };
        if let Err(error) = result {
            tracing::debug!(reason = self.reason, %error, "event was not written");
        }
    }

    fn event(&self, namespace: &str, write: &Write) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(write.name.clone()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: self.regarding.clone(),
            type_: Some(if self.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message.clone()),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: self.host.clone() }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: self.host.clone(),
            first_timestamp: Some(meta::time(write.first)),
            last_timestamp: Some(meta::time(write.last)),
            count: Some(write.count),
            ..Event::default()
        }
    }
}

fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Remembers what was told, so that a repeat raises a count.
#[derive(Debug)]
pub(crate) struct Recorder {
    enabled: bool,
    told: HashMap<String, Write>,
    order: VecDeque<String>,
    serial: u32,
}

impl Recorder {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled, told: HashMap::new(), order: VecDeque::new(), serial: 0 }
    }

    /// Makes a note ready to be written; `None` when events are off.
    pub(crate) fn record(&mut self, note: Note, now: Timestamp) -> Option<Note> {
        if !self.enabled {
            return None;
        }
        let key = note.key();
        let write = match self.told.get_mut(&key) {
            Some(write) => {
                write.count += 1;
                write.last = now;
                write.clone()
            }
            None => {
                let write = self.first(&note, now);
                self.remember(key, write.clone());
                write
            }
        };
        Some(Note { write: Some(write), ..note })
    }

    fn first(&mut self, note: &Note, now: Timestamp) -> Write {
        self.serial = self.serial.wrapping_add(1);
        let about = note.regarding.name.as_deref().unwrap_or("object");
        Write {
            // The time in nanoseconds, as others have it; the last three digits tell those of one moment apart.
            name: format!("{about}.{:x}", now.as_microsecond() * 1000 + i64::from(self.serial % 1000)),
            first: now,
            last: now,
            count: 1,
        }
    }

    fn remember(&mut self, key: String, write: Write) {
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.told.insert(key, write);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn note(message: &str) -> Note {
        Note::normal("kubelet", &Pod::default(), "Pulled", message)
    }

    #[test]
    fn a_repeat_raises_the_count_of_the_first() {
        let mut recorder = Recorder::new(true);
        let counts: Vec<(String, i32)> = ["a", "a", "b"]
            .into_iter()
            .filter_map(|message| recorder.record(note(message), Timestamp::UNIX_EPOCH)?.write)
            .map(|write| (write.name, write.count))
            .collect();
        assert_eq!(counts[0].0, counts[1].0);
        assert_ne!(counts[0].0, counts[2].0);
        assert_eq!(counts.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut recorder = Recorder::new(true);
        for index in 0..2 * REMEMBERED_MAX {
            recorder.record(note(&index.to_string()), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(recorder.told.len(), REMEMBERED_MAX);
    }
}
