//! Expressions that are about requests: of webhooks and policies.

use serde_json::Value;

use super::types;

/// Compiles an expression that may name some values of unknown types, and `variables` where there are any. Answers its
/// type where that can be told before it is evaluated.
///
/// # Errors
/// What is wrong with it, as the real compiler writes it.
pub(crate) fn compile_request(
    text: &str,
    known: &[&str],
    variables: Option<&Value>,
) -> Result<Option<&'static str>, String> {
    types::compile_over(text, known, variables)
}
