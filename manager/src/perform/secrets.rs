//! The Secrets of a cluster: credentials of its provider, its enrolment, and Cluster API's way to it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::GroupVersionKind;
use lattice_protocol::clock;
use lattice_protocol::token::{JoinToken, TokenHash};
use serde_json::json;

use super::provider::credentials_name;
use super::{Error, Performer, Subject};
use crate::api::ClusterName;
use crate::gateway::{Gateway, TokenStanding};
use crate::store::{OPAQUE, SecretData, StoredSecret, cluster_labels, digest};

/// Annotation of the kubeconfig Secret: hash of its bearer token, which the proxy compares.
pub const CREDENTIAL_HASH: &str = "lattice.dev/credential-hash";
/// Annotation of the kubeconfig Secret: digest of its value, which tells an edit from what we wrote.
pub const VALUE_DIGEST: &str = "lattice.dev/value-digest";
/// Annotation of the kubeconfig Secret: digest of the address and CA that it was made for.
pub const MADE_FOR: &str = "lattice.dev/made-for";

/// Annotation of the kubeconfig Secret: when its bearer token was made.
const ISSUED_AT: &str = "lattice.dev/issued-at";

/// Longest life of Cluster API's bearer token; each is replaced in the last tenth of it, at a time of its own. Lower: each
/// replacement costs Cluster API two seconds of an unavailable control plane; higher: a copy that got out works longer.
const CREDENTIAL_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Bytes of the bearer token that Cluster API gets.
const CREDENTIAL_BYTES: usize = 32;
/// Key of a kubeconfig Secret, by Cluster API's contract.
const KUBECONFIG_KEY: &str = "value";
const TOKEN_KEY: &str = "token";

/// Names of a cluster's Secrets.
pub fn enrolment_name(cluster: &ClusterName) -> String {
    format!("{cluster}-enroll")
}

/// See [`enrolment_name`].
pub fn kubeconfig_name(cluster: &ClusterName) -> String {
    format!("{cluster}-kubeconfig")
}

/// What the values of a cluster's enrolment Secret should be, the token apart.
pub fn enrolment_values(gateway: &Gateway) -> [(&'static str, String); 2] {
    let urls = gateway.bootstrap_urls().iter().fold(String::new(), |text, url| text + url + "\n");
    [("ca.crt", gateway.ca_pem()), ("bootstrap-urls", urls)]
}

/// What a cluster's kubeconfig should lead to.
#[derive(Clone, Debug)]
pub struct KubeconfigPlan {
    server: String,
    ca_pem: String,
}

impl KubeconfigPlan {
    /// Reads it off the gateway; none without an external address.
    pub fn new(gateway: &Gateway, cluster: &ClusterName) -> Option<Self> {
        Some(Self { server: gateway.proxy_url(cluster)?, ca_pem: gateway.ca_pem() })
    }

    /// Tells one address and CA from another.
    pub fn made_for(&self) -> String {
        digest(format!("{}\n{}", self.server, self.ca_pem).as_bytes())
    }

    /// A user-provided kubeconfig of Cluster API's contract: bearer token, no plugin, the proxy as its server.
    fn text(&self, cluster: &ClusterName, credential: &str) -> String {
        let name = cluster.as_str();
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": name,
                "cluster": {
                    "server": self.server,
                    "certificate-authority-data": STANDARD.encode(&self.ca_pem),
                },
            }],
            "users": [{"name": "cluster-api", "user": {"token": credential}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "cluster-api"}}],
            "current-context": name,
        })
        .to_string()
    }
}

impl Performer {
    /// Copies the provider's credentials into the cluster's namespace.
    pub(super) async fn ensure_credentials(&self, subject: &Subject) -> Result<(), Error> {
        let Some((namespace, name)) = subject.provider.as_deref().and_then(super::provider::secret_of) else {
            return Ok(());
        };
        let source = self.store.read_secret(&namespace, &name).await?;
        let source = source.ok_or(Error::CredentialsMissing { namespace, name })?;
        let copy = credentials_name(&subject.cluster);
        self.put(subject, &copy, BTreeMap::new(), &source.data).await
    }

    /// Makes the join token and the Secret that nodes read it from; blanks the token once it was used.
    pub(super) async fn ensure_enrolment(&self, subject: &Subject) -> Result<(), Error> {
        if self.gateway.bootstrap_urls().is_empty() {
            return Err(Error::NoAddress);
        }
        let name = enrolment_name(&subject.name);
        let stored = self.own_secret(subject, &name).await?;
        let text = stored.as_ref().and_then(|secret| secret.data.text(TOKEN_KEY));
        let delivered = text.and_then(|text| JoinToken::parse(text).ok());
        let standing = self.gateway.ensure_token(&subject.name, &subject.uid, delivered.as_ref()).await?;
        let token = match standing {
            TokenStanding::Kept => text.unwrap_or_default().as_bytes().to_vec(),
            TokenStanding::Minted(token) => token.expose().as_bytes().to_vec(),
            TokenStanding::Spent => Vec::new(),
        };
        let mut values: BTreeMap<String, Vec<u8>> = enrolment_values(&self.gateway)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into_bytes()))
            .collect();
        values.insert(TOKEN_KEY.to_owned(), token);
        let wanted = SecretData::new(values);
        if stored.is_some_and(|secret| secret.data == wanted) {
            return Ok(());
        }
        self.put(subject, &name, BTreeMap::new(), &wanted).await
    }

    /// Makes the kubeconfig that leads Cluster API through the proxy, and tells the proxy its credential.
    pub(super) async fn ensure_kubeconfig(&self, subject: &Subject) -> Result<(), Error> {
        let plan = KubeconfigPlan::new(&self.gateway, &subject.name).ok_or(Error::NoAddress)?;
        let name = kubeconfig_name(&subject.name);
        let now = clock::now();
        let mut stored = self.own_secret(subject, &name).await?;
        if let Some(foreign) = stored.take_if(|secret| secret.kind != OPAQUE) {
            // Cluster API writes one of its own type when ours is gone, and the API lets nobody change a type. Its leads
            // straight to a cluster that cannot be reached so.
            tracing::warn!(cluster.name = %subject.name, kind = foreign.kind, "a kubeconfig Secret of another type is replaced");
            let secrets = self.store.resource(&secret_kind(), Some(&subject.name.namespace()));
            self.store.delete(&secrets, &name, foreign.metadata.uid.as_deref()).await?;
        }
        if let Some(hash) = stored.as_ref().and_then(|secret| credential_in_force(secret, &plan, now)) {
            self.gateway.register_proxy_credential(&subject.name, hash);
            self.gateway.note_kubeconfig(&subject.name, &plan.ca_pem);
            return Ok(());
        }
        let credential = URL_SAFE_NO_PAD.encode(rand::random::<[u8; CREDENTIAL_BYTES]>());
        let hash = TokenHash::of(credential.as_bytes());
        let value = plan.text(&subject.name, &credential).into_bytes();
        let annotations = BTreeMap::from([
            (CREDENTIAL_HASH.to_owned(), hash.to_hex()),
            (VALUE_DIGEST.to_owned(), digest(&value)),
            (MADE_FOR.to_owned(), plan.made_for()),
            (ISSUED_AT.to_owned(), clock::to_seconds(now).to_string()),
        ]);
        // The proxy knows the credential first: Cluster API may use it the moment that it is written. The one before is
        // taken a little longer, so that nobody is refused who cannot read the new one yet.
        self.gateway.register_proxy_credential(&subject.name, hash);
        let data = SecretData::new(BTreeMap::from([(KUBECONFIG_KEY.to_owned(), value)]));
        self.put(subject, &name, annotations, &data).await?;
        self.gateway.note_kubeconfig(&subject.name, &plan.ca_pem);
        Ok(())
    }

    /// Deletes the Secrets that were made for the cluster.
    pub(super) async fn delete_secrets(&self, subject: &Subject) -> Result<(), Error> {
        let namespace = subject.name.namespace();
        let secret = self.store.resource(&secret_kind(), Some(&namespace));
        for name in [enrolment_name(&subject.name), kubeconfig_name(&subject.name), credentials_name(&subject.cluster)]
        {
            if self.own_secret(subject, &name).await?.is_some() {
                self.store.delete(&secret, &name, None).await?;
            }
        }
        Ok(())
    }

    /// Reads a Secret of the cluster's namespace.
    async fn own_secret(&self, subject: &Subject, name: &str) -> Result<Option<StoredSecret>, Error> {
        let namespace = subject.name.namespace();
        let stored = self.store.read_secret(&namespace, name).await?;
        match stored {
            Some(secret) if secret.metadata.deletion_timestamp.is_some() => {
                Err(crate::store::Error::Terminating { object: format!("Secret {namespace}/{name}") }.into())
            }
            other => Ok(other),
        }
    }

    async fn put(
        &self,
        subject: &Subject,
        name: &str,
        annotations: BTreeMap<String, String>,
        data: &SecretData,
    ) -> Result<(), Error> {
        let labels = cluster_labels(&subject.name, &subject.uid);
        self.store.apply_secret(&subject.name.namespace(), name, labels, annotations, data).await?;
        Ok(())
    }
}

/// Whether the bearer token of a kubeconfig Secret has lived long enough.
pub fn credential_is_old(metadata: &ObjectMeta, now: Timestamp) -> bool {
    let annotation = |key| metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    let Some(issued) = annotation(ISSUED_AT).and_then(|text| text.parse().ok()).or(created) else { return false };
    // Up to a tenth earlier, by the token's own chance: a thousand that were made in one hour do not end in one.
    let chance = annotation(CREDENTIAL_HASH).and_then(|hash| u8::from_str_radix(hash.get(..2)?, 16).ok());
    let earlier = CREDENTIAL_LIFETIME / 10 / 256 * i32::from(chance.unwrap_or_default());
    now.duration_since(issued) >= CREDENTIAL_LIFETIME - earlier
}

fn secret_kind() -> GroupVersionKind {
    GroupVersionKind::gvk("", "v1", "Secret")
}

/// The hash of the credential in a kubeconfig Secret, if the Secret is as we wrote it, leads where it should, and is not
/// too old.
fn credential_in_force(secret: &StoredSecret, plan: &KubeconfigPlan, now: Timestamp) -> Option<TokenHash> {
    let annotations = secret.metadata.annotations.as_ref()?;
    let value = secret.data.text(KUBECONFIG_KEY)?;
    let as_written = annotations.get(VALUE_DIGEST) == Some(&digest(value.as_bytes()));
    let leads_here = annotations.get(MADE_FOR) == Some(&plan.made_for());
    if !as_written || !leads_here || credential_is_old(&secret.metadata, now) {
        return None;
    }
    TokenHash::from_hex(annotations.get(CREDENTIAL_HASH)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> KubeconfigPlan {
        KubeconfigPlan { server: "https://parent:6443/clusters/backend".into(), ca_pem: "PEM".into() }
    }

    fn stored(value: &str, plan: &KubeconfigPlan) -> StoredSecret {
        let annotations = BTreeMap::from([
            (CREDENTIAL_HASH.to_owned(), TokenHash::of(b"credential").to_hex()),
            (VALUE_DIGEST.to_owned(), digest(value.as_bytes())),
            (MADE_FOR.to_owned(), plan.made_for()),
        ]);
        StoredSecret {
            metadata: ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() },
            data: SecretData::new(BTreeMap::from([("value".to_owned(), value.as_bytes().to_vec())])),
            kind: OPAQUE.to_owned(),
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_token_is_replaced_in_the_last_tenth_of_its_life() {
        let aged = |days: i64, hash: &str| {
            let issued = (now() - SignedDuration::from_hours(24 * days)).to_string();
            let annotations = [(ISSUED_AT.to_owned(), issued), (CREDENTIAL_HASH.to_owned(), hash.to_owned())];
            credential_is_old(&ObjectMeta { annotations: Some(annotations.into()), ..ObjectMeta::default() }, now())
        };
        assert_eq!([aged(26, "ff00"), aged(28, "ff00"), aged(30, "ff00")], [false, true, true]);
        assert_eq!([aged(28, "0000"), aged(30, "0000")], [false, true]);
        assert!(!credential_is_old(&ObjectMeta::default(), now()), "one of unknown age stays");
    }

    #[test]
    fn a_kubeconfig_of_ours_keeps_its_credential_across_restarts() {
        let hash = credential_in_force(&stored("text", &plan()), &plan(), now()).expect("in force");
        assert_eq!(hash.to_hex(), TokenHash::of(b"credential").to_hex());
    }

    #[test]
    fn an_edited_kubeconfig_and_one_for_another_address_are_replaced() {
        let mut edited = stored("text", &plan());
        edited.data = SecretData::new(BTreeMap::from([("value".to_owned(), b"other".to_vec())]));
        assert!(credential_in_force(&edited, &plan(), now()).is_none());
        let moved = KubeconfigPlan { server: "https://elsewhere:6443/clusters/backend".into(), ..plan() };
        assert!(credential_in_force(&stored("text", &plan()), &moved, now()).is_none());
    }

    #[test]
    fn cluster_api_gets_a_token_and_no_plugin() {
        let text = plan().text(&"backend".parse().expect("a name"), "credential");
        let config = kube::config::Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        assert_eq!(config.clusters[0].cluster.as_ref().and_then(|c| c.server.clone()), Some(plan().server));
        let user = config.auth_infos[0].auth_info.as_ref().expect("a user");
        assert!(user.token.is_some() && user.exec.is_none() && user.auth_provider.is_none());
    }
}
