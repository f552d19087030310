//! An error as a person at a terminal reads it.

use std::error::Error;

/// The error with its causes, in one line. A cause that repeats what was said is left out, and of an answer of the API
/// server its message is all that a person needs.
pub fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let answer = message(cause);
        next = cause.source().filter(|_| answer.is_none());
        let said = answer.unwrap_or_else(|| cause.to_string());
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
    }
    text
}

/// What the API server said, if the cause is its answer.
fn message(cause: &(dyn Error + 'static)) -> Option<String> {
    let boxed = cause.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match boxed.or_else(|| cause.downcast_ref())? {
        kube::Error::Api(status) => Some(status.message.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Failed {
        words: &'static str,
        source: Box<dyn Error + Send + Sync>,
    }

    #[test]
    fn a_cause_is_said_once_and_an_answer_by_its_message() {
        let missing: Box<dyn Error + Send + Sync> = "No such file".into();
        let reading = Failed { words: "cannot read a: No such file", source: missing };
        let error = Failed { words: "which parent?", source: Box::new(reading) };
        assert_eq!(in_words(&error), "which parent?: cannot read a: No such file");

        let message = "latticeclusters is forbidden";
        let status: Box<kube::core::Status> = serde_json::from_value(serde_json::json!({
            "status": "Failure", "message": message, "reason": "Forbidden", "code": 403,
        }))
        .unwrap();
        let error = Failed { words: "could not ask", source: Box::new(kube::Error::Api(status)) };
        assert_eq!(in_words(&error), format!("could not ask: {message}"));
    }
}
