//! The four certificate Secrets of a control plane.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::super::kind::Kind;
use super::super::object::{CLUSTER_LABEL, Look as _, owner};
use super::super::plan::Step;

/// Which Secrets, and the common name of the certificate in each.
const SECRETS: [(&str, &str); 4] =
    [("ca", "kubernetes"), ("sa", "kubernetes-service-accounts"), ("proxy", "front-proxy-ca"), ("etcd", "etcd-ca")];

/// Steps that make the Secrets `<cluster>-ca` and so on.
pub(super) fn secrets(plane: &DynamicObject, cluster: &DynamicObject) -> Vec<Step> {
    let one = |(suffix, common): &(&str, &str)| {
        let (certificate, key) = authority(common)?;
        let data = [("tls.crt", certificate), ("tls.key", key)];
        let owner = serde_json::from_value(owner(Kind::ControlPlane, plane, true)).ok()?;
        Some(Step::CreateSecret(Box::new(Secret {
            metadata: kube::api::ObjectMeta {
                name: Some(format!("{}-{suffix}", cluster.name())),
                namespace: Some(plane.namespace().to_owned()),
                labels: Some(BTreeMap::from([(CLUSTER_LABEL.to_owned(), cluster.name().to_owned())])),
                owner_references: Some(vec![owner]),
                ..Default::default()
            },
            data: Some(data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).into()),
            type_: Some("cluster.x-k8s.io/secret".to_owned()),
            ..Default::default()
        })))
    };
    SECRETS.iter().filter_map(one).collect()
}

fn authority(common: &str) -> Option<(String, String)> {
    let key = KeyPair::generate().ok()?;
    let mut params = CertificateParams::new(Vec::<String>::new()).ok()?;
    params.distinguished_name.push(DnType::CommonName, common);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).ok()?;
    Some((certificate.pem(), key.serialize_pem()))
}
