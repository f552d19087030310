//! Trace context in gRPC metadata and HTTP headers (W3C Trace Context).

use http::{HeaderMap, HeaderValue};
use tonic::metadata::MetadataMap;

use super::traceparent::Traceparent;

/// The header, in gRPC metadata and HTTP alike.
const TRACEPARENT: &str = "traceparent";

/// Writes the current span, or `otherwise` where none is recorded, into a request's metadata.
pub fn inject(metadata: &mut MetadataMap, otherwise: Option<&Traceparent>) {
    inject_headers(metadata.as_mut(), otherwise);
}

/// Reads the caller's span from a request's metadata.
pub fn extract(metadata: &MetadataMap) -> Option<Traceparent> {
    extract_headers(metadata.as_ref())
}

/// Writes the current span, or `otherwise` where none is recorded, into HTTP headers.
pub fn inject_headers(headers: &mut HeaderMap, otherwise: Option<&Traceparent>) {
    let at = Traceparent::current().or_else(|| otherwise.copied());
    if let Some(value) = at.and_then(|at| HeaderValue::try_from(at.to_string()).ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Reads the caller's span from HTTP headers; one that is malformed counts as none.
pub fn extract_headers(headers: &HeaderMap) -> Option<Traceparent> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_survives_the_metadata() {
        let at = Traceparent::new_root();
        let mut metadata = MetadataMap::new();
        inject(&mut metadata, Some(&at));
        assert_eq!(extract(&metadata), Some(at));
    }

    #[test]
    fn a_malformed_header_counts_as_none() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static("00-zz"));
        assert_eq!(extract_headers(&headers), None);
    }
}
