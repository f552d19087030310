//! Whether clusters can be made on an InfraProvider, and its status.

use std::sync::Arc;

use jiff::Timestamp;

use super::facts::{Observed, SecretFacts};
use crate::api::condition::{CREDENTIALS_VALID, READY};
use crate::api::{
    ConditionStatus, Conditions, InfraProvider, InfraProviderStatus, ProviderPhase, ProviderType, Reason,
};

/// One thing that keeps a provider from being Ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One of the closed list.
    pub reason: Reason,
    /// What is wrong, and the cure.
    pub message: String,
}

/// Keys that the credentials Secret of a type must have.
pub fn credential_keys(type_: ProviderType) -> &'static [&'static str] {
    match type_ {
        ProviderType::Proxmox => &["url", "token", "secret"],
        ProviderType::Docker | ProviderType::Aws => &[],
    }
}

/// Everything that keeps a provider from being Ready; empty also while the credentials are not known yet.
pub fn troubles(provider: &InfraProvider, credentials: &Observed<SecretFacts>) -> Vec<Trouble> {
    let name = provider.metadata.name.as_deref().unwrap_or_default();
    let mut troubles = Vec::new();
    let mut add = |reason, message| troubles.push(Trouble { reason, message });
    if provider.metadata.deletion_timestamp.is_some() {
        add(
            Reason::ProviderNotReady,
            format!("InfraProvider {name} is being deleted: create it again under another name"),
        );
    }
    if provider.spec.type_ == ProviderType::Aws {
        add(Reason::NotYetSupported, format!("InfraProvider {name}: type aws is not supported by this version"));
    }
    let keys = credential_keys(provider.spec.type_);
    let Some(reference) = &provider.spec.credentials_secret_ref else {
        if !keys.is_empty() {
            let message = format!(
                "InfraProvider {name} names no credentials: set spec.credentialsSecretRef to a Secret with {}",
                keys.join(", ")
            );
            add(Reason::CredentialsNotFound, message);
        }
        return troubles;
    };
    let secret = format!("Secret {}/{}", reference.namespace, reference.name);
    match credentials {
        Observed::Absent => {
            let with = if keys.is_empty() { String::new() } else { format!(" with the keys {}", keys.join(", ")) };
            add(
                Reason::CredentialsNotFound,
                format!("{secret} of InfraProvider {name} does not exist: create it{with}"),
            );
        }
        Observed::Known(facts) => {
            let missing: Vec<&str> = keys.iter().copied().filter(|key| !facts.keys.contains(*key)).collect();
            if !missing.is_empty() {
                let message = format!("{secret} of InfraProvider {name} lacks {}: add to it", missing.join(", "));
                add(Reason::CredentialsInvalid, message);
            }
            for problem in &facts.problems {
                add(Reason::CredentialsInvalid, format!("{secret} of InfraProvider {name}: {problem}"));
            }
        }
        Observed::Unknown => {}
    }
    troubles
}

/// What is said of values that nothing uses yet.
fn unused(provider: &InfraProvider) -> &'static str {
    let proxmox = provider.spec.defaults.as_ref().and_then(|defaults| defaults.proxmox.as_ref());
    if proxmox.is_some_and(|defaults| defaults.load_balancer_pool.is_some()) {
        "; defaults.proxmox.loadBalancerPool is not supported by this version and not used"
    } else {
        ""
    }
}

/// The status of a provider. `None` while too little is known to say anything.
pub fn status(
    provider: &Arc<InfraProvider>,
    credentials: &Observed<SecretFacts>,
    clusters: u32,
    now: Timestamp,
) -> Option<InfraProviderStatus> {
    let needed = provider.spec.credentials_secret_ref.is_some();
    if needed && credentials.is_unknown() {
        return None;
    }
    let stored = provider.status.clone().unwrap_or_default();
    let generation = provider.metadata.generation;
    let mut conditions = Conditions::from_stored(&stored.conditions);
    let troubles = troubles(provider, credentials);
    let message = if troubles.is_empty() {
        let checked =
            if needed { "; credentials are present and well-formed, not tried against the provider" } else { "" };
        format!("clusters can be made on it{checked}{}", unused(provider))
    } else {
        troubles.iter().map(|trouble| trouble.message.clone()).collect::<Vec<_>>().join("; ")
    };
    let (phase, status, reason) = match troubles.first() {
        None => (ProviderPhase::Ready, ConditionStatus::True, Reason::AsExpected),
        Some(first) => (ProviderPhase::NotReady, ConditionStatus::False, first.reason),
    };
    conditions.set(READY, status, reason, message.clone(), generation, now);
    let about_credentials = |reason| matches!(reason, Reason::CredentialsNotFound | Reason::CredentialsInvalid);
    let about_credentials: Vec<_> = troubles.iter().filter(|trouble| about_credentials(trouble.reason)).collect();
    match about_credentials.first() {
        Some(first) => {
            conditions.set(CREDENTIALS_VALID, ConditionStatus::False, first.reason, &*first.message, generation, now);
        }
        None if needed => conditions.set(
            CREDENTIALS_VALID,
            ConditionStatus::True,
            Reason::CredentialsWellFormed,
            "present and well-formed; not tried against the provider",
            generation,
            now,
        ),
        None => {
            conditions.set(
                CREDENTIALS_VALID,
                ConditionStatus::True,
                Reason::AsExpected,
                "none needed",
                generation,
                now,
            );
        }
    }
    Some(InfraProviderStatus {
        phase: Some(phase),
        message: Some(message),
        observed_generation: generation,
        conditions: conditions.into_stored(),
        clusters: Some(clusters),
    })
}
