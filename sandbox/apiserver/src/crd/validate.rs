//! Whether a definition may be stored.

use serde_json::Value;

use crate::core::Core;
use crate::field::FieldError;

/// Checks a definition.
pub(crate) fn check(_core: &Core, _object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    Vec::new()
}
