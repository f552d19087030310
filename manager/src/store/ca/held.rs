//! The CA of this parent as it is now: read from its Secret, replaced by each step of a rotation.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lattice_protocol::spiffe::TrustDomain;
use tokio::sync::watch;

use super::authority::apart;
use super::keyring::Keyring;
use super::rotation::{self, Phase, Standing, Step};
use super::signer::Safe;
use super::{CertificateAuthority, Error, SECRET_NAME};
use crate::store::vault::{Entry, Vault, Version};

/// How often a lost race for the Secret is read again before it counts as failed.
const RACES_MAX: usize = 5;

/// Holds the present CA. Everybody asks it anew for each thing that they sign or show.
pub struct Authorities {
    vault: Arc<dyn Vault>,
    safe: Option<Arc<dyn Safe>>,
    fleet: TrustDomain,
    lifetime: Duration,
    held: Mutex<Held>,
    /// Changes of this process follow each other.
    turn: tokio::sync::Mutex<()>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

struct Held {
    ring: Keyring,
    version: Version,
    present: Arc<CertificateAuthority>,
}

impl Authorities {
    /// Reads the CA, or makes it when there is none yet. Of several managers that start at once, all get the same CA.
    /// What it signs lives for `lifetime`.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Missing`], [`Error::Unusable`] or [`Error::OtherFleet`] for a Secret that is not ours.
    pub async fn open(
        vault: Arc<dyn Vault>,
        fleet: &TrustDomain,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Arc<Self>, Error> {
        Self::open_with(vault, None, fleet, lifetime, now).await
    }

    /// As [`Authorities::open`]; where there is a safe, every key that is made from now on is made in it.
    ///
    /// # Errors
    /// As there; [`Error::Signer`], and [`Error::SignerUnknown`] for a key that lies in a safe when there is none.
    pub async fn open_with(
        vault: Arc<dyn Vault>,
        safe: Option<Arc<dyn Safe>>,
        fleet: &TrustDomain,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Arc<Self>, Error> {
        let held = load_or_create(&*vault, safe.as_ref(), fleet, lifetime, now).await?;
        Ok(Arc::new(Self {
            vault,
            safe,
            fleet: fleet.clone(),
            lifetime,
            held: Mutex::new(held),
            turn: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
        }))
    }

    /// What signs now.
    pub fn present(&self) -> Arc<CertificateAuthority> {
        self.with(|held| Arc::clone(&held.present))
    }

    /// Where the rotation is, and since when.
    pub fn phase(&self) -> (Phase, Timestamp) {
        self.with(|held| (held.ring.rotation.phase, held.ring.rotation.since))
    }

    /// Tells of every change of what signs or is trusted.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes a step of the rotation.
    ///
    /// # Errors
    /// [`Error::Rotation`] when it may not be taken; [`Error::Store`], after which it may be asked for again.
    pub async fn step(&self, step: Step, standing: &Standing, told: bool, now: Timestamp) -> Result<Phase, Error> {
        let _turn = self.turn.lock().await;
        let (ring, version) = self.with(|held| (held.ring.clone(), held.version.clone()));
        let to = rotation::advance(ring.rotation.phase, ring.rotation.since, step, standing, told, now)?;
        let (fleet, safe) = (self.fleet.clone(), self.safe.clone());
        let next = apart(safe.is_some(), move || ring.after(&fleet, safe.as_deref(), step, to, now)).await?;
        match self.vault.replace(SECRET_NAME, version, next.contents()).await {
            Ok(version) => {
                self.hold(Held::new(&self.fleet, next, self.safe.as_ref(), version, self.lifetime).await?);
                Ok(to)
            }
            Err(error) => {
                self.read_again().await?;
                Err(error.into())
            }
        }
    }

    /// Reads the Secret again; somebody else may have written it.
    ///
    /// # Errors
    /// As [`Authorities::open`]; what was held stays.
    pub async fn refresh(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        self.read_again().await
    }

    async fn read_again(&self) -> Result<(), Error> {
        let Some(entry) = self.vault.read(SECRET_NAME).await? else { return Err(Error::Missing("everything")) };
        if self.with(|held| held.version != entry.version) {
            self.hold(Held::read(&self.fleet, &entry, self.safe.as_ref(), self.lifetime).await?);
        }
        Ok(())
    }

    fn hold(&self, held: Held) {
        tracing::info!(ca.pin = %held.present.pin(), ca.phase = %held.ring.rotation.phase, "certificate authority changed");
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.changes.send_modify(|count| *count += 1);
    }

    fn with<T>(&self, look: impl FnOnce(&Held) -> T) -> T {
        look(&self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn load_or_create(
    vault: &dyn Vault,
    safe: Option<&Arc<dyn Safe>>,
    fleet: &TrustDomain,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Held, Error> {
    let mut conflict = None;
    for _ in 0..RACES_MAX {
        if let Some(entry) = vault.read(SECRET_NAME).await? {
            return Held::read(fleet, &entry, safe, lifetime).await;
        }
        let (of, kept) = (fleet.clone(), safe.cloned());
        let made = apart(kept.is_some(), move || Keyring::generate(&of, kept.as_deref(), now)).await?;
        match vault.create(SECRET_NAME, made.contents()).await {
            Ok(version) => {
                let held = Held::new(fleet, made, safe, version, lifetime).await?;
                tracing::info!(ca.pin = %held.present.pin(), "certificate authority made");
                return Ok(held);
            }
            Err(error) if error.is_conflict() => conflict = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(conflict.map_or(Error::Missing("everything"), Error::Store))
}

impl Held {
    async fn new(
        fleet: &TrustDomain,
        ring: Keyring,
        safe: Option<&Arc<dyn Safe>>,
        version: Version,
        lifetime: Duration,
    ) -> Result<Self, Error> {
        let (fleet, of, safe) = (fleet.clone(), ring.clone(), safe.cloned());
        let present =
            apart(safe.is_some(), move || CertificateAuthority::of(&fleet, &of, safe.as_deref(), lifetime)).await?;
        Ok(Self { ring, version, present: Arc::new(present) })
    }

    async fn read(
        fleet: &TrustDomain,
        entry: &Entry,
        safe: Option<&Arc<dyn Safe>>,
        lifetime: Duration,
    ) -> Result<Self, Error> {
        Self::new(fleet, Keyring::read(&entry.contents)?, safe, entry.version.clone(), lifetime).await
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}
