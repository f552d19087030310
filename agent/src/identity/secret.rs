//! The Secret on the child that keeps the identity.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use lattice_protocol::spiffe::SpiffeId;
use lattice_protocol::tls::{CaBundle, Credentials};
use zeroize::Zeroizing;

use super::key::Request;
use super::{Error, Identity};

/// Field manager of the Secret.
const MANAGER: &str = "lattice-agent";

const KEY: &str = "tls.key";
const CSR: &str = "tls.csr";
const CERTIFICATE: &str = "tls.crt";
const CA: &str = "ca.crt";

/// Reads and writes the identity's Secret.
#[derive(Clone)]
pub struct Keeper {
    secrets: Api<Secret>,
    name: Arc<str>,
}

/// How far the stored identity got.
#[derive(Debug)]
pub(super) enum Stored {
    /// A key and a request, not yet known to be answered.
    Asked(Request),
    /// All of it.
    Enrolled(Enrolled),
}

/// A complete identity as PEM texts.
pub(super) struct Enrolled {
    pub(super) key: Zeroizing<String>,
    pub(super) certificate: String,
    pub(super) ca: String,
}

impl Enrolled {
    /// Reads the texts and checks that they are for `id`.
    pub(super) fn check(&self, id: &SpiffeId, secret: &str) -> Result<Identity, Error> {
        let damaged = |why: String| Error::Damaged { name: secret.to_owned(), why };
        let of_tls = |error: lattice_protocol::tls::Error| damaged(error.to_string());
        let credentials = Credentials::from_pem(self.certificate.as_bytes(), self.key.as_bytes()).map_err(of_tls)?;
        let own = credentials.identity().map_err(of_tls)?;
        if own.id != *id {
            return Err(damaged(format!("it is for {}, and this agent is {id}", own.id)));
        }
        let ca = CaBundle::from_pem(self.ca.as_bytes()).map_err(of_tls)?;
        Ok(Identity { credentials, ca, not_after: own.not_after })
    }
}

impl fmt::Debug for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Enrolled([redacted])")
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

    pub(super) async fn load(&self) -> Result<Option<Stored>, Error> {
        let secret = self.secrets.get_opt(&self.name).await.map_err(|source| self.failed(source))?;
        Ok(secret.and_then(|secret| read(&secret.data.unwrap_or_default())))
    }

    pub(super) async fn keep_request(&self, request: &Request) -> Result<(), Error> {
        self.apply([(KEY, request.key.as_bytes()), (CSR, request.csr.as_bytes())]).await
    }

    pub(super) async fn keep_certificate(&self, stored: &Enrolled) -> Result<(), Error> {
        let (key, certificate, ca) = (stored.key.as_bytes(), stored.certificate.as_bytes(), stored.ca.as_bytes());
        self.apply([(KEY, key), (CERTIFICATE, certificate), (CA, ca)]).await
    }

    pub(super) async fn forget(&self) -> Result<(), Error> {
        self.apply([]).await
    }

    /// Makes the Secret hold exactly these entries of ours.
    async fn apply<const N: usize>(&self, entries: [(&str, &[u8]); N]) -> Result<(), Error> {
        let data = entries.map(|(key, value)| (key.to_owned(), ByteString(value.to_owned())));
        let mut secret = Secret { data: Some(BTreeMap::from(data)), type_: Some("Opaque".into()), ..Secret::default() };
        secret.metadata.name = Some(self.name.to_string());
        self.secrets
            .patch(&self.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret))
            .await
            .map(drop)
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: kube::Error) -> Error {
        Error::Secret { name: self.name.to_string(), source: Box::new(source) }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("secret", &self.name).finish_non_exhaustive()
    }
}

fn read(data: &BTreeMap<String, ByteString>) -> Option<Stored> {
    let text = |key: &str| data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
    let key = Zeroizing::new(text(KEY)?);
    if let (Some(certificate), Some(ca)) = (text(CERTIFICATE), text(CA)) {
        return Some(Stored::Enrolled(Enrolled { key, certificate, ca }));
    }
    text(CSR).map(|csr| Stored::Asked(Request { key, csr }))
}
