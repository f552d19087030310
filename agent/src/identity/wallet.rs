//! The identity as the rest of the agent uses it: had, renewed, recovered, and told to whoever dials.

use std::fmt;
use std::sync::Arc;

use lattice_protocol::tls::{CaBundle, hex};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::ask::Answer;
use super::key::Request;
use super::secret::Kept;
use super::{Enrolment, Error, Identity, Keeper, enrol, recover};

/// Holds the identity. Clones share it.
#[derive(Clone)]
pub struct Wallet {
    shared: Arc<Shared>,
}

struct Shared {
    keeper: Keeper,
    enrolment: Enrolment,
    present: watch::Sender<Option<Arc<Identity>>>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
}

/// A request for the next certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// PEM.
    pub csr: String,
    /// Number of the certificate that is held.
    pub sequence: u64,
    /// Its serial number.
    pub serial: String,
}

impl Wallet {
    /// Keeps what `keeper` keeps.
    pub fn new(keeper: Keeper, enrolment: Enrolment) -> Self {
        let turn = tokio::sync::Mutex::default();
        Self { shared: Arc::new(Shared { keeper, enrolment, present: watch::Sender::new(None), turn }) }
    }

    /// Tells of the identity that is held, as soon as it changes.
    pub fn present(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.shared.present.subscribe()
    }

    /// What enrolment is done with.
    pub fn enrolment(&self) -> &Enrolment {
        &self.shared.enrolment
    }

    /// Returns the stored identity; enrols when there is none, recovers when `refused` says that the parent does not take
    /// its certificate. Whether that has ended is the parent's to say: the clock here may be wrong. Tries once; callers
    /// wait between tries.
    ///
    /// # Errors
    /// [`Error`]; each of them may pass with time but [`Error::Damaged`].
    #[tracing::instrument(name = "identity.obtain", skip_all, fields(cluster.name = %self.shared.enrolment.cluster))]
    pub async fn obtain(&self, kube_system_uid: &str, refused: bool) -> Result<Arc<Identity>, Error> {
        let _turn = self.shared.turn.lock().await;
        let Some(mut kept) = self.shared.keeper.load().await? else {
            let request = Request::generate(&self.shared.enrolment.id).map_err(Error::Key)?;
            return self.ask_first(Kept::asking(request), kube_system_uid).await;
        };
        if kept.certificate.is_none() {
            return self.ask_again(kept, kube_system_uid).await;
        }
        let identity = self.identity(&kept)?;
        if !refused {
            return Ok(self.publish(identity));
        }
        tracing::info!(ends = %identity.not_after, "the certificate is not in force; coming back with the bound key");
        match self.recover(&mut kept, kube_system_uid).await {
            Err(refused @ Error::Refused { .. }) => self.let_in_anew(kept, kube_system_uid, refused).await,
            outcome => outcome,
        }
    }

    /// Whoever refused may have given us another token meanwhile, by a person's hand: it is for a new key.
    async fn let_in_anew(&self, kept: Kept, kube_system_uid: &str, refused: Error) -> Result<Arc<Identity>, Error> {
        let Ok(token) = enrol::token(&self.shared.enrolment).await else { return Err(refused) };
        if kept.token.is_none() || kept.token == Some(token.hash().to_hex()) {
            return Err(refused);
        }
        tracing::info!("another join token is there; asking for a new identity with it");
        let request = Request::generate(&self.shared.enrolment.id).map_err(Error::Key)?;
        self.ask_first(kept.anew(request), kube_system_uid).await
    }

    /// Stores key and request, then asks.
    async fn ask_first(&self, mut kept: Kept, kube_system_uid: &str) -> Result<Arc<Identity>, Error> {
        kept.token = enrol::token(&self.shared.enrolment).await.ok().map(|token| token.hash().to_hex());
        self.shared.keeper.store(&mut kept).await?;
        self.enrol(kept, kube_system_uid).await
    }

    /// An earlier request may have been answered into the void, long ago: then the token is spent and the key is bound.
    async fn ask_again(&self, mut kept: Kept, kube_system_uid: &str) -> Result<Arc<Identity>, Error> {
        let Some(csr) = kept.csr.clone() else {
            let request = Request::generate(&self.shared.enrolment.id).map_err(Error::Key)?;
            return self.ask_first(kept.anew(request), kube_system_uid).await;
        };
        let request = Request { key: kept.key.clone(), csr };
        match enrol::enrol(&self.shared.enrolment, &request, kube_system_uid).await {
            // The request is kept until there is a certificate: a person may give us another token for it.
            Err(refused @ Error::Refused { .. }) => self.recover(&mut kept, kube_system_uid).await.map_err(|_| refused),
            answered => self.keep_first(kept, answered?).await,
        }
    }

    async fn enrol(&self, kept: Kept, kube_system_uid: &str) -> Result<Arc<Identity>, Error> {
        let request = Request { key: kept.key.clone(), csr: kept.csr.clone().unwrap_or_default() };
        let answer = enrol::enrol(&self.shared.enrolment, &request, kube_system_uid).await?;
        self.keep_first(kept, answer).await
    }

    async fn keep_first(&self, mut kept: Kept, answer: Answer) -> Result<Arc<Identity>, Error> {
        kept.enrolled(answer.certificate, answer.ca_bundle, answer.sequence);
        let identity = self.identity(&kept)?;
        self.shared.keeper.store(&mut kept).await?;
        tracing::info!(expires = %identity.not_after, "enrolled");
        Ok(self.publish(identity))
    }

    async fn recover(&self, kept: &mut Kept, kube_system_uid: &str) -> Result<Arc<Identity>, Error> {
        let csr = self.next_request(kept).await?;
        let ca = match &kept.ca {
            Some(pem) => CaBundle::from_pem(pem.as_bytes()).map_err(Error::Ca)?,
            None => enrol::pinned_ca(&self.shared.enrolment).await?,
        };
        let answer = recover::recover(&self.shared.enrolment, kept, &csr, &ca, kube_system_uid).await?;
        kept.renewed(answer.certificate, answer.ca_bundle, answer.sequence);
        let identity = self.identity(kept)?;
        self.shared.keeper.store(kept).await?;
        tracing::info!(expires = %identity.not_after, sequence = identity.sequence, "identity recovered");
        Ok(self.publish(identity))
    }

    /// The stored request for the next certificate, or a new one that is stored before it is told.
    async fn next_request(&self, kept: &mut Kept) -> Result<String, Error> {
        if kept.next.is_none() {
            kept.next = Some(Request::generate(&self.shared.enrolment.id).map_err(Error::Key)?);
            self.shared.keeper.store(kept).await?;
        }
        Ok(kept.next.as_ref().map(|next| next.csr.clone()).unwrap_or_default())
    }

    /// Trusts `bundle` from now on; gives the SHA-256 of what is stored.
    ///
    /// # Errors
    /// [`Error::Ca`] for a bundle that cannot be trusted, [`Error::Secret`], [`Error::Raced`].
    pub async fn trust(&self, bundle: &str) -> Result<String, Error> {
        let _turn = self.shared.turn.lock().await;
        CaBundle::from_pem(bundle.as_bytes()).map_err(Error::Ca)?;
        let mut kept = self.held().await?;
        if kept.ca.as_deref() != Some(bundle) {
            kept.ca = Some(bundle.to_owned());
            self.shared.keeper.store(&mut kept).await?;
            let identity = Arc::new(self.identity(&kept)?);
            // The session goes on: what it was dialled with is as good as before.
            self.shared.present.send_if_modified(|present| {
                let same = present.as_ref().is_some_and(|present| present.serial == identity.serial);
                if !same {
                    *present = Some(identity);
                }
                !same
            });
            tracing::info!("the bundle of trusted CAs has changed");
        }
        Ok(hex(&Sha256::digest(bundle.as_bytes())))
    }

    /// Gives the request for the next certificate; the same one until it is answered.
    ///
    /// # Errors
    /// [`Error::None`], [`Error::Key`], [`Error::Secret`], [`Error::Raced`].
    pub async fn prepare(&self) -> Result<Prepared, Error> {
        let _turn = self.shared.turn.lock().await;
        let mut kept = self.held().await?;
        let serial = self.identity(&kept)?.serial.to_string();
        let csr = self.next_request(&mut kept).await?;
        Ok(Prepared { csr, sequence: kept.sequence, serial })
    }

    /// Takes the certificate for that request: from here on it is what is dialled with.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a certificate that does not fit; [`Error::Secret`], [`Error::Raced`].
    pub async fn install(&self, certificate: String, ca: String, sequence: u64) -> Result<(), Error> {
        let _turn = self.shared.turn.lock().await;
        let mut kept = self.held().await?;
        if kept.certificate.as_deref() == Some(certificate.as_str()) {
            return Ok(());
        }
        if kept.next.is_none() {
            return Err(Error::None);
        }
        kept.renewed(certificate, ca, sequence);
        let identity = self.identity(&kept)?;
        self.shared.keeper.store(&mut kept).await?;
        tracing::info!(expires = %identity.not_after, sequence, "certificate renewed");
        self.publish(identity);
        Ok(())
    }

    async fn held(&self) -> Result<Kept, Error> {
        self.shared.keeper.load().await?.ok_or(Error::None)
    }

    fn identity(&self, kept: &Kept) -> Result<Identity, Error> {
        kept.identity(&self.shared.enrolment.id, self.shared.keeper.name())
    }

    /// Tells whoever dials; one and the same identity stays one and the same value.
    fn publish(&self, identity: Identity) -> Arc<Identity> {
        let identity = Arc::new(identity);
        self.shared.present.send_replace(Some(Arc::clone(&identity)));
        identity
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("keeper", &self.shared.keeper).finish_non_exhaustive()
    }
}
