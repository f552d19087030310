//! Bootstrap data: the cloud-config text of a machine, as the kubeadm bootstrap provider writes it.
//!
//! Order: certificates, kubeadm's configuration, the user's files; then the commands before kubeadm, kubeadm itself,
//! and the commands after it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

const INIT_CONFIG: &str = "/run/kubeadm/kubeadm.yaml";
const JOIN_CONFIG: &str = "/run/kubeadm/kubeadm-join-config.yaml";
const DONE: &str = "echo success > /run/cluster-api/bootstrap-success.complete";

/// What kubeadm does on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Init,
    JoinControlPlane,
    Join,
}

/// What the text is made of, before Secrets are resolved.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) role: Role,
    pub(crate) cluster: String,
    pub(crate) version: String,
    pub(crate) pods: String,
    pub(crate) services: String,
    pub(crate) domain: String,
    /// `spec` of the KubeadmConfig.
    pub(crate) spec: Value,
}

/// Contents of Secrets by name and key.
pub(crate) type Secrets = BTreeMap<String, BTreeMap<String, String>>;

/// Why no text could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("secret {0} does not exist")]
    NoSecret(String),
    #[error("secret {secret} has no key {key}")]
    NoKey { secret: String, key: String },
    #[error("file {0} has neither content nor contentFrom")]
    NoContent(String),
    #[error("the cloud-config could not be written as YAML")]
    Yaml,
}

/// Certificates of a control-plane machine: Secret suffix, key in it, path, permissions.
const CERTIFICATES: [(&str, &str, &str, &str); 8] = [
    ("ca", "tls.crt", "/etc/kubernetes/pki/ca.crt", "0640"),
    ("ca", "tls.key", "/etc/kubernetes/pki/ca.key", "0600"),
    ("etcd", "tls.crt", "/etc/kubernetes/pki/etcd/ca.crt", "0640"),
    ("etcd", "tls.key", "/etc/kubernetes/pki/etcd/ca.key", "0600"),
    ("proxy", "tls.crt", "/etc/kubernetes/pki/front-proxy-ca.crt", "0640"),
    ("proxy", "tls.key", "/etc/kubernetes/pki/front-proxy-ca.key", "0600"),
    ("sa", "tls.crt", "/etc/kubernetes/pki/sa.pub", "0640"),
    ("sa", "tls.key", "/etc/kubernetes/pki/sa.key", "0600"),
];

impl Input {
    /// Names of the Secrets that the text needs.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .files()
            .filter_map(|file| file.pointer("/contentFrom/secret/name")?.as_str().map(str::to_owned))
            .collect();
        if self.role != Role::Join {
            names.extend(["ca", "etcd", "proxy", "sa"].map(|suffix| format!("{}-{suffix}", self.cluster)));
        }
        names.sort();
        names.dedup();
        names
    }

    fn files(&self) -> impl Iterator<Item = &Value> {
        self.spec.get("files").and_then(Value::as_array).into_iter().flatten()
    }

    /// Writes the cloud-config.
    pub(crate) fn render(&self, secrets: &Secrets) -> Result<String, Error> {
        let mut files = Vec::new();
        if self.role != Role::Join {
            for (suffix, key, path, permissions) in CERTIFICATES {
                let content = lookup(secrets, &format!("{}-{suffix}", self.cluster), key)?;
                files.push(json!({"path": path, "owner": "root:root", "permissions": permissions, "content": content}));
            }
        }
        let (path, config) = self.kubeadm()?;
        files.push(json!({"path": path, "owner": "root:root", "permissions": "0640", "content": config}));
        files.push(json!({
            "path": "/run/cluster-api/placeholder", "owner": "root:root", "permissions": "0640",
            "content": "This placeholder file is used to create the /run/cluster-api sub directory in a way that is \
                        compatible with both Linux and Windows (mkdir -p /run/cluster-api does not work with Windows)",
        }));
        for file in self.files() {
            files.push(resolve(file, secrets)?);
        }
        let mut document = Map::new();
        for key in ["bootCommands", "users", "ntp"] {
            if let Some(value) = self.spec.get(key) {
                document.insert(if key == "bootCommands" { "bootcmd" } else { key }.to_owned(), value.clone());
            }
        }
        document.insert("write_files".to_owned(), files.into());
        document.insert("runcmd".to_owned(), self.commands().into());
        let yaml = serde_saphyr::to_string(&document).map_err(|_| Error::Yaml)?;
        Ok(format!("## template: jinja\n#cloud-config\n\n{yaml}"))
    }

    fn commands(&self) -> Vec<Value> {
        let list = |key: &str| self.spec.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut commands = list("preKubeadmCommands");
        let kubeadm = match self.role {
            Role::Init => format!("kubeadm init --config {INIT_CONFIG}  && {DONE}"),
            Role::Join | Role::JoinControlPlane => format!("kubeadm join --config {JOIN_CONFIG}  && {DONE}"),
        };
        commands.push(kubeadm.into());
        commands.extend(list("postKubeadmCommands"));
        commands
    }

    /// kubeadm's own configuration, and where it goes.
    fn kubeadm(&self) -> Result<(&'static str, String), Error> {
        let yaml = |value: &Value| serde_saphyr::to_string(value).map_err(|_| Error::Yaml);
        let part = |name: &str, kind: &str| {
            let mut value = json!({"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": kind});
            for (key, entry) in self.spec.get(name).and_then(Value::as_object).into_iter().flatten() {
                value[key] = entry.clone();
            }
            value
        };
        if self.role != Role::Init {
            return Ok((JOIN_CONFIG, format!("---\n{}", yaml(&part("joinConfiguration", "JoinConfiguration"))?)));
        }
        let mut cluster = part("clusterConfiguration", "ClusterConfiguration");
        cluster["clusterName"] = self.cluster.clone().into();
        cluster["kubernetesVersion"] = self.version.clone().into();
        cluster["networking"] = json!({
            "podSubnet": self.pods, "serviceSubnet": self.services, "dnsDomain": self.domain,
        });
        let init = part("initConfiguration", "InitConfiguration");
        Ok((INIT_CONFIG, format!("---\n{}\n---\n{}", yaml(&cluster)?, yaml(&init)?)))
    }
}

/// A file with the Secret's content in the place of the reference, verbatim.
fn resolve(file: &Value, secrets: &Secrets) -> Result<Value, Error> {
    let mut file = file.clone();
    let path = file.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = |pointer: &str| file.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let content = match (text("/contentFrom/secret/name"), text("/contentFrom/secret/key"), text("/content")) {
        (Some(secret), Some(key), _) => lookup(secrets, &secret, &key)?.to_owned(),
        (_, _, Some(content)) => content,
        _ => return Err(Error::NoContent(path)),
    };
    if let Some(file) = file.as_object_mut() {
        file.remove("contentFrom");
        file.remove("contentFormat");
    }
    file["content"] = content.into();
    Ok(file)
}

fn lookup<'a>(secrets: &'a Secrets, secret: &str, key: &str) -> Result<&'a str, Error> {
    let data = secrets.get(secret).ok_or_else(|| Error::NoSecret(secret.to_owned()))?;
    let value = data.get(key).ok_or_else(|| Error::NoKey { secret: secret.to_owned(), key: key.to_owned() })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(role: Role) -> Input {
        Input {
            role,
            cluster: "demo".to_owned(),
            version: "v1.34.0".to_owned(),
            pods: "10.244.0.0/16".to_owned(),
            services: "10.96.0.0/12".to_owned(),
            domain: "cluster.local".to_owned(),
            spec: json!({
                "files": [
                    {"path": "/etc/a", "contentFrom": {"secret": {"name": "s", "key": "k"}}},
                    {"path": "/etc/b", "encoding": "base64", "content": "aGk="},
                ],
                "preKubeadmCommands": ["echo before"],
                "postKubeadmCommands": ["/etc/after.sh"],
            }),
        }
    }

    fn parse(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn commands_come_in_order_around_kubeadm() {
        let secrets = Secrets::from([("s".to_owned(), BTreeMap::from([("k".to_owned(), "v: {{ x }}\n".to_owned())]))]);
        let text = input(Role::Join).render(&secrets).unwrap();
        assert!(text.starts_with("## template: jinja\n#cloud-config\n"));
        let value = parse(&text);
        assert_eq!(value["runcmd"][0], "echo before");
        assert!(value["runcmd"][1].as_str().unwrap().starts_with("kubeadm join --config /run/kubeadm/"));
        assert_eq!(value["runcmd"][2], "/etc/after.sh");
        let files = value["write_files"].as_array().unwrap();
        let at = |path: &str| files.iter().find(|file| file["path"] == path).unwrap();
        assert_eq!(at("/etc/a")["content"], "v: {{ x }}\n", "the Secret's content comes verbatim");
        assert_eq!(at("/etc/b")["encoding"], "base64");
    }

    #[test]
    fn a_missing_key_is_named() {
        let secrets = Secrets::from([("s".to_owned(), BTreeMap::new())]);
        let error = input(Role::Join).render(&secrets).unwrap_err();
        assert_eq!(error.to_string(), "secret s has no key k");
    }
}
