//! What `kubeadm init` and `kubeadm join` read of their configuration, and the objects that `init` leaves.

use k8s_openapi::api::core::v1::Taint;
use serde_json::{Value, json};

/// The part of kubeadm's configuration that matters to a simulated machine.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Config {
    /// The whole ClusterConfiguration, as it goes into `kubeadm-config`.
    pub(crate) cluster: Option<Value>,
    /// `nodeRegistration`.
    pub(crate) node: Registration,
    /// Id and secret of the bootstrap token that a machine joins with.
    pub(crate) token: Option<(String, String)>,
    /// Whether a joining machine becomes part of the control plane.
    pub(crate) control_plane: bool,
}

/// How the kubelet registers.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Registration {
    pub(crate) name: Option<String>,
    pub(crate) provider_id: Option<String>,
    /// `None`: kubeadm's own default for the role.
    pub(crate) taints: Option<Vec<Taint>>,
    pub(crate) labels: Vec<(String, String)>,
}

/// Reads the documents of a `--config` file.
pub(crate) fn parse(text: &str) -> Result<Config, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| format!("the configuration is no YAML: {}", error.without_snippet()))?;
    let mut config = Config::default();
    for document in documents {
        match document["kind"].as_str() {
            Some("ClusterConfiguration") => config.cluster = Some(document),
            Some("InitConfiguration") => config.node = registration(&document["nodeRegistration"])?,
            Some("JoinConfiguration") => {
                config.node = registration(&document["nodeRegistration"])?;
                config.control_plane = !document["controlPlane"].is_null();
                let token = document.pointer("/discovery/bootstrapToken/token").and_then(Value::as_str);
                config.token =
                    token.and_then(|token| token.split_once('.')).map(|(id, secret)| (id.into(), secret.into()));
            }
            _ => {}
        }
    }
    Ok(config)
}

fn registration(value: &Value) -> Result<Registration, String> {
    let mut out = Registration { name: value["name"].as_str().map(str::to_owned), ..Registration::default() };
    if let Some(taints) = value.get("taints").filter(|taints| taints.is_array()) {
        let taints = serde_json::from_value(taints.clone());
        out.taints = Some(taints.map_err(|error| format!("nodeRegistration.taints: {error}"))?);
    }
    for argument in value["kubeletExtraArgs"].as_array().into_iter().flatten() {
        // The shell that starts the kubelet takes quotes away.
        let text = argument["value"].as_str().unwrap_or_default().replace(['\'', '"'], "");
        match argument["name"].as_str() {
            Some("provider-id") => out.provider_id = Some(text),
            Some("node-labels") => {
                let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                out.labels.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
            }
            _ => {}
        }
    }
    Ok(out)
}

/// ConfigMaps that `kubeadm init` leaves in `kube-system` and `kube-public`: namespace, name, data.
pub(crate) fn config_maps(config: &Config, kubeconfig: &str) -> Vec<(&'static str, &'static str, Value)> {
    let cluster = config.cluster.clone().unwrap_or_else(|| json!({}));
    let yaml = serde_saphyr::to_string(&cluster).unwrap_or_default();
    vec![
        ("kube-system", "kubeadm-config", json!({"ClusterConfiguration": yaml})),
        (
            "kube-system",
            "kubelet-config",
            json!({"kubelet": "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"}),
        ),
        ("kube-public", "cluster-info", json!({"kubeconfig": without_user(kubeconfig)})),
    ]
}

/// A kubeconfig with its server and authority only.
fn without_user(kubeconfig: &str) -> String {
    let Ok(value) = serde_saphyr::from_str::<Value>(kubeconfig) else { return String::new() };
    let public = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": value["clusters"], "contexts": [], "users": [],
        "current-context": "",
    });
    serde_saphyr::to_string(&public).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_configuration_is_read() {
        let config = parse(
            "---\nkind: JoinConfiguration\ncontrolPlane: {}\ndiscovery: {bootstrapToken: {token: abc.def}}\nnodeRegistration:\n  \
             taints: [{key: k, value: v, effect: NoExecute}]\n  kubeletExtraArgs:\n  - {name: provider-id, value: \"proxmox://'1-2'\"}\n  \
             - {name: node-labels, value: 'a=b,c=d'}\n",
        )
        .unwrap();
        assert_eq!(config.token, Some(("abc".to_owned(), "def".to_owned())));
        assert!(config.control_plane);
        assert_eq!(config.node.provider_id.as_deref(), Some("proxmox://1-2"));
        assert_eq!(config.node.taints.as_ref().unwrap()[0].key, "k");
        assert_eq!(config.node.labels[1], ("c".to_owned(), "d".to_owned()));
    }

    #[test]
    fn cluster_info_has_no_credentials() {
        let kubeconfig = "clusters: [{name: a, cluster: {server: s}}]\nusers: [{name: u, user: {token: topsecret}}]\n";
        let maps = config_maps(&Config::default(), kubeconfig);
        assert!(!maps[2].2.to_string().contains("topsecret"));
        assert!(maps[2].2.to_string().contains("server"));
    }
}
