//! The content of Secret `lattice-ca`: the CA that signs, its neighbours in a rotation, and the bridges between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use lattice_protocol::spiffe::TrustDomain;
use lattice_protocol::tls::hex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::rotation::{Phase, Step};
use super::signer::{KeySigner, Safe, Signing};
use super::{Error, authority};
use crate::store::vault::{Contents, LABEL_HOLDS};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// What a key's own key has at its end where the key lies in a safe: then its value is the key's name there.
const NAME_OF_KEY: &str = "-name";
/// A secret of all replicas of the manager, where there is no key to make it from.
const REPLICAS: &str = "replicas.secret";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";
const PREVIOUS_KEY: &str = "previous.key";
const BRIDGES: &str = "bridges.pem";
const ROTATION: &str = "rotation.json";

/// Rotations that an agent may sleep through and still know the manager. More make every handshake longer, by half a KiB
/// each.
pub(super) const BRIDGES_MAX: usize = 3;

/// A CA: its certificate, PEM, and its key.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: Key,
}

/// Where a CA's key is.
#[derive(Clone)]
pub(super) enum Key {
    /// Here, PEM.
    Here(Zeroizing<String>),
    /// In a safe, under a name.
    Elsewhere(String),
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
    /// A secret of all replicas, hexadecimal, where the key lies elsewhere.
    pub(super) replicas: Option<Zeroizing<String>>,
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
    pub(super) fn generate(fleet: &TrustDomain, safe: Option<&dyn Safe>, now: Timestamp) -> Result<Self, Error> {
        let key = match safe {
            Some(safe) => Key::Elsewhere(safe.make()?),
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Unusable)?;
                Key::Here(Zeroizing::new(key.serialize_pem()))
            }
        };
        let certificate = authority::root(fleet, &key.signer(safe)?, now)?;
        Ok(Self { certificate, key })
    }
}

impl Key {
    /// What signs with it.
    pub(super) fn signer(&self, safe: Option<&dyn Safe>) -> Result<Signing, Error> {
        match self {
            Self::Here(pem) => {
                let key = KeyPair::from_pem(pem).map_err(Error::Unusable)?;
                Ok(Signing(Arc::new(KeySigner::new(key))))
            }
            Self::Elsewhere(name) => Ok(Signing(safe.ok_or(Error::SignerUnknown)?.find(name)?)),
        }
    }
}

impl Keyring {
    pub(super) fn generate(fleet: &TrustDomain, safe: Option<&dyn Safe>, now: Timestamp) -> Result<Self, Error> {
        let rotation = Rotation { phase: Phase::Standby, since: now };
        let signing = Pair::generate(fleet, safe, now)?;
        let replicas = safe.map(|_| random_secret());
        Ok(Self { signing, next: None, previous: None, bridges: Vec::new(), replicas, rotation })
    }

    /// A secret that every replica of the manager has and nobody else.
    pub(super) fn replica_secret(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let secret = match (&self.signing.key, &self.replicas) {
            (Key::Here(pem), _) => {
                Sha256::digest(KeyPair::from_pem(pem).map_err(Error::Unusable)?.serialized_der()).to_vec()
            }
            (Key::Elsewhere(_), Some(secret)) => Sha256::digest(secret.as_bytes()).to_vec(),
            (Key::Elsewhere(_), None) => return Err(Error::Missing(REPLICAS)),
        };
        Ok(Zeroizing::new(secret))
    }

    pub(super) fn read(contents: &Contents) -> Result<Self, Error> {
        let text = |key: &'static str| contents.data.get(key).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let named = |key: &str| {
            let name = contents.data.get(&format!("{key}{NAME_OF_KEY}"))?;
            Some(Key::Elsewhere(std::str::from_utf8(name).ok()?.to_owned()))
        };
        let pair = |certificate, key| {
            let certificate = text(certificate)?.to_owned();
            let key = text(key).map(|pem| Key::Here(Zeroizing::new(pem.to_owned()))).or_else(|| named(key))?;
            Some(Pair { certificate, key })
        };
        let signing = pair(CERTIFICATE, KEY);
        Ok(Self {
            signing: signing
                .ok_or_else(|| Error::Missing(if text(CERTIFICATE).is_some() { KEY } else { CERTIFICATE }))?,
            next: pair(NEXT_CERTIFICATE, NEXT_KEY),
            previous: pair(PREVIOUS_CERTIFICATE, PREVIOUS_KEY),
            bridges: text(BRIDGES).map(split).unwrap_or_default(),
            replicas: text(REPLICAS).map(|secret| Zeroizing::new(secret.to_owned())),
            rotation: text(ROTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        })
    }

    pub(super) fn contents(&self) -> Contents {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| drop(data.insert(key.to_owned(), text.as_bytes().to_vec()));
        for (pair, certificate, key) in [
            (Some(&self.signing), CERTIFICATE, KEY),
            (self.next.as_ref(), NEXT_CERTIFICATE, NEXT_KEY),
            (self.previous.as_ref(), PREVIOUS_CERTIFICATE, PREVIOUS_KEY),
        ] {
            let Some(pair) = pair else { continue };
            put(certificate, &pair.certificate);
            match &pair.key {
                Key::Here(pem) => put(key, pem),
                Key::Elsewhere(name) => put(&format!("{key}{NAME_OF_KEY}"), name),
            }
        }
        if let Some(replicas) = &self.replicas {
            put(REPLICAS, replicas);
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
    pub(super) fn after(
        &self,
        fleet: &TrustDomain,
        safe: Option<&dyn Safe>,
        step: Step,
        to: Phase,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let mut ring = self.clone();
        ring.rotation = Rotation { phase: to, since: now };
        match step {
            Step::Publish => {
                ring.next = Some(Pair::generate(fleet, safe, now)?);
                if safe.is_some() {
                    ring.replicas.get_or_insert_with(random_secret);
                }
            }
            Step::Sign => {
                let next = ring.next.take().ok_or(Error::Missing(NEXT_CERTIFICATE))?;
                ring.bridges.insert(0, authority::bridge(fleet, safe, &self.signing, &next, now)?);
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

fn random_secret() -> Zeroizing<String> {
    Zeroizing::new(hex(&rand::random::<[u8; 32]>()))
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
