//! Coming back after a long sleep: what an agent whose certificate is not in force shows at the bootstrap port.
//!
//! `POST /v1/recover/challenge` gives a challenge; `POST /v1/recover` takes a [`RecoverRequest`], which the agent signs
//! with the key that its identity is bound to. The signature covers everything that is asked for, and the challenge
//! makes it worthless a minute later.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

use crate::ids::ClusterUid;
use crate::tls::hex;

/// What the signature begins with, so that it cannot be taken for another of the same key.
const CONTEXT: &str = "lattice recovery v1";
/// Longest part of a request, characters; the longest is the signing request.
const PART_CHARS_MAX: usize = 4096;

/// A claim that cannot be made or does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key is no P-256 key.
    #[error("the bound key cannot be used")]
    Key,
    /// The signature does not belong to claim and key.
    #[error("the signature is not by the bound key")]
    Signature,
    /// A part is longer than any honest one, or not what it should be.
    #[error("a part of the request is malformed")]
    Malformed,
}

/// Body of `POST /v1/recover/challenge`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChallengeRequest {
    /// The identity that comes back.
    pub cluster_uid: ClusterUid,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// To be sent back with the claim.
    pub challenge: String,
    /// The manager's clock, milliseconds since the Unix epoch: for words about skew, nothing else.
    pub now_unix_ms: i64,
}

/// What is claimed and signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// The identity that comes back.
    pub cluster_uid: ClusterUid,
    /// Number of the certificate that the agent got last.
    pub sequence: u64,
    /// `metadata.uid` of the child's namespace `kube-system`.
    pub kube_system_uid: String,
    /// The request for a new certificate, PEM.
    pub csr: String,
    /// From [`Challenge`].
    pub challenge: String,
}

/// Body of `POST /v1/recover`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverRequest {
    /// What is claimed.
    pub claim: Claim,
    /// The bound public key: DER `SubjectPublicKeyInfo`, hexadecimal.
    pub bound_key: String,
    /// ECDSA P-256 with SHA-256 over the claim, DER, hexadecimal.
    pub signature: String,
}

impl Claim {
    fn message(&self) -> Result<Vec<u8>, Error> {
        let parts = [&self.kube_system_uid, &self.csr, &self.challenge];
        if parts.iter().any(|part| part.len() > PART_CHARS_MAX) {
            return Err(Error::Malformed);
        }
        // Every part has a length of its own, so no two claims make one message.
        let mut message = Vec::with_capacity(512);
        let sequence = self.sequence.to_string();
        let csr = hex(&Sha256::digest(self.csr.as_bytes()));
        for part in [CONTEXT, self.cluster_uid.as_str(), &sequence, &self.kube_system_uid, &csr, &self.challenge] {
            message.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        Ok(message)
    }

    /// Signs the claim with the bound key, PEM (PKCS#8).
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn sign(self, bound_key_pem: &str) -> Result<RecoverRequest, Error> {
        let random = SystemRandom::new();
        let der = PrivateKeyDer::from_pem_slice(bound_key_pem.as_bytes()).map_err(|_| Error::Key)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_der(), &random);
        let key = key.map_err(|_| Error::Key)?;
        let signature = key.sign(&random, &self.message()?).map_err(|_| Error::Key)?;
        let public = rcgen::KeyPair::from_pem(bound_key_pem).map_err(|_| Error::Key)?;
        let bound_key = hex(&rcgen::PublicKeyData::subject_public_key_info(&public));
        Ok(RecoverRequest { claim: self, bound_key, signature: hex(signature.as_ref()) })
    }
}

impl RecoverRequest {
    /// Checks the signature and gives the SHA-256 of the key that made it, hexadecimal: what an identity is bound to.
    ///
    /// # Errors
    /// [`Error`].
    pub fn check(&self) -> Result<String, Error> {
        let spki = unhex(&self.bound_key).ok_or(Error::Malformed)?;
        let signature = unhex(&self.signature).ok_or(Error::Malformed)?;
        let (rest, parsed) = SubjectPublicKeyInfo::from_der(&spki).map_err(|_| Error::Key)?;
        if !rest.is_empty() {
            return Err(Error::Key);
        }
        let point = parsed.subject_public_key.data.as_ref();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        key.verify(&self.claim.message()?, &signature).map_err(|_| Error::Signature)?;
        Ok(hex(&Sha256::digest(&spki)))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() > PART_CHARS_MAX || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl fmt::Debug for RecoverRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoverRequest").field("claim", &self.claim).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem()
    }

    fn claim() -> Claim {
        Claim {
            cluster_uid: "0b6c2d1e-9f00-4c8e-8a77-0123456789ab".parse().unwrap(),
            sequence: 3,
            kube_system_uid: "k".to_owned(),
            csr: "PEM".to_owned(),
            challenge: "c".to_owned(),
        }
    }

    #[test]
    fn a_signed_claim_names_its_key() {
        let key = key();
        let signed = claim().sign(&key).unwrap();
        let again: RecoverRequest = serde_json::from_str(&serde_json::to_string(&signed).unwrap()).unwrap();
        assert_eq!(signed.check(), again.check());
        assert_ne!(signed.check(), claim().sign(&self::key()).unwrap().check());
    }

    #[test]
    fn nothing_of_a_claim_can_be_changed() {
        let changes: [fn(&mut Claim); 5] = [
            |claim| claim.cluster_uid = "0b6c2d1e-9f00-4c8e-8a77-0123456789ac".parse().unwrap(),
            |claim| claim.sequence += 1,
            |claim| claim.kube_system_uid.push('x'),
            |claim| claim.csr.push('x'),
            |claim| claim.challenge.push('x'),
        ];
        let signed = claim().sign(&key()).unwrap();
        for change in changes {
            let mut spoiled = signed.clone();
            change(&mut spoiled.claim);
            assert_eq!(spoiled.check(), Err(Error::Signature));
        }
        let mut foreign = signed.clone();
        foreign.bound_key = claim().sign(&key()).unwrap().bound_key;
        assert_eq!(foreign.check(), Err(Error::Signature));
        let mut long = signed;
        long.claim.csr = "x".repeat(PART_CHARS_MAX + 1);
        assert_eq!(long.check(), Err(Error::Malformed));
    }
}
