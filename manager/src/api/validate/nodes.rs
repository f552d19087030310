//! The machines: counts, names, sizes.

use super::Errors;
use crate::api::Reason;
use crate::api::cluster::LatticeClusterSpec;
use crate::api::nodes::{InstanceType, WorkerPool};

/// Longest name of a pool: it is part of the names of its objects.
const POOL_NAME_CHARS_MAX: usize = 20;

/// Name that the control plane's objects use.
const POOL_NAME_RESERVED: &str = "cp";

pub(super) fn check(spec: &LatticeClusterSpec, errors: &mut Errors) {
    let nodes = &spec.nodes;
    let replicas = nodes.control_plane.replicas;
    if replicas.is_multiple_of(2) || replicas > 7 {
        errors.add(
            "spec.nodes.controlPlane.replicas",
            Reason::InvalidSpec,
            format!("{replicas} gives etcd no better quorum than {}: use 1, 3, 5 or 7", replicas.clamp(2, 8) - 1),
        );
    }
    let sizes = spec.provider.config.proxmox.is_some();
    instance_type("spec.nodes.controlPlane.instanceType", nodes.control_plane.instance_type.as_ref(), sizes, errors);
    for (name, pool) in &nodes.worker_pools {
        let path = format!("spec.nodes.workerPools.{name}");
        pool_name(&path, name, errors);
        pool_counts(&path, pool, errors);
        instance_type(&format!("{path}.instanceType"), pool.instance_type.as_ref(), sizes, errors);
    }
}

fn pool_name(path: &str, name: &str, errors: &mut Errors) {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    let label = bytes.iter().all(|c| edge(*c) || *c == b'-')
        && bytes.first().is_some_and(|c| edge(*c))
        && bytes.last().is_some_and(|c| edge(*c))
        && bytes.len() <= POOL_NAME_CHARS_MAX;
    if !label {
        errors.add(
            path,
            Reason::InvalidSpec,
            format!("name the pool with 1 to {POOL_NAME_CHARS_MAX} lower-case letters, digits and '-', beginning and ending with a letter or digit"),
        );
    }
    if name == POOL_NAME_RESERVED {
        errors.add(path, Reason::InvalidSpec, "the control plane's objects are named so: choose another name");
    }
}

fn pool_counts(path: &str, pool: &WorkerPool, errors: &mut Errors) {
    match (pool.replicas, pool.min, pool.max) {
        (Some(_), None, None) => {}
        (None, Some(min), Some(max)) if min <= max => {}
        (None, Some(min), Some(max)) => {
            errors.add(
                format!("{path}.min"),
                Reason::InvalidSpec,
                format!("{min} is greater than max {max}: lower min or raise max"),
            );
        }
        (None, _, _) => errors.add(
            format!("{path}.replicas"),
            Reason::InvalidSpec,
            "missing: set replicas, or both min and max to hand the count to the cluster autoscaler",
        ),
        (Some(_), _, _) => errors.add(
            format!("{path}.replicas"),
            Reason::InvalidSpec,
            "set together with min or max: keep replicas, or keep both min and max",
        ),
    }
}

fn instance_type(path: &str, instance_type: Option<&InstanceType>, sizes: bool, errors: &mut Errors) {
    let Some(given) = instance_type else {
        if sizes {
            errors.add(
                path,
                Reason::InvalidSpec,
                "missing: provider proxmox makes machines by size; set cores, memoryGib and diskGib",
            );
        }
        return;
    };
    let parts = [given.cores, given.memory_gib, given.disk_gib];
    let (some, all) = (parts.iter().any(Option::is_some), parts.iter().all(Option::is_some));
    match &given.name {
        Some(_) if some => {
            errors.add(path, Reason::InvalidSpec, "holds a name and a size: set either name, or all of cores, memoryGib and diskGib");
        }
        Some(name) if sizes => errors.add(
            format!("{path}.name"),
            Reason::InvalidSpec,
            format!("provider proxmox has no machine types, so {name:?} says nothing to it: set cores, memoryGib and diskGib instead"),
        ),
        None if !all => {
            errors.add(path, Reason::InvalidSpec, "incomplete: set all of cores, memoryGib and diskGib, or name alone");
        }
        Some(_) | None => {}
    }
}
