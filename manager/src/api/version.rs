//! Kubernetes versions, and which of them can be installed.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Minors of Kubernetes 1 that every layer below us supports: Cluster API 1.12 to 1.14, and the components.
pub const SUPPORTED_MINORS: RangeInclusive<u16> = 31..=36;

/// A version of Kubernetes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubernetesVersion {
    /// Minor.
    pub minor: u16,
    /// Patch.
    pub patch: u16,
}

/// A text that is no full version of Kubernetes 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no Kubernetes version: write it in full, as 1.32.0")]
pub struct Error(pub String);

impl KubernetesVersion {
    /// Whether the version is in the matrix.
    pub fn is_supported(self) -> bool {
        SUPPORTED_MINORS.contains(&self.minor)
    }
}

impl FromStr for KubernetesVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error(text.to_owned());
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let padded = part.len() > 1 && part.starts_with('0');
            if digits && !padded { part.parse::<u16>().ok() } else { None }
        };
        let parts: Vec<&str> = text.strip_prefix('v').unwrap_or(text).split('.').collect();
        match parts.as_slice() {
            ["1", minor, patch] => {
                Ok(Self { minor: number(minor).ok_or_else(wrong)?, patch: number(patch).ok_or_else(wrong)? })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for KubernetesVersion {
    /// With the `v` that Cluster API wants: `v1.32.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_with_and_without_v() {
        for text in ["1.32.0", "v1.32.0"] {
            assert_eq!(text.parse(), Ok(KubernetesVersion { minor: 32, patch: 0 }));
        }
        for text in ["1.32", "1.32.x", "2.0.0", "1.032.0", "latest", "", "1.32.0-rc.1", "1.99999.0"] {
            assert_eq!(text.parse::<KubernetesVersion>(), Err(Error(text.to_owned())));
        }
    }

    #[test]
    fn newer_versions_are_greater() {
        let read = |text: &str| text.parse::<KubernetesVersion>().expect("a version");
        assert!(read("1.32.10") > read("1.32.9") && read("1.33.0") > read("1.32.10"));
    }
}
