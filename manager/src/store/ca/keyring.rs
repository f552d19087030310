//! The content of Secret `lattice-ca`: the CA that signs, its neighbours in a rotation, and the bridges between them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lattice_protocol::spiffe::TrustDomain;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::rotation::{Phase, Step};
use super::{Error, authority};
use crate::store::vault::{Contents, LABEL_HOLDS};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";
const PREVIOUS_KEY: &str = "previous.key";
const BRIDGES: &str = "bridges.pem";
const ROTATION: &str = "rotation.json";

/// Rotations that an agent may sleep through and still know the manager. More make every handshake longer, by half a KiB
/// each.
pub(super) const BRIDGES_MAX: usize = 3;

/// A CA: its certificate and its key, PEM.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: Zeroizing<String>,
}

/// All that the Secret holds.
#[derive(Clone)]
pub(super) struct Keyring {
    /// The CA that signs.
    pub(super) signing: Pair,
    /// The one that will.
    pub(super) next: Option<Pair>,
    /// The one that did.
    pub(super) previous: Option<Pair>,
    /// Certificates of a CA's key by the CA before it, newest first: the manager shows them, so that an agent that slept
    /// through a rotation can follow from the CA that it knows.
    pub(super) bridges: Vec<String>,
    pub(super) rotation: Rotation,
}

/// Where the rotation is, as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rotation {
    pub(super) phase: Phase,
    pub(super) since: Timestamp,
}

impl Pair {
    pub(super) fn generate(fleet: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Unusable)?;
        let certificate = authority::root(fleet, &key, now)?;
        Ok(Self { certificate, key: Zeroizing::new(key.serialize_pem()) })
    }

    pub(super) fn key_pair(&self) -> Result<KeyPair, Error> {
        KeyPair::from_pem(&self.key).map_err(Error::Unusable)
    }
}

impl Keyring {
    pub(super) fn generate(fleet: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        let rotation = Rotation { phase: Phase::Standby, since: now };
        let signing = Pair::generate(fleet, now)?;
        Ok(Self { signing, next: None, previous: None, bridges: Vec::new(), rotation })
    }

    pub(super) fn read(contents: &Contents) -> Result<Self, Error> {
        let text = |key: &'static str| contents.data.get(key).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let pair = |certificate, key| {
            let (certificate, key) = (text(certificate)?.to_owned(), Zeroizing::new(text(key)?.to_owned()));
            Some(Pair { certificate, key })
        };
        let signing = pair(CERTIFICATE, KEY);
        Ok(Self {
            signing: signing
                .ok_or_else(|| Error::Missing(if text(CERTIFICATE).is_some() { KEY } else { CERTIFICATE }))?,
            next: pair(NEXT_CERTIFICATE, NEXT_KEY),
            previous: pair(PREVIOUS_CERTIFICATE, PREVIOUS_KEY),
            bridges: text(BRIDGES).map(split).unwrap_or_default(),
            rotation: text(ROTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        })
    }

    pub(super) fn contents(&self) -> Contents {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| drop(data.insert(key.to_owned(), text.as_bytes().to_vec()));
        put(CERTIFICATE, &self.signing.certificate);
        put(KEY, &self.signing.key);
        if let Some(next) = &self.next {
            put(NEXT_CERTIFICATE, &next.certificate);
            put(NEXT_KEY, &next.key);
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS_CERTIFICATE, &previous.certificate);
            put(PREVIOUS_KEY, &previous.key);
        }
        if !self.bridges.is_empty() {
            put(BRIDGES, &self.bridges.concat());
        }
        put(ROTATION, &serde_json::to_string(&self.rotation).unwrap_or_default());
        Contents { labels: BTreeMap::from([(LABEL_HOLDS.to_owned(), "ca".to_owned())]), data }
    }

    /// Every certificate that is trusted, the one that signs first.
    pub(super) fn trusted(&self) -> Vec<&str> {
        let others = [&self.next, &self.previous];
        let others = others.into_iter().flatten().map(|pair| pair.certificate.as_str());
        std::iter::once(self.signing.certificate.as_str()).chain(others).collect()
    }

    /// What the Secret holds after a step that may be taken.
    pub(super) fn after(&self, fleet: &TrustDomain, step: Step, to: Phase, now: Timestamp) -> Result<Self, Error> {
        let mut ring = self.clone();
        ring.rotation = Rotation { phase: to, since: now };
        match step {
            Step::Publish => ring.next = Some(Pair::generate(fleet, now)?),
            Step::Sign => {
                let next = ring.next.take().ok_or(Error::Missing(NEXT_CERTIFICATE))?;
                ring.bridges.insert(0, authority::bridge(fleet, &self.signing, &next, now)?);
                ring.bridges.truncate(BRIDGES_MAX);
                ring.previous = Some(std::mem::replace(&mut ring.signing, next));
            }
            Step::Retire => ring.previous = None,
            Step::Rollback => {
                ring.next = None;
                if let Some(previous) = ring.previous.take() {
                    ring.signing = previous;
                    if !ring.bridges.is_empty() {
                        ring.bridges.remove(0);
                    }
                }
            }
        }
        Ok(ring)
    }
}

fn split(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).filter(|part| part.contains(END)).map(|part| format!("{}\n", part.trim())).collect()
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("rotation", &self.rotation).finish_non_exhaustive()
    }
}
