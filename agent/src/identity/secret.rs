//! The Secret on the child that keeps the identity. Every write is a compare-and-swap: two agents of one cluster (a node
//! that is cut off keeps its pod) can not make two requests out of one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use lattice_protocol::spiffe::SpiffeId;
use lattice_protocol::tls::{CaBundle, Credentials};
use rcgen::PublicKeyData as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::key::Request;
use super::{Error, Identity};

/// Field manager of the Secret.
const MANAGER: &str = "lattice-agent";

const KEY: &str = "tls.key";
const CSR: &str = "tls.csr";
const CERTIFICATE: &str = "tls.crt";
const CA: &str = "ca.crt";
const BOUND_KEY: &str = "bound.key";
const SEQUENCE: &str = "sequence";
const TOKEN: &str = "token-sha256";
const NEXT_KEY: &str = "next.key";
const NEXT_CSR: &str = "next.csr";

/// Reads and writes the identity's Secret.
#[derive(Clone)]
pub struct Keeper {
    secrets: Api<Secret>,
    name: Arc<str>,
}

/// What the Secret holds, PEM texts.
pub(super) struct Kept {
    /// Key of the certificate, or of the first request while there is none.
    pub(super) key: Zeroizing<String>,
    /// The first request, until it is answered.
    pub(super) csr: Option<String>,
    pub(super) certificate: Option<String>,
    /// Whom the agent trusts.
    pub(super) ca: Option<String>,
    /// The key that the identity is bound to, where it is another one by now.
    bound: Option<Zeroizing<String>>,
    /// Number of the certificate.
    pub(super) sequence: u64,
    /// Key and request for the next certificate.
    pub(super) next: Option<Request>,
    /// SHA-256 of the join token that the first certificate was asked for with.
    pub(super) token: Option<String>,
    /// The object as it was read.
    secret: Option<Secret>,
}

impl Kept {
    /// What is kept before the first request is sent.
    pub(super) fn asking(request: Request) -> Self {
        let (key, csr) = (request.key, Some(request.csr));
        Self { key, csr, certificate: None, ca: None, bound: None, sequence: 1, next: None, token: None, secret: None }
    }

    /// Starts anew with another key, in the same Secret.
    pub(super) fn anew(self, request: Request) -> Self {
        Self { secret: self.secret, ..Self::asking(request) }
    }

    /// The key that the identity is bound to: the first one.
    pub(super) fn bound_key(&self) -> &str {
        self.bound.as_ref().unwrap_or(&self.key)
    }

    /// The first certificate has come.
    pub(super) fn enrolled(&mut self, certificate: String, ca: String, sequence: u64) {
        (self.certificate, self.ca, self.sequence) = (Some(certificate), Some(ca), sequence);
        self.csr = None;
    }

    /// The certificate for the next request has come, if there is one.
    pub(super) fn renewed(&mut self, certificate: String, ca: String, sequence: u64) {
        if let Some(next) = self.next.take() {
            let last = std::mem::replace(&mut self.key, next.key);
            self.bound.get_or_insert(last);
        }
        self.enrolled(certificate, ca, sequence);
    }

    /// Reads the certificate and checks that it is for `id`.
    pub(super) fn identity(&self, id: &SpiffeId, secret: &str) -> Result<Identity, Error> {
        let damaged = |why: String| Error::Damaged { name: secret.to_owned(), why };
        let of_tls = |error: lattice_protocol::tls::Error| damaged(error.to_string());
        let (Some(certificate), Some(ca)) = (&self.certificate, &self.ca) else { return Err(Error::None) };
        let credentials = Credentials::from_pem(certificate.as_bytes(), self.key.as_bytes()).map_err(of_tls)?;
        let own = credentials.identity().map_err(of_tls)?;
        if own.id != *id {
            return Err(damaged(format!("it is for {}, and this agent is {id}", own.id)));
        }
        let key = rcgen::KeyPair::from_pem(&self.key).map_err(|error| damaged(error.to_string()))?;
        if own.key_sha256[..] != Sha256::digest(key.subject_public_key_info())[..] {
            return Err(damaged("certificate and key do not belong together".to_owned()));
        }
        let ca = CaBundle::from_pem(ca.as_bytes()).map_err(of_tls)?;
        Ok(Identity { credentials, ca, not_after: own.not_after, serial: own.serial, sequence: self.sequence })
    }

    fn read(secret: Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
        let next = text(NEXT_KEY).zip(text(NEXT_CSR));
        Some(Self {
            key: Zeroizing::new(text(KEY)?),
            csr: text(CSR),
            certificate: text(CERTIFICATE),
            ca: text(CA),
            bound: text(BOUND_KEY).map(Zeroizing::new),
            sequence: text(SEQUENCE).and_then(|number| number.parse().ok()).unwrap_or(1),
            token: text(TOKEN),
            next: next.map(|(key, csr)| Request { key: Zeroizing::new(key), csr }),
            secret: Some(secret),
        })
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let sequence = self.sequence.to_string();
        let next = self.next.as_ref();
        let entries = [
            (KEY, Some(self.key.as_str())),
            (CSR, self.csr.as_deref()),
            (CERTIFICATE, self.certificate.as_deref()),
            (CA, self.ca.as_deref()),
            (BOUND_KEY, self.bound.as_ref().map(|key| key.as_str())),
            (SEQUENCE, Some(sequence.as_str())),
            (TOKEN, self.token.as_deref()),
            (NEXT_KEY, next.map(|next| next.key.as_str())),
            (NEXT_CSR, next.map(|next| next.csr.as_str())),
        ];
        let present = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        present.map(|(key, value)| (key, ByteString(value.as_bytes().to_vec()))).collect()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Keeps the identity in Secret `name`.
    pub fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self { secrets: Api::namespaced(client, namespace), name: name.into() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn load(&self) -> Result<Option<Kept>, Error> {
        let secret = self.secrets.get_opt(&self.name).await.map_err(|source| self.failed(source))?;
        Ok(secret.and_then(Kept::read))
    }

    /// Writes what is kept, if nobody else has written since it was read.
    pub(super) async fn store(&self, kept: &mut Kept) -> Result<(), Error> {
        let mut wanted = kept.secret.clone().unwrap_or_default();
        wanted.metadata.name = Some(self.name.to_string());
        // The server keeps its own account of who owns what.
        wanted.metadata.managed_fields = None;
        wanted.data = Some(kept.data());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let written = match &kept.secret {
            Some(_) => self.secrets.replace(&self.name, &params, &wanted).await,
            None => self.secrets.create(&params, &wanted).await,
        };
        kept.secret = Some(written.map_err(|source| self.failed(source))?);
        Ok(())
    }

    fn failed(&self, source: kube::Error) -> Error {
        let name = self.name.to_string();
        match &source {
            kube::Error::Api(status) if status.code == 409 => Error::Raced { name },
            _ => Error::Secret { name, source: Box::new(source) },
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("secret", &self.name).finish_non_exhaustive()
    }
}
