//! IPv4 addresses, ranges and networks in a spec.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Why a text is no range or network. Says the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not `A.B.C.D/len`.
    #[error("{0:?} is no network: write it as 10.244.0.0/16")]
    Network(String),
    /// Bits are set right of the prefix.
    #[error("{text:?} has bits set beyond its prefix: write {cure}")]
    HostBits {
        /// What was given.
        text: String,
        /// The network that it is in.
        cure: String,
    },
    /// Not one of the two forms of a range.
    #[error("{0:?} is no range: write it as 10.0.1.111-120/24 or 10.0.1.111-10.0.1.120/24")]
    Range(String),
    /// The end comes before the start.
    #[error("{0:?} ends before it begins: write the lower address first")]
    Backwards(String),
    /// The range leaves its network.
    #[error("{text:?} leaves its network {network}: both ends must be hosts in it")]
    Leaves {
        /// What was given.
        text: String,
        /// The network.
        network: Network,
    },
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u32,
    prefix: u8,
}

/// A range of IPv4 addresses of hosts in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u32,
    last: u32,
    prefix: u8,
}

impl Network {
    /// The network of `prefix` bits that an address is in.
    pub fn of(address: Ipv4Addr, prefix: u8) -> Self {
        Self { address: u32::from(address) & mask(prefix), prefix }
    }

    /// Length of the prefix, bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether two networks share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = mask(self.prefix.min(other.prefix));
        self.address & mask == other.address & mask
    }

    /// Whether an address is in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.address
    }
}

impl Range {
    /// First address.
    pub fn first(&self) -> Ipv4Addr {
        self.first.into()
    }

    /// Last address.
    pub fn last(&self) -> Ipv4Addr {
        self.last.into()
    }

    /// How many addresses.
    pub fn size(&self) -> u32 {
        (self.last - self.first).saturating_add(1)
    }

    /// The network that the range is in.
    pub fn network(&self) -> Network {
        Network::of(self.first(), self.prefix)
    }

    /// Whether an address is in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Network(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(1..=32).contains(&prefix) {
            return Err(wrong());
        }
        let network = Self::of(address, prefix);
        if network.address == u32::from(address) {
            Ok(network)
        } else {
            Err(Error::HostBits { text: text.to_owned(), cure: network.to_string() })
        }
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Range(text.to_owned());
        let (ends, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (first, last) = ends.split_once('-').ok_or_else(wrong)?;
        let first: Ipv4Addr = first.parse().map_err(|_| wrong())?;
        let last: Ipv4Addr = match last.parse::<u8>() {
            Ok(octet) => {
                let [a, b, c, _] = first.octets();
                [a, b, c, octet].into()
            }
            Err(_) => last.parse().map_err(|_| wrong())?,
        };
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(1..=30).contains(&prefix) {
            return Err(wrong());
        }
        let range = Self { first: first.into(), last: last.into(), prefix };
        if range.last < range.first {
            return Err(Error::Backwards(text.to_owned()));
        }
        let network = range.network();
        let broadcast = network.address | !mask(prefix);
        if !network.contains(last) || range.first == network.address || range.last == broadcast {
            return Err(Error::Leaves { text: text.to_owned(), network });
        }
        Ok(range)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.address), self.prefix)
    }
}

impl fmt::Display for Range {
    /// Both ends written out, without the prefix: `10.0.1.111-10.0.1.120`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first(), self.last())
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn range(text: &str, written: &str, size: u32) {
        let range: Range = text.parse().expect("a range");
        assert_eq!((range.to_string().as_str(), range.size()), (written, size));
    }

    #[test]
    fn ranges_read_in_both_forms() {
        range("10.0.1.111-120/24", "10.0.1.111-10.0.1.120", 10);
        range("10.0.1.111-10.0.1.120/24", "10.0.1.111-10.0.1.120", 10);
        range("10.0.1.5-5/24", "10.0.1.5-10.0.1.5", 1);
        range("10.0.0.250-10.0.1.9/16", "10.0.0.250-10.0.1.9", 16);
    }

    #[track_caller]
    fn refused(text: &str, says: &str) {
        let error = text.parse::<Range>().expect_err("no range").to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn ranges_that_cannot_be_are_refused_with_the_cure() {
        refused("10.0.1.111", "10.0.1.111-120/24");
        refused("10.0.1.120-111/24", "lower address first");
        refused("10.0.1.111-10.0.2.5/24", "10.0.1.0/24");
        refused("10.0.1.0-9/24", "hosts");
        refused("10.0.1.250-255/24", "hosts");
        refused("10.0.1.1-9/31", "no range");
        refused("10.0.1.300-301/24", "no range");
    }

    #[track_caller]
    fn overlap(a: &str, b: &str, expected: bool) {
        let (a, b): (Network, Network) = (a.parse().expect("a network"), b.parse().expect("a network"));
        assert_eq!(a.overlaps(&b), expected, "{a} and {b}");
        assert_eq!(b.overlaps(&a), expected, "{b} and {a}");
    }

    #[test]
    fn networks_overlap_when_they_share_an_address() {
        overlap("10.0.0.0/8", "10.0.1.0/24", true);
        overlap("10.244.0.0/16", "10.0.1.0/24", false);
        overlap("10.0.0.0/24", "10.0.1.0/24", false);
        overlap("10.0.0.0/23", "10.0.1.0/24", true);
    }

    #[test]
    fn host_bits_are_refused_with_the_network() {
        let error = "10.0.1.7/24".parse::<Network>().expect_err("host bits").to_string();
        assert!(error.contains("write 10.0.1.0/24"), "{error}");
    }
}
