//! The provider: exactly one, of the type that the InfraProvider has, with values it can use.

use std::net::Ipv4Addr;

use super::Errors;
use crate::api::Reason;
use crate::api::cluster::LatticeClusterSpec;
use crate::api::defaults::Resolved;
use crate::api::provider::{InfraProvider, ProviderType};
use crate::api::version::SUPPORTED_MINORS;

const CONFIG: &str = "spec.provider.config";

pub(super) fn check(spec: &LatticeClusterSpec, provider: Option<&InfraProvider>, errors: &mut Errors) {
    let types = spec.provider.config.types();
    match types.as_slice() {
        [one] => matches_provider(*one, provider, errors),
        [] => errors.add(CONFIG, Reason::InvalidSpec, "empty: set exactly one of docker, proxmox, aws"),
        several => {
            let names: Vec<&str> = several.iter().map(|t| t.as_str()).collect();
            errors.add(
                CONFIG,
                Reason::InvalidSpec,
                format!(
                    "holds {}: keep the one that matches the InfraProvider's type and remove the others",
                    names.join(" and ")
                ),
            );
        }
    }
    if let Some(proxmox) = &spec.provider.config.proxmox {
        let path = |field: &str| format!("{CONFIG}.proxmox.{field}");
        errors.take(&path("ipv4Pool.gateway"), ipv4(&proxmox.ipv4_pool.gateway));
        for (at, server) in proxmox.dns_servers.iter().enumerate() {
            if server.parse::<std::net::IpAddr>().is_err() {
                errors.add(
                    path(&format!("dnsServers[{at}]")),
                    Reason::InvalidSpec,
                    format!("{server:?} is no IP address"),
                );
            }
        }
        if proxmox.storage.is_some() && proxmox.full == Some(false) {
            errors.add(
                path("full"),
                Reason::InvalidSpec,
                "a linked clone cannot choose its storage: set full to true or remove storage",
            );
        }
    }
}

/// The version is in the matrix.
pub(super) fn version(resolved: &Resolved, errors: &mut Errors) {
    if !resolved.version.is_supported() {
        errors.add(
            "spec.provider.kubernetes.version",
            Reason::VersionNotSupported,
            format!(
                "{} is not in the version matrix: use 1.{}.x to 1.{}.x",
                resolved.version,
                SUPPORTED_MINORS.start(),
                SUPPORTED_MINORS.end()
            ),
        );
    }
}

fn matches_provider(given: ProviderType, provider: Option<&InfraProvider>, errors: &mut Errors) {
    let Some(provider) = provider else { return };
    let wanted = provider.spec.type_;
    if wanted != given {
        let name = provider.metadata.name.as_deref().unwrap_or_default();
        errors.add(
            CONFIG,
            Reason::ProviderMismatch,
            format!("holds {given}, but InfraProvider {name} is of type {wanted}: set {CONFIG}.{wanted}, or recreate the cluster with another providerRef"),
        );
    }
}

fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IPv4 address: write it as 10.0.1.1"))
}
