//! Faults on purpose: requests that fail, stall or lie, chosen by what they ask for and by chance.
//!
//! Tests set them through [`Faults`]; people and other programs through `/faults` of the server itself: `GET` lists
//! them, `POST` adds one, `DELETE /faults/N` takes one away, `DELETE /faults` all, `PUT /faults/seed` makes chance
//! repeatable. `docs/api-server.md` tells how.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::http::{BoxError, Response};
use crate::status::Status;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Effect {
    /// The request is refused and does nothing.
    Refuse {
        /// 429, 500, 503, 409, 410, or any other.
        code: u16,
        /// What `Retry-After` says.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
    },
    /// A watch ends with 410 after what it begins with.
    Expire,
    /// The request is carried out, and the connection ends without an answer.
    LoseAnswer,
    /// A watch never says anything after what it begins with.
    Silence,
    /// A read shows how things were some changes ago, as far as history goes.
    Stale {
        /// How many changes ago.
        revisions: u64,
    },
    /// The request waits before anything happens.
    Delay {
        /// For how long.
        millis: u64,
    },
    /// The connection ends in the middle of the answer's body.
    Cut,
}

/// How long the first half of an answer that is cut has for its way to the client.
const FLUSH: Duration = Duration::from_millis(50);

/// What requests may be.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

fn always() -> f64 {
    1.0
}

/// A fault and the requests that it strikes. Empty texts stand for any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// get, list, watch, create, update, patch, delete, deletecollection.
    #[serde(default)]
    pub verb: String,
    /// A kind (`Lease`) or a resource (`leases`), of any group.
    #[serde(default)]
    pub kind: String,
    /// A namespace.
    #[serde(default)]
    pub namespace: String,
    /// An object's name.
    #[serde(default)]
    pub name: String,
    /// A user's name.
    #[serde(default)]
    pub user: String,
    /// The share of such requests that are struck, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How many requests are struck at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What goes wrong.
    pub effect: Effect,
}

impl Fault {
    /// Makes a fault that strikes every request.
    pub fn new(effect: Effect) -> Self {
        Self {
            verb: String::new(),
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            user: String::new(),
            probability: always(),
            times: None,
            effect,
        }
    }

    /// Finds out why a fault could never strike as it is meant.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.verb.is_empty() && !VERBS.contains(&self.verb.as_str()) {
            return Err(format!("verb {:?} is none of {}", self.verb, VERBS.join(", ")));
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(format!("probability {} is not between 0 and 1", self.probability));
        }
        match self.effect {
            Effect::Refuse { code, .. } if !(400..=599).contains(&code) => {
                Err(format!("code {code} is no refusal: use 400 to 599"))
            }
            _ => Ok(()),
        }
    }

    fn strikes(&self, asked: &Asked<'_>) -> bool {
        let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        fits(&self.verb, asked.verb)
            && (fits(&self.kind, asked.kind) || self.kind == asked.plural)
            && fits(&self.namespace, asked.namespace)
            && fits(&self.name, asked.name)
            && fits(&self.user, asked.user)
            && self.times != Some(0)
    }
}

/// A request as faults see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) user: &'a str,
}

struct Inner {
    faults: Vec<(u64, Fault)>,
    next: u64,
    chance: StdRng,
}

/// The faults of a server. Clones are the same faults.
#[derive(Clone)]
pub struct Faults(Arc<Mutex<Inner>>);

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Faults").field(&self.list()).finish()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { faults: Vec::new(), next: 1, chance: StdRng::seed_from_u64(0) })))
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes chance repeatable: the same seed and requests meet the same faults.
    pub fn seed(&self, seed: u64) {
        self.lock().chance = StdRng::seed_from_u64(seed);
    }

    /// Adds a fault and tells its number.
    pub fn add(&self, fault: Fault) -> u64 {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.faults.push((number, fault));
        number
    }

    /// Takes a fault away.
    pub fn remove(&self, number: u64) {
        self.lock().faults.retain(|(known, _)| *known != number);
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// Lists the faults with their numbers.
    pub fn list(&self) -> Vec<(u64, Fault)> {
        self.lock().faults.clone()
    }

    /// Decides what strikes a request.
    pub(crate) fn strike(&self, asked: Asked<'_>) -> Vec<Effect> {
        let mut inner = self.lock();
        let Inner { faults, chance, .. } = &mut *inner;
        let mut out = Vec::new();
        for (_, fault) in faults.iter_mut().filter(|(_, fault)| fault.strikes(&asked)) {
            if fault.probability < 1.0 && chance.random::<f64>() >= fault.probability {
                continue;
            }
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
            out.push(fault.effect.clone());
        }
        out
    }
}

/// Carries out what happens before a request is looked at.
pub(crate) async fn before(effects: &[Effect]) -> Result<(), Status> {
    for effect in effects {
        match effect {
            Effect::Delay { millis } => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Effect::Refuse { code, retry_after_seconds } => return Err(refusal(*code, *retry_after_seconds)),
            _ => {}
        }
    }
    Ok(())
}

fn refusal(code: u16, retry: Option<u32>) -> Status {
    let (reason, text) = match code {
        409 => {
            ("Conflict", "the object has been modified; please apply your changes to the latest version and try again")
        }
        410 => ("Expired", "too old resource version"),
        429 => ("TooManyRequests", "too many requests, please try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        _ => ("InternalError", "Internal error occurred: a fault on purpose"),
    };
    let status = Status::new(code, reason, text);
    match retry {
        Some(seconds) => status.with_retry(seconds),
        None => status,
    }
}

/// Ends a body in its middle.
pub(crate) fn cut(response: Response) -> Response {
    response.map(|body| {
        let frames = BodyStream::new(body).take(1).map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(data) => Frame::data(data.slice(..data.len() / 2)),
                Err(frame) => frame,
            })
        });
        let end = futures::stream::once(async {
            // What ends at once takes what was not sent yet with it, the head of the answer too.
            tokio::time::sleep(FLUSH).await;
            Err::<Frame<Bytes>, BoxError>(Box::new(Dropped))
        });
        StreamBody::new(frames.chain(end)).boxed_unsync()
    })
}

/// A connection was ended on purpose.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection was ended on purpose")]
pub(crate) struct Dropped;
