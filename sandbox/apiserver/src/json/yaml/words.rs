//! What is wrong with a document, in the words and with the lines that clients know.
//!
//! The API's servers say the line from zero where a document has the wrong form, and from one where its text has; the
//! first line is not said at all.

use granit_parser::{ErrorKind, ScanError};

/// Tells characters that no document may have.
pub(super) fn is_forbidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Returns the line after one that is not empty, or that after the last.
pub(super) fn next_line(text: &str, line: usize) -> usize {
    let blank = |line: &&str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    };
    line + 1 + text.lines().skip(line).take_while(blank).count()
}

/// Says that the text of a line is wrong.
pub(super) fn text_of(line: usize, why: &str) -> String {
    if line <= 1 { format!("yaml: {why}") } else { format!("yaml: line {line}: {why}") }
}

/// Says that the form of a line is wrong.
pub(super) fn form_of(line: usize, why: &str) -> String {
    if line <= 1 { format!("yaml: {why}") } else { format!("yaml: line {}: {why}", line - 1) }
}

/// Finds the words for an error; `open` is the line at which the innermost list or map begins, if there is one.
pub(super) fn of(text: &str, error: &ScanError, open: Option<usize>) -> String {
    let line = error.marker().line();
    // The end of a document is on a line of its own, that of a text only where the last one is ended.
    let (end, text_end) = (text.lines().count() + 1, text.matches('\n').count() + 1);
    let before = text.char_indices().nth(error.marker().index()).map_or(text, |(at, _)| &text[..at]).trim_end();
    match error.kind() {
        ErrorKind::UnclosedQuotedScalar => text_of(text_end, "found unexpected end of stream"),
        ErrorKind::UnclosedFlowCollection { .. } if text.trim_end().ends_with(['[', '{', ',', ':']) => {
            form_of(end, "did not find expected node content")
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            let close = if *open == '{' { '}' } else { ']' };
            form_of(end, &format!("did not find expected ',' or '{close}'"))
        }
        ErrorKind::TabInPlainScalar => {
            let tab = text.lines().skip(line).position(|line| line.trim_start_matches(' ').starts_with('\t'));
            text_of(line + 1 + tab.unwrap_or(0), "found a tab character that violates indentation")
        }
        ErrorKind::TabInBlockIndentation | ErrorKind::UnexpectedCharacter { .. } => {
            text_of(line, "found character that cannot start any token")
        }
        ErrorKind::SimpleKeyExpected => text_of(next_line(text, line), "could not find expected ':'"),
        ErrorKind::UnknownAnchor => {
            let rest = text.get(before.len()..).unwrap_or_default().trim_start().trim_start_matches('*');
            let name = rest.split(|c: char| c.is_whitespace() || ",]}".contains(c)).next().unwrap_or_default();
            format!("yaml: unknown anchor '{name}' referenced")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            let why =
                if open.is_some() { "did not find expected key" } else { "did not find expected <document start>" };
            form_of(line, why)
        }
        ErrorKind::MisplacedFlowCollectionEnd if before.is_empty() || before.ends_with([':', '-']) => {
            form_of(line, "did not find expected node content")
        }
        ErrorKind::MisplacedFlowCollectionEnd => form_of(line, "did not find expected key"),
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::ExpectedNodeContent
        | ErrorKind::ExpectedDocumentStart => form_of(line, &problem(error)),
        _ => text_of(line, &problem(error)),
    }
}

/// Returns what an error says, without where it was found.
fn problem(error: &ScanError) -> String {
    let said = error.info();
    match said.split_once(", ") {
        Some((first, rest)) if first.starts_with("while ") => rest.to_owned(),
        _ => said,
    }
}
