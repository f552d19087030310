//! `/clusters/<name>/<path of the Kubernetes API>`.

use http::Uri;
use http::uri::PathAndQuery;
use lattice_protocol::ids::ClusterName;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) cluster: ClusterName,
    /// As the child's API server gets it, query included. Opaque to us: nothing in it is resolved or decoded.
    pub(super) path_and_query: PathAndQuery,
}

/// Takes a URI apart; none for anything else.
pub(super) fn target(uri: &Uri) -> Option<Target> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/clusters/")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (name, tail) = rest.split_at(end);
    let cluster = name.parse().ok()?;
    let path_and_query = match tail.as_bytes().first() {
        None => PathAndQuery::from_static("/"),
        Some(b'?') => format!("/{tail}").parse().ok()?,
        Some(_) => tail.parse().ok()?,
    };
    Some(Target { cluster, path_and_query })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn leads(uri: &str, expected: Option<(&str, &str)>) {
        let found = target(&uri.parse().unwrap());
        let found = found.as_ref().map(|target| (target.cluster.as_str(), target.path_and_query.as_str()));
        assert_eq!(found, expected, "{uri}");
    }

    #[test]
    fn the_prefix_goes_and_the_rest_stays_as_it_was() {
        leads("/clusters/backend/api/v1/nodes?limit=500", Some(("backend", "/api/v1/nodes?limit=500")));
        leads("/clusters/backend/?timeout=5s", Some(("backend", "/?timeout=5s")));
        leads("/clusters/backend?timeout=5s", Some(("backend", "/?timeout=5s")));
        leads("/clusters/backend", Some(("backend", "/")));
        leads("https://parent:6443/clusters/backend/version", Some(("backend", "/version")));
        leads("/clusters/a/../b/api", Some(("a", "/../b/api")));
        leads("/clusters/a//api%2f..", Some(("a", "//api%2f..")));
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for uri in ["/", "/clusters", "/clusters/", "/clusters//api", "/clusters/A/api", "/clusters/a%2fb/api", "/api"]
        {
            leads(uri, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_on_is_a_tail_of_what_came(path in "/clusters/[a-z0-9.%?/-]{0,40}") {
            if let Ok(uri) = path.parse::<Uri>()
                && let Some(target) = target(&uri)
            {
                let tail = target.path_and_query.as_str();
                prop_assert!(tail.starts_with('/'));
                prop_assert!(path.ends_with(tail) || path.ends_with(&tail[1..]));
            }
        }
    }
}
