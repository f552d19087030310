//! What a bare API server needs before a manager or an agent can work with it.

use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};

/// Makes a parent of it: the CRDs, and what [`make_namespace`] makes.
///
/// # Errors
/// The API server's words.
pub async fn make_parent(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in lattice_manager::api::crds() {
        crds.create(&PostParams::default(), &crd).await?;
    }
    make_namespace(client).await
}

/// Makes the namespace of Lattice's own things, unless it is there.
///
/// # Errors
/// The API server's words.
pub async fn make_namespace(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt(lattice_manager::api::SYSTEM_NAMESPACE).await?.is_none() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(lattice_manager::api::SYSTEM_NAMESPACE.to_owned());
        namespaces.create(&PostParams::default(), &namespace).await?;
    }
    Ok(())
}
