//! SPIFFE ids of the two kinds of peer, in the one shape that certificates carry them.
//!
//! Stricter than the SPIFFE standard: only the two paths below exist, so anything else is refused when it is parsed.
//! No percent-encoding, port, user, query or fragment (SPIFFE-ID, section 2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::ClusterUid;

/// Longest trust domain, characters (SPIFFE-ID, section 2.3).
pub const TRUST_DOMAIN_CHARS_MAX: usize = 255;

/// Longest URI that is looked at.
const URI_CHARS_MAX: usize = 2048;

/// Why a text is not the SPIFFE id or trust domain that it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not 1 to 255 of the characters that a trust domain may have.
    #[error("{0:?} is no trust domain: use 1 to {TRUST_DOMAIN_CHARS_MAX} lower-case letters, digits, '.', '-' and '_'")]
    TrustDomain(String),
    /// Not the id of a manager or an agent.
    #[error("{0:?} is no SPIFFE id of a lattice manager or agent")]
    Id(String),
}

/// Names the fleet of one manager: `prod.example.org`. Identities of another trust domain mean nothing here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SpiffeId {
    /// `spiffe://<trust domain>/manager`
    Manager {
        /// The fleet.
        trust_domain: TrustDomain,
    },
    /// `spiffe://<trust domain>/cluster/<uid>/agent`
    Agent {
        /// The fleet.
        trust_domain: TrustDomain,
        /// `metadata.uid` of the cluster's `LatticeCluster`.
        uid: ClusterUid,
    },
}

impl TrustDomain {
    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that the fleet's manager carries.
    pub fn manager(&self) -> SpiffeId {
        SpiffeId::Manager { trust_domain: self.clone() }
    }

    /// The id that a cluster's agent carries.
    pub fn agent(&self, uid: &ClusterUid) -> SpiffeId {
        SpiffeId::Agent { trust_domain: self.clone(), uid: uid.clone() }
    }
}

impl SpiffeId {
    /// The fleet that the id belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Manager { trust_domain } | Self::Agent { trust_domain, .. } => trust_domain,
        }
    }

    /// The cluster, when the id is an agent's.
    pub fn cluster(&self) -> Option<&ClusterUid> {
        match self {
            Self::Manager { .. } => None,
            Self::Agent { uid, .. } => Some(uid),
        }
    }
}

impl FromStr for TrustDomain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_');
        let ok = !text.is_empty() && text.len() <= TRUST_DOMAIN_CHARS_MAX && text.bytes().all(allowed);
        if ok { Ok(Self(text.to_owned())) } else { Err(Error::TrustDomain(text.chars().take(64).collect())) }
    }
}

impl FromStr for SpiffeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Id(text.chars().take(128).collect());
        if text.len() > URI_CHARS_MAX {
            return Err(refused());
        }
        let rest = text.strip_prefix("spiffe://").ok_or_else(refused)?;
        let (domain, path) = rest.split_once('/').ok_or_else(refused)?;
        let trust_domain: TrustDomain = domain.parse().map_err(|_| refused())?;
        if path == "manager" {
            return Ok(Self::Manager { trust_domain });
        }
        let uid = path.strip_prefix("cluster/").and_then(|rest| rest.strip_suffix("/agent")).ok_or_else(refused)?;
        let uid = uid.parse().map_err(|_| refused())?;
        Ok(Self::Agent { trust_domain, uid })
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager { trust_domain } => write!(f, "spiffe://{trust_domain}/manager"),
            Self::Agent { trust_domain, uid } => write!(f, "spiffe://{trust_domain}/cluster/{uid}/agent"),
        }
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0b6c2d1e-9f00-4c8e-8a77-0123456789ab";

    #[test]
    fn both_kinds_of_id_read_back() {
        let domain: TrustDomain = "prod.example.org".parse().unwrap();
        for id in [domain.manager(), domain.agent(&UID.parse().unwrap())] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        for bad in [
            String::new(),
            "spiffe://".to_owned(),
            "spiffe:///manager".to_owned(),
            "spiffe://td".to_owned(),
            "spiffe://td/".to_owned(),
            "https://td/manager".to_owned(),
            "SPIFFE://td/manager".to_owned(),
            "spiffe://TD/manager".to_owned(),
            "spiffe://td:443/manager".to_owned(),
            "spiffe://u@td/manager".to_owned(),
            "spiffe://td/manager/".to_owned(),
            "spiffe://td//manager".to_owned(),
            "spiffe://td/manager?x=1".to_owned(),
            "spiffe://td/manager#x".to_owned(),
            "spiffe://td/%6danager".to_owned(),
            "spiffe://td/cluster//agent".to_owned(),
            "spiffe://td/cluster/agent".to_owned(),
            format!("spiffe://td/cluster/{UID}"),
            format!("spiffe://td/cluster/{UID}/agent/"),
            format!("spiffe://td/cluster/{UID}/../agent"),
            format!("spiffe://td/cluster/{}/agent", UID.to_uppercase()),
            format!("spiffe://{}/manager", "a".repeat(256)),
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad} should be refused");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was(text in "spiffe://[a-z.]{0,4}/(manager|cluster/[0-9a-f-]{30,40}/agent|.{0,12})") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
