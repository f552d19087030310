//! Ids and names as types, parsed once at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a `LatticeCluster`: leaves room for the suffixes of the objects made for it.
pub const CLUSTER_NAME_CHARS_MAX: usize = 40;

/// The one name that no cluster may have: `lattice-system` is our own namespace.
pub const CLUSTER_NAME_RESERVED: &str = "system";

/// Why a text is not the id that it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a DNS label of at most [`CLUSTER_NAME_CHARS_MAX`] characters, or reserved.
    #[error(
        "{0:?} is no cluster name: use 1 to {max} lower-case letters, digits and '-', beginning and ending with a letter or digit, and not \"{reserved}\"",
        max = CLUSTER_NAME_CHARS_MAX,
        reserved = CLUSTER_NAME_RESERVED
    )]
    ClusterName(String),
    /// Not a UUID in lower case.
    #[error("{0:?} is no cluster uid: it is the metadata.uid of a LatticeCluster, a UUID in lower case")]
    ClusterUid(String),
}

/// Name of a `LatticeCluster`: a DNS label (RFC 1123) of at most 40 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

/// `metadata.uid` of a `LatticeCluster`: what tokens, certificates and epochs are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterUid(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Namespace of the objects that belong to the cluster: `lattice-<name>`.
    pub fn namespace(&self) -> String {
        format!("lattice-{}", self.0)
    }
}

impl ClusterUid {
    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let bytes = text.as_bytes();
        let ok = !bytes.is_empty()
            && bytes.len() <= CLUSTER_NAME_CHARS_MAX
            && bytes.iter().copied().all(inner)
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
            && text != CLUSTER_NAME_RESERVED;
        if ok { Ok(Self(text.to_owned())) } else { Err(Error::ClusterName(text.to_owned())) }
    }
}

impl FromStr for ClusterUid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let ok = text.len() == 36
            && text.bytes().enumerate().all(|(at, c)| match at {
                8 | 13 | 18 | 23 => c == b'-',
                _ => c.is_ascii_digit() || (b'a'..=b'f').contains(&c),
            });
        if ok { Ok(Self(text.to_owned())) } else { Err(Error::ClusterUid(text.to_owned())) }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

text!(ClusterName);
text!(ClusterUid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_are_dns_labels_of_forty_characters() {
        for good in ["a", "backend", "edge-7", &"x".repeat(40)] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good} should be accepted");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "system", "é", &"x".repeat(41)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad} should be refused");
        }
    }

    #[test]
    fn cluster_uids_are_lower_case_uuids() {
        assert!("0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse::<ClusterUid>().is_ok());
        for bad in ["", "0B6C2D1E-9F00-4C8E-8A77-0123456789AB", "0b6c2d1e9f004c8e8a770123456789ab", "../../etc"] {
            assert!(bad.parse::<ClusterUid>().is_err(), "{bad} should be refused");
        }
    }
}
