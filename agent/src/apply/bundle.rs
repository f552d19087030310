//! What a parent wants a component to be, and whether a request for it is taken. Pure.

use std::collections::HashSet;

use lattice_protocol::telemetry::Traceparent;
use lattice_protocol::v1::{ApplyRequest, apply_response::Outcome};

use super::object::{Malformed, Object};
use super::stage;

/// Most objects of one bundle.
pub const OBJECTS_MAX: usize = 2_000;

/// Most bytes of all objects of one bundle.
pub const OBJECTS_BYTES_MAX: usize = 4 << 20;

/// Longest name of a component, characters: it becomes part of object names and field managers.
const NAME_CHARS_MAX: usize = 63;

/// Why a bundle is refused whatever is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The component's name is no DNS label.
    #[error("{0:?} is no component name: use 1 to {NAME_CHARS_MAX} lower-case letters, digits and '-'")]
    Name(String),
    /// Too many objects.
    #[error("{0} objects are more than {OBJECTS_MAX}")]
    TooMany(usize),
    /// Too many bytes.
    #[error("{0} bytes of objects are more than {OBJECTS_BYTES_MAX}")]
    TooLarge(usize),
    /// An object is malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Two objects have one name.
    #[error("{0} is in the bundle twice")]
    Twice(String),
}

/// What is held of a component, as far as a request is compared with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Digest of the bundle.
    pub digest: String,
    /// Its number.
    pub revision: u64,
    /// Ownership epoch that it was decided under.
    pub epoch: u64,
    /// It is being removed.
    pub removing: bool,
}

/// Decides about a request.
pub fn decide(held: Option<&Held>, request: &ApplyRequest) -> (Outcome, String) {
    let none = String::new();
    let Some(held) = held else {
        return if request.objects.is_empty() { (Outcome::NeedObjects, none) } else { (Outcome::Accepted, none) };
    };
    if request.epoch < held.epoch {
        return (Outcome::Stale, format!("epoch {} is older than {}", request.epoch, held.epoch));
    }
    if request.digest == held.digest && !held.removing {
        return (Outcome::Unchanged, none);
    }
    if request.revision < held.revision && request.epoch == held.epoch {
        return (Outcome::Stale, format!("revision {} is older than {}", request.revision, held.revision));
    }
    if request.objects.is_empty() { (Outcome::NeedObjects, none) } else { (Outcome::Accepted, none) }
}

/// A bundle as the agent works with it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The request, without its objects.
    pub head: ApplyRequest,
    /// Its objects, in the order in which they are applied.
    pub objects: Vec<Object>,
    /// The parent's span, which installs the component.
    pub traceparent: Option<Traceparent>,
}

impl Bundle {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn read(mut request: ApplyRequest, traceparent: Option<Traceparent>) -> Result<Self, Refused> {
        check_name(&request.component)?;
        let bytes = request.objects.iter().map(bytes::Bytes::len).sum();
        if request.objects.len() > OBJECTS_MAX {
            return Err(Refused::TooMany(request.objects.len()));
        }
        if bytes > OBJECTS_BYTES_MAX {
            return Err(Refused::TooLarge(bytes));
        }
        let texts = std::mem::take(&mut request.objects);
        let mut objects: Vec<_> =
            texts.into_iter().enumerate().map(|(place, text)| Object::read(place, text)).collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        for object in &objects {
            if !seen.insert(object.key.identity()) {
                return Err(Refused::Twice(object.key.to_string()));
            }
        }
        stage::order(&mut objects);
        Ok(Self { head: request, objects, traceparent })
    }
}

/// Checks a component's name.
///
/// # Errors
/// [`Refused::Name`].
pub fn check_name(name: &str) -> Result<(), Refused> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let ok = !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if ok { Ok(()) } else { Err(Refused::Name(name.chars().take(NAME_CHARS_MAX).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(digest: &str, revision: u64, epoch: u64, objects: usize) -> ApplyRequest {
        let object = bytes::Bytes::from_static(b"{}");
        ApplyRequest {
            digest: digest.to_owned(),
            revision,
            epoch,
            objects: vec![object; objects],
            ..Default::default()
        }
    }

    #[track_caller]
    fn decides(held: impl Into<Option<Held>>, request: ApplyRequest, expected: Outcome) {
        assert_eq!(decide(held.into().as_ref(), &request).0, expected);
    }

    fn held(removing: bool) -> Held {
        Held { digest: "a".to_owned(), revision: 5, epoch: 2, removing }
    }

    #[test]
    fn requests_are_compared_with_what_is_held() {
        decides(None, request("a", 1, 0, 0), Outcome::NeedObjects);
        decides(None, request("a", 1, 0, 1), Outcome::Accepted);
        decides(held(false), request("a", 5, 2, 0), Outcome::Unchanged);
        decides(held(false), request("a", 1, 2, 1), Outcome::Unchanged);
        decides(held(false), request("b", 6, 2, 0), Outcome::NeedObjects);
        decides(held(false), request("b", 6, 2, 1), Outcome::Accepted);
        decides(held(false), request("b", 4, 2, 1), Outcome::Stale);
        decides(held(false), request("a", 9, 1, 1), Outcome::Stale);
        decides(held(false), request("b", 1, 3, 1), Outcome::Accepted);
        decides(held(true), request("a", 5, 2, 0), Outcome::NeedObjects);
        decides(held(true), request("a", 5, 2, 1), Outcome::Accepted);
    }

    #[test]
    fn bundles_that_cannot_be_right_are_refused() {
        let named = |component: &str, objects: &[&str]| ApplyRequest {
            component: component.to_owned(),
            objects: objects.iter().map(|text| bytes::Bytes::from((*text).to_owned())).collect(),
            ..Default::default()
        };
        let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"b"}}"#;
        assert!(Bundle::read(named("cilium", &[map]), None).is_ok());
        assert!(matches!(Bundle::read(named("Cilium", &[map]), None), Err(Refused::Name(_))));
        assert!(matches!(Bundle::read(named("cilium", &[map, map]), None), Err(Refused::Twice(_))));
        assert!(matches!(Bundle::read(named("cilium", &[map, "{}"]), None), Err(Refused::Malformed(_))));
        assert!(matches!(Bundle::read(named("cilium", &vec![map; 2_001]), None), Err(Refused::TooMany(_))));
    }
}
