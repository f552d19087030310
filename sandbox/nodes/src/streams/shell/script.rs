//! From text to commands and words.

use super::Surroundings;

/// How a pipe of commands hangs on the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joint {
    /// `;` or the end of a line.
    Then,
    /// `&&`
    And,
    /// `||`
    Or,
}

/// Commands that are joined by `|`, each as its words.
pub(crate) type Pipe = Vec<Vec<String>>;

/// What splits a script.
enum Cut {
    Pipe(Joint),
    Command,
    Word,
}

/// Splits a script; quotes keep words together, and what stands in single quotes or behind `\` is not expanded later.
pub(crate) fn parse(script: &str) -> Vec<(Joint, Pipe)> {
    let mut all: Vec<(Joint, Pipe)> = vec![(Joint::Then, vec![Vec::new()])];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = script.chars().peekable();
    while let Some(letter) = letters.next() {
        let cut = match (letter, quote) {
            (letter, Some(open)) if letter == open => {
                quote = None;
                continue;
            }
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
                continue;
            }
            ('\\', None | Some('"')) => {
                let next = letters.next().unwrap_or_default();
                keep(word.get_or_insert_default(), next);
                continue;
            }
            ('$', Some('\'')) => {
                keep(word.get_or_insert_default(), letter);
                continue;
            }
            ('#', None) if word.is_none() => {
                while letters.next_if(|letter| *letter != '\n').is_some() {}
                continue;
            }
            (';' | '\n', None) => Some(Cut::Pipe(Joint::Then)),
            ('&', None) if letters.next_if_eq(&'&').is_some() => Some(Cut::Pipe(Joint::And)),
            ('|', None) if letters.next_if_eq(&'|').is_some() => Some(Cut::Pipe(Joint::Or)),
            ('|', None) => Some(Cut::Command),
            (' ' | '\t', None) => Some(Cut::Word),
            _ => None,
        };
        let Some(cut) = cut else {
            word.get_or_insert_default().push(letter);
            continue;
        };
        finish(&mut all, &mut word);
        match cut {
            Cut::Pipe(joint) => all.push((joint, vec![Vec::new()])),
            Cut::Command => all.iter_mut().last().into_iter().for_each(|(_, pipe)| pipe.push(Vec::new())),
            Cut::Word => {}
        }
    }
    finish(&mut all, &mut word);
    all.retain(|(_, pipe)| pipe.iter().any(|words| !words.is_empty()));
    all
}

/// Stands for a dollar that is only a dollar.
const DOLLAR: char = '\u{f8f0}';

fn keep(word: &mut String, letter: char) {
    word.push(if letter == '$' { DOLLAR } else { letter });
}

fn finish(all: &mut [(Joint, Pipe)], word: &mut Option<String>) {
    let last = all.last_mut().and_then(|(_, pipe)| pipe.last_mut());
    if let (Some(words), Some(word)) = (last, word.take()) {
        words.push(word);
    }
}

/// Puts the values of variables in.
pub(super) fn expand(word: &str, surroundings: &Surroundings, code: i32) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let after = after.strip_prefix('{').unwrap_or(after);
        if let Some(tail) = after.strip_prefix('?') {
            out.push_str(&code.to_string());
            rest = tail;
            continue;
        }
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let (name, tail) = after.split_at(end);
        if name.is_empty() {
            out.push('$');
        }
        out.push_str(surroundings.env.get(name).map_or("", String::as_str));
        rest = tail.strip_prefix('}').unwrap_or(tail);
    }
    out.push_str(rest);
    out.replace(DOLLAR, "$")
}
