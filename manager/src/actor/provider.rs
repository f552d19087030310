//! Keeps the status of InfraProviders, and lets go of those that no cluster uses.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use lattice_protocol::clock;
use tokio_util::sync::CancellationToken;

use super::crew::Crew;
use super::facts;
use crate::api::{FINALIZER_IN_USE, InfraProvider};
use crate::lifecycle::provider::status;
use crate::watch::Attention;

/// Pause after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Looks at providers as they are marked, until `stop`.
pub async fn follow(crew: Arc<Crew>, providers: Attention, stop: CancellationToken) {
    loop {
        let names = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            names = providers.take() => names,
        };
        let mut failed = Vec::new();
        for name in names {
            if let Some(provider) = crew.performer.cache.provider(&name)
                && let Err(error) = look(&crew, &provider).await
            {
                tracing::warn!(provider = name, error = &error as &dyn std::error::Error, "provider was not updated");
                failed.push(name);
            }
        }
        if !failed.is_empty() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
            for name in failed {
                providers.mark(&name);
            }
        }
    }
}

async fn look(crew: &Crew, provider: &Arc<InfraProvider>) -> Result<(), crate::perform::Error> {
    let performer = &crew.performer;
    let name = provider.name_any();
    let users = performer.cache.clusters().iter().filter(|cluster| cluster.spec.provider_ref == name).count();
    let credentials = facts::credentials(&performer.cache, Some(provider));
    let count = u32::try_from(users).unwrap_or(u32::MAX);
    if let Some(status) = status(provider, &credentials, count, clock::now()) {
        performer.write_provider_status(provider, &status).await?;
    }
    // A cluster whose object was taken away without us leaves its hold behind.
    let held = provider.finalizers().iter().any(|finalizer| finalizer == FINALIZER_IN_USE);
    if held && users == 0 {
        performer.set_provider_finalizers(provider, false).await?;
    }
    Ok(())
}
