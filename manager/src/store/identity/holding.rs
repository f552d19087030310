//! Renewal, recovery and the deliberate way back in: the rules of [`super::record`], written down before any answer.

use jiff::Timestamp;
use lattice_protocol::ids::{ClusterName, ClusterUid};
use lattice_protocol::tls::Serial;
use lattice_protocol::token::JoinToken;

use super::record::{Admission, Certificate, Record, Recovery};
use super::{Error, Held, IdentityStore, Refusal, secret_name};
use crate::store::ca::{Issued, SigningRequest};
use crate::store::vault::Vault;

/// What an agent without a certificate in force shows. The signature over it was checked by the caller.
#[derive(Clone, Debug)]
pub struct Asked {
    /// SHA-256 of the key that signed.
    pub key_sha256: String,
    /// The agent's count of certificates.
    pub sequence: u64,
    /// `metadata.uid` of its `kube-system`.
    pub kube_system_uid: String,
    /// From where it asks, in words.
    pub from: String,
}

/// A certificate that takes the present one's place once it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The chain, leaf first.
    pub chain_pem: String,
    /// Serial of the leaf.
    pub serial: Serial,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Its number.
    pub sequence: u64,
    /// The same answer was given before.
    pub repeated: bool,
}

/// How a cluster's identity stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its uid.
    pub uid: ClusterUid,
    /// Since when and why it is locked, if it is.
    pub locked: Option<(Timestamp, String)>,
    /// SHA-256 of the CA bundle that its agent trusts.
    pub trusts: Option<String>,
    /// The certificate in force is signed by another CA than the present one.
    pub of_another_ca: bool,
    /// Number of the certificate in force.
    pub sequence: u64,
}

/// What a request may have, and whether it was promised before; none when that is to be signed first.
type Verdict = Result<Option<(Certificate, bool)>, Refusal>;

impl IdentityStore {
    /// Answers a renewal that an agent asks for in a session of certificate `serial`. An answer of [`Refusal::Locked`]
    /// may have locked the identity just now.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::Store`] or [`Error::Sign`], after which the same request may be sent again.
    pub async fn renew(
        &self,
        uid: &ClusterUid,
        serial: &Serial,
        sequence: u64,
        request: &SigningRequest,
        now: Timestamp,
    ) -> Result<Renewed, Error> {
        self.answer(uid, request, now, |record, issuer| record.renew(serial, sequence, request, issuer, now), |_| {})
            .await
    }

    /// Answers an agent that comes back with its bound key.
    ///
    /// # Errors
    /// As [`IdentityStore::renew`].
    pub async fn recover(
        &self,
        uid: &ClusterUid,
        asked: &Asked,
        request: &SigningRequest,
        now: Timestamp,
    ) -> Result<Renewed, Error> {
        if !self.lock().contains_key(uid) {
            return Err(Refusal::BoundKey.into());
        }
        let recovery = Recovery {
            key_sha256: &asked.key_sha256,
            sequence: asked.sequence,
            kube_system_uid: &asked.kube_system_uid,
            from: &asked.from,
        };
        let judge = |record: &mut Record, issuer: &str| record.recover(&recovery, request, issuer, now);
        self.answer(uid, request, now, judge, |record| record.count_recovery(now)).await
    }

    async fn answer(
        &self,
        uid: &ClusterUid,
        request: &SigningRequest,
        now: Timestamp,
        judge: impl Fn(&mut Record, &str) -> Result<Admission, Refusal>,
        granted: impl Fn(&mut Record),
    ) -> Result<Renewed, Error> {
        let ca = self.ca.present();
        let issuer = ca.pin().to_string();
        let mut issued: Option<Issued> = None;
        loop {
            let verdict: Verdict = self
                .change(uid, |record| {
                    let mut next = record.cloned().ok_or(Refusal::BoundKey)?;
                    let verdict = match (judge(&mut next, &issuer), &issued) {
                        // Judged again once it is signed: who may have nothing costs the CA's key no signature.
                        (Ok(Admission::Sign), None) => return Ok((None, Ok(None))),
                        (Ok(Admission::Sign), Some(issued)) => {
                            granted(&mut next);
                            Ok(Some((next.grant(request, issued), false)))
                        }
                        (Ok(Admission::Again(certificate)), _) => Ok(Some((certificate, true))),
                        // A lock is a change as well: it is written down before anybody hears of it.
                        (Err(refusal), _) => Err(refusal),
                    };
                    Ok((Some(next), verdict))
                })
                .await?;
            let Some((certificate, promised)) = verdict? else {
                issued = Some(ca.certify_agent(request, ca.fleet().agent(uid), now).await?);
                continue;
            };
            let Certificate { chain_pem, serial, not_after, sequence } = certificate;
            // A lost race, or an answer that came twice: what counts is what is stored.
            let repeated = promised || issued.is_none_or(|issued| issued.serial != serial);
            return Ok(Renewed { chain_pem, serial, not_after, sequence, repeated });
        }
    }

    /// An agent showed a certificate: if it is the next one, it takes over.
    ///
    /// # Errors
    /// [`Error::Store`]; both certificates then stay in force.
    pub async fn shown(&self, uid: &ClusterUid, serial: &Serial) -> Result<(), Error> {
        self.edit(uid, |record| record.shown(serial)).await
    }

    /// Notes which CA bundle an agent trusts.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn trusts(&self, uid: &ClusterUid, bundle_sha256: &str) -> Result<(), Error> {
        self.edit(uid, |record| record.trust(bundle_sha256)).await
    }

    /// How a cluster's identity stands, if an agent ever held it.
    pub fn identified(&self, uid: &ClusterUid) -> Option<Identified> {
        let issuer = self.ca.present().pin().to_string();
        self.lock().get(uid).and_then(|held| identified(&held.record, &issuer))
    }

    /// How every held identity stands.
    pub fn all_identified(&self) -> Vec<Identified> {
        let issuer = self.ca.present().pin().to_string();
        self.lock().values().filter_map(|held| identified(&held.record, &issuer)).collect()
    }

    /// Reads an identity again when somebody else has written it; `version` is what was seen of it.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Unreadable`]; what was held stays.
    pub async fn refresh(&self, uid: &ClusterUid, version: Option<&super::Version>) -> Result<(), Error> {
        let turn = self.turn(uid);
        let _turn = turn.lock().await;
        if self.lock().get(uid).map(|held| &held.version) != version {
            self.read(uid).await?;
        }
        Ok(())
    }

    /// The cluster whose identity is in the Secret of that name.
    pub fn uid_in(name: &str) -> Option<ClusterUid> {
        let uid: ClusterUid = name.strip_prefix("lattice-identity-")?.parse().ok()?;
        (secret_name(&uid) == name).then_some(uid)
    }

    async fn edit(&self, uid: &ClusterUid, edit: impl Fn(&mut Record)) -> Result<(), Error> {
        self.change(uid, |record| {
            let next = record.cloned().map(|mut record| {
                edit(&mut record);
                record
            });
            Ok((next, ()))
        })
        .await
    }
}

/// Makes a join token by which a new key takes a cluster's identity over. Only a person asks for it; the running manager
/// notices what is written here.
///
/// # Errors
/// [`Refusal::Revoked`]; [`Error::Store`].
pub async fn let_in(
    vault: &dyn Vault,
    cluster: &ClusterName,
    uid: &ClusterUid,
    now: Timestamp,
) -> Result<JoinToken, Error> {
    let name = secret_name(uid);
    let mut round = 0;
    loop {
        round += 1;
        let held = vault.read(&name).await?.map(|entry| Held::from_entry(&entry)).transpose()?;
        let mut next = held.as_ref().map_or_else(|| Record::new(cluster, uid), |held| held.record.clone());
        let token = next.let_in(now)?;
        let contents = super::contents(&next)?;
        let written = match held {
            Some(held) => vault.replace(&name, held.version, contents).await,
            None => vault.create(&name, contents).await,
        };
        match written {
            Ok(_) => return Ok(token),
            Err(error) if error.is_conflict() && round < super::RACES_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn identified(record: &Record, issuer: &str) -> Option<Identified> {
    record.is_held().then(|| Identified {
        cluster: record.cluster.clone(),
        uid: record.uid.clone(),
        locked: record.lock().map(|(at, why)| (at, why.to_owned())),
        trusts: record.trusts().map(str::to_owned),
        of_another_ca: record.is_of_another(issuer),
        sequence: record.sequence(),
    })
}
