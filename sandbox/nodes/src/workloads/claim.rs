//! Whose an object is: owners adopt what matches their selector and has no owner, and release what
//! matches it no longer.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;

use crate::meta;
use crate::op::{CONTROLLERS, Object, Op, Plan};

/// Splits objects into those that the owner controls and has, and the writes that change hands.
pub(crate) fn split<'a, O, K>(
    owner: &O,
    selector: Option<&LabelSelector>,
    objects: impl Iterator<Item = &'a Arc<K>>,
) -> (Vec<Arc<K>>, Vec<Op>)
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()> + Clone + 'a,
    Object: From<K>,
{
    let uid = meta::uid(owner.meta());
    let leaves = owner.meta().deletion_timestamp.is_some();
    let (mut owned, mut writes) = (Vec::new(), Vec::new());
    for object in objects.filter(|object| object.meta().namespace == owner.meta().namespace) {
        let meta = object.meta();
        let matches = selector.is_some_and(|selector| meta::selects(selector, meta.labels.as_ref()));
        let going = leaves || meta.deletion_timestamp.is_some();
        if meta::controlled_by(meta, uid) {
            if matches || going {
                owned.push(Arc::clone(object));
            } else {
                let mut free = K::clone(object);
                let owners = free.meta_mut().owner_references.get_or_insert_default();
                owners.retain(|reference| reference.uid != uid);
                writes.push(Op::Replace(Object::from(free)));
            }
        } else if matches && !going && meta::controller_of(meta).is_none() {
            let mut adopted = K::clone(object);
            adopted.meta_mut().owner_references.get_or_insert_default().push(meta::owner_reference(owner));
            writes.push(Op::Replace(Object::from(adopted)));
        }
    }
    (owned, writes)
}

/// The plan that only changes hands; the owner is looked at again when that is seen.
pub(crate) fn plan(writes: Vec<Op>) -> Plan {
    Plan { ops: writes, ..Plan::new(CONTROLLERS) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::testing::{object, pod};

    #[test]
    fn orphans_are_adopted_strangers_left_alone_and_the_relabelled_released() {
        let selector: LabelSelector = object(json!({"matchLabels": {"app": "web"}}));
        let set = |uid: &str| -> ReplicaSet {
            object(json!({"metadata": {"name": uid, "namespace": "n", "uid": uid}, "spec": {"selector": {}}}))
        };
        let (mine, other) = (set("mine"), set("other"));
        let labelled = |mut pod: Pod, app: &str| {
            pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
            Arc::new(pod)
        };
        let mut orphan = pod(&mine, "orphan", true);
        orphan.metadata.owner_references = None;
        let pods = [
            labelled(pod(&mine, "kept", true), "web"),
            labelled(pod(&mine, "relabelled", true), "debug"),
            labelled(pod(&other, "foreign", true), "web"),
            labelled(orphan, "web"),
        ];
        let (owned, writes) = split(&mine, Some(&selector), pods.iter());
        assert_eq!(owned.len(), 1);
        let owners: Vec<(&str, usize)> = writes
            .iter()
            .map(|op| match op {
                Op::Replace(object) => {
                    let meta = object.meta();
                    (meta::name(meta), meta.owner_references.as_ref().map_or(0, Vec::len))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(owners, [("relabelled", 0), ("orphan", 1)]);
    }
}
