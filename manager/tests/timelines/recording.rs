//! A recording of watch events, and the objects that they make.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use lattice_manager::api::ProviderType;
use lattice_manager::lifecycle::mirror::{self, World};
use serde::Deserialize;

/// One watch event.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    #[serde(rename = "type")]
    pub(crate) type_: String,
    /// The object after it.
    pub(crate) object: Arc<DynamicObject>,
}

/// One recording.
pub(crate) struct Recording {
    /// Its events in the order of the writes.
    pub(crate) events: Vec<Event>,
}

/// Objects by kind and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects(BTreeMap<(String, String), Arc<DynamicObject>>);

/// Watches of single kinds that are behind.
pub(crate) struct Lagging {
    seed: u64,
    queues: BTreeMap<String, VecDeque<Event>>,
}

impl Recording {
    /// Opens a recording; says loudly when there are none.
    pub(crate) fn open(name: &str) -> Option<Self> {
        let Some(folder) = std::env::var_os("LATTICE_CAPI_TIMELINES_DIR").map(PathBuf::from) else {
            println!("SKIPPED: LATTICE_CAPI_TIMELINES_DIR is not set, so nothing was replayed");
            return None;
        };
        let path = folder.join(format!("{name}.jsonl.gz"));
        let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines();
        let events = lines
            .map(|line| serde_json::from_str(&line.expect("a line")).expect("an event"))
            .filter(|event: &Event| event.object.types.is_some())
            .collect();
        Some(Self { events })
    }

    /// The same events through one watch per kind, each as far behind as chance has it.
    pub(crate) fn lagging(&self, seed: u64) -> Lagging {
        Lagging { seed: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, queues: BTreeMap::new() }
    }
}

impl Lagging {
    /// Takes an event in; gives those out whose watch has got that far.
    pub(crate) fn step(&mut self, event: &Event) -> Vec<Event> {
        let kind = kind(event);
        self.queues.entry(kind).or_default().push_back(event.clone());
        let kinds: Vec<String> = self.queues.keys().cloned().collect();
        let mut out = Vec::new();
        for kind in kinds {
            let many = self.random() % 12;
            let queue = self.queues.entry(kind).or_default();
            // Mostly one watch moves on by a few events; sometimes one stands still for long.
            if many > 7 {
                let count = usize::try_from(many - 6).unwrap_or(1).min(queue.len());
                out.extend(queue.drain(..count));
            }
        }
        out
    }

    /// All that is still behind.
    pub(crate) fn rest(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.queues).into_values().flatten().collect()
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

impl Objects {
    /// What an event makes of them.
    pub(crate) fn apply(&mut self, event: &Event) {
        let key = (kind(event), event.object.name_any());
        if event.type_ == "DELETED" {
            self.0.remove(&key);
        } else {
            self.0.insert(key, event.object.clone());
        }
    }

    /// The objects that the manager watches.
    pub(crate) fn watched(&self) -> Vec<Arc<DynamicObject>> {
        let kinds: BTreeSet<&str> = mirror::kinds(ProviderType::Docker).into_iter().map(|(_, kind)| kind).collect();
        self.0.iter().filter(|((kind, _), _)| kinds.contains(kind.as_str())).map(|(_, object)| object.clone()).collect()
    }

    /// Kind and name of the objects that the manager watches.
    pub(crate) fn mirrored(&self) -> Vec<(String, String)> {
        self.watched().iter().map(|object| (object_kind(object), object.name_any())).collect()
    }

    /// What the manager reads in them.
    pub(crate) fn world(&self) -> World {
        World::read(&self.watched())
    }

    /// One object.
    pub(crate) fn one(&self, kind: &str, name: &str) -> Option<&DynamicObject> {
        self.0.get(&(kind.to_owned(), name.to_owned())).map(Arc::as_ref)
    }

    /// Objects of a kind.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a DynamicObject> {
        self.0.iter().filter(move |((found, _), _)| found == kind).map(|(_, object)| object.as_ref())
    }

    /// Names of the objects of a kind.
    pub(crate) fn names<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().filter(move |(found, _)| found == kind).map(|(_, name)| name.as_str())
    }
}

fn kind(event: &Event) -> String {
    object_kind(&event.object)
}

fn object_kind(object: &DynamicObject) -> String {
    object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default()
}
