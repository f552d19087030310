//! Loopback addresses: a block of 127.x.y.0/24 per cluster, unique on this host.
//!
//! A block belongs to whoever holds the lock: a listener on its last address. Sandboxes that run at the same time thus
//! never share an address, without a file that could go stale.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Port of every workload API.
pub(crate) const API_PORT: u16 = 6443;
/// Blocks that are tried before giving up.
const TRIES_MAX: usize = 200;
/// Last part of the address of the API, whichever machine runs it.
const API_HOST: u8 = 1;
/// Last part of the address that is listened on to hold the block.
const LOCK_HOST: u8 = 254;
/// Last parts of machines' addresses.
const MACHINES: std::ops::RangeInclusive<u16> = 2..=250;

/// A block of addresses that nobody else on this host uses.
#[derive(Debug)]
pub(crate) struct Block {
    prefix: [u8; 3],
    next: AtomicU16,
    _lock: TcpListener,
}

impl Block {
    /// Finds a free block.
    ///
    /// # Errors
    /// When none was free in many tries, or loopback addresses cannot be bound.
    pub(crate) fn claim() -> std::io::Result<Self> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let prefix = [127, rand::random_range(64..=254), rand::random_range(1..=254)];
            let at = |host| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(prefix[0], prefix[1], prefix[2], host)), API_PORT);
            match TcpListener::bind(at(LOCK_HOST)) {
                Ok(lock) => return Ok(Self { prefix, next: AtomicU16::new(*MACHINES.start()), _lock: lock }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("no free block of loopback addresses")))
    }

    /// Takes the block again that a sandbox had before it was stopped; machines' addresses go on after the highest of
    /// `used`.
    ///
    /// # Errors
    /// When somebody else has it now.
    pub(crate) fn reclaim(prefix: [u8; 3], used: impl Iterator<Item = IpAddr>) -> std::io::Result<Self> {
        let last = |ip| match ip {
            IpAddr::V4(ip) => u16::from(ip.octets()[3]) + 1,
            IpAddr::V6(_) => 0,
        };
        let next = used.map(last).chain([*MACHINES.start()]).max().unwrap_or_default();
        let lock = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(prefix[0], prefix[1], prefix[2], LOCK_HOST)), API_PORT);
        Ok(Self { prefix, next: AtomicU16::new(next), _lock: TcpListener::bind(lock)? })
    }

    /// First three parts of all its addresses.
    pub(crate) fn prefix(&self) -> [u8; 3] {
        self.prefix
    }

    /// Where the API of the cluster is reached for looking on.
    pub(crate) fn api(&self) -> SocketAddr {
        SocketAddr::new(self.host(API_HOST), API_PORT)
    }

    /// Takes the address of one more machine; `None` once all were handed out.
    pub(crate) fn machine(&self) -> Option<IpAddr> {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        let host = u8::try_from(host).ok().filter(|_| MACHINES.contains(&host))?;
        Some(self.host(host))
    }

    fn host(&self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(self.prefix[0], self.prefix[1], self.prefix[2], host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_never_share_an_address() {
        let (a, b) = (Block::claim().unwrap(), Block::claim().unwrap());
        assert_ne!(a.api(), b.api());
        assert_ne!(a.machine(), a.machine());
    }

    #[test]
    fn a_block_that_was_given_back_goes_on_where_it_was() {
        let block = Block::claim().unwrap();
        let (prefix, first) = (block.prefix(), block.machine().unwrap());
        assert!(Block::reclaim(prefix, std::iter::empty()).is_err(), "somebody holds it");
        drop(block);
        let again = Block::reclaim(prefix, [first].into_iter()).unwrap();
        assert!(again.machine().unwrap() > first);
    }

    #[test]
    fn a_block_runs_out_instead_of_repeating() {
        let block = Block::claim().unwrap();
        let all: std::collections::BTreeSet<_> = std::iter::from_fn(|| block.machine()).take(1000).collect();
        assert_eq!(all.len(), 249);
        assert_eq!(block.machine(), None);
    }
}
