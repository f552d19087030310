//! What goes when a bundle changes or a component is removed. Pure.

use std::collections::{BTreeSet, HashSet};

use super::object::{Key, Object};
use super::stage;

/// What a removal may take with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// CRDs too, and with them every object of their kinds.
    pub crds: bool,
}

/// Inventory minus desired, in the order in which it goes; what is protected stays.
pub fn leftovers(inventory: &BTreeSet<Key>, desired: &[Object]) -> Vec<Key> {
    let wanted: HashSet<_> = desired.iter().map(|object| object.key.identity()).collect();
    let mut gone: Vec<Key> = inventory
        .iter()
        .filter(|key| !wanted.contains(&key.identity()) && !is_protected(key, Told::default()))
        .cloned()
        .collect();
    stage::removal_order(&mut gone);
    gone
}

/// Everything of a component, in the order in which it goes; what is protected stays.
pub fn all(inventory: &BTreeSet<Key>, told: Told) -> Vec<Key> {
    let mut gone: Vec<Key> = inventory.iter().filter(|key| !is_protected(key, told)).cloned().collect();
    stage::removal_order(&mut gone);
    gone
}

/// Whether an object holds what people made: it is not ours to take.
fn is_protected(key: &Key, told: Told) -> bool {
    let claim = key.group.is_empty() && key.kind == "PersistentVolumeClaim";
    stage::is_namespace(key) || claim || (stage::is_crd(key) && !told.crds)
}

/// The inventory to record before a new bundle is applied: a superset, so that nothing is forgotten if we die halfway.
pub fn superset(inventory: &BTreeSet<Key>, desired: &[Object]) -> BTreeSet<Key> {
    inventory.iter().cloned().chain(desired.iter().map(|object| object.key.clone())).collect()
}

/// The inventory to record once a bundle is applied and leftovers are gone: what is desired, and what was protected.
pub fn settled(inventory: &BTreeSet<Key>, desired: &[Object], gone: &[Key]) -> BTreeSet<Key> {
    let gone: HashSet<_> = gone.iter().map(Key::identity).collect();
    let wanted: HashSet<_> = desired.iter().map(|object| object.key.identity()).collect();
    let kept = inventory
        .iter()
        // The same object under another API version is the desired one.
        .filter(|key| !gone.contains(&key.identity()) && !wanted.contains(&key.identity()));
    kept.cloned().chain(desired.iter().map(|object| object.key.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        let parts: Vec<_> = text.split('/').collect();
        let group = match parts[0] {
            "CustomResourceDefinition" => "apiextensions.k8s.io",
            "Deployment" => "apps",
            _ => "",
        };
        Key {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: parts[0].to_owned(),
            namespace: String::new(),
            name: parts[1].to_owned(),
        }
    }

    fn keys(texts: &[&str]) -> BTreeSet<Key> {
        texts.iter().map(|text| key(text)).collect()
    }

    fn objects(texts: &[&str]) -> Vec<Object> {
        texts.iter().map(|text| Object::named(key(text))).collect()
    }

    const HELD: [&str; 5] =
        ["Namespace/a", "CustomResourceDefinition/a", "PersistentVolumeClaim/a", "Deployment/a", "ConfigMap/a"];

    #[test]
    fn only_what_is_ours_and_no_longer_wanted_goes() {
        let gone = leftovers(&keys(&HELD), &objects(&["Deployment/a", "Deployment/b"]));
        assert_eq!(gone, [key("ConfigMap/a")]);
    }

    #[test]
    fn removal_takes_crds_last_and_only_when_told() {
        assert_eq!(all(&keys(&HELD), Told::default()), [key("Deployment/a"), key("ConfigMap/a")]);
        let told = all(&keys(&HELD), Told { crds: true });
        assert_eq!(told.last(), Some(&key("CustomResourceDefinition/a")));
        assert!(!told.contains(&key("Namespace/a")) && !told.contains(&key("PersistentVolumeClaim/a")));
    }

    #[test]
    fn inventory_never_forgets_what_may_exist() {
        let held = keys(&["ConfigMap/a", "Namespace/a"]);
        let next = objects(&["ConfigMap/b"]);
        assert_eq!(superset(&held, &next), keys(&["ConfigMap/a", "Namespace/a", "ConfigMap/b"]));
        let gone = leftovers(&held, &next);
        assert_eq!(settled(&held, &next, &gone), keys(&["Namespace/a", "ConfigMap/b"]));
    }

    #[test]
    fn another_api_version_is_the_same_object() {
        let mut old = key("Deployment/a");
        old.version = "v1beta1".to_owned();
        let held = BTreeSet::from([old]);
        let next = objects(&["Deployment/a"]);
        assert!(leftovers(&held, &next).is_empty());
        assert_eq!(settled(&held, &next, &[]), keys(&["Deployment/a"]));
    }
}
