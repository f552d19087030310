//! Words of a command line: long options with `=` or a following word, short ones alone, joined or with a value.

use super::Failure;

/// Walks over words.
pub(super) struct Words<'a> {
    left: std::slice::Iter<'a, String>,
    /// Value after `=` of the option that was read last.
    attached: Option<&'a str>,
    /// Short options that stand in one word and were not read yet.
    joined: &'a str,
}

/// One thing on a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// `--name`, without the dashes.
    Long(&'a str),
    /// One letter after a single dash.
    Short(char),
    /// Anything else.
    Plain(&'a str),
}

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [String]) -> Self {
        Self { left: words.iter(), attached: None, joined: "" }
    }

    /// The next option or word.
    pub(super) fn next(&mut self) -> Option<Word<'a>> {
        if let Some(letter) = self.joined.chars().next() {
            self.joined = &self.joined[letter.len_utf8()..];
            return Some(Word::Short(letter));
        }
        self.attached = None;
        let word = self.left.next()?.as_str();
        if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            return Some(match long.split_once('=') {
                Some((name, value)) => {
                    self.attached = Some(value);
                    Word::Long(name)
                }
                None => Word::Long(long),
            });
        }
        match word.strip_prefix('-').filter(|short| !short.is_empty()) {
            Some(short) => {
                self.joined = short;
                self.next()
            }
            None => Some(Word::Plain(word)),
        }
    }

    /// The value of the option that was just read.
    pub(super) fn value(&mut self, option: &str) -> Result<&'a str, Failure> {
        if let Some(value) = self.attached.take() {
            return Ok(value);
        }
        if !self.joined.is_empty() {
            return Ok(std::mem::take(&mut self.joined));
        }
        let missing = || Failure::new(2, format!("option {option} needs a value"));
        self.left.next().map(String::as_str).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_be_joined_or_carry_their_value() {
        let words: Vec<String> =
            ["-fsS", "--max-time", "5", "--cacert=/a", "-ofile", "-H", "x: y", "-", "url"].map(str::to_owned).into();
        let mut words = Words::new(&words);
        assert_eq!(words.next(), Some(Word::Short('f')));
        assert_eq!(words.next(), Some(Word::Short('s')));
        assert_eq!(words.next(), Some(Word::Short('S')));
        assert_eq!(words.next(), Some(Word::Long("max-time")));
        assert_eq!(words.value("--max-time").ok(), Some("5"));
        assert_eq!(words.next(), Some(Word::Long("cacert")));
        assert_eq!(words.value("--cacert").ok(), Some("/a"));
        assert_eq!(words.next(), Some(Word::Short('o')));
        assert_eq!(words.value("-o").ok(), Some("file"));
        assert_eq!(words.next(), Some(Word::Short('H')));
        assert_eq!(words.value("-H").ok(), Some("x: y"));
        assert_eq!(words.next(), Some(Word::Plain("-")));
        assert_eq!(words.next(), Some(Word::Plain("url")));
        assert_eq!(words.next(), None);
    }
}
