//! How two texts differ, line by line, with the lines around.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Lines that are shown before and behind a change.
const CONTEXT: usize = 3;
/// From how many lines on those that are very common are no anchors.
const LONG: usize = 200;

/// Lines that are the same in both texts: where they begin in each, and how many.
type Block = (usize, usize, usize);

/// Writes how two texts differ.
pub(super) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in groups(&changes(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let before = first.0.min(CONTEXT);
        let after = (old.len() - last.1).min(CONTEXT);
        let (start_old, end_old) = (first.0 - before, last.1 + after);
        let (start_new, end_new) = (first.2 - before, last.3 + after);
        let _ = writeln!(out, "@@ -{} +{} @@", range(start_old, end_old), range(start_new, end_new));
        let mut here = start_old;
        for (from, to, new_from, new_to) in group {
            said(' ', &old[here..from], &mut out);
            said('-', &old[from..to], &mut out);
            said('+', &new[new_from..new_to], &mut out);
            here = to;
        }
        said(' ', &old[here..end_old], &mut out);
    }
    out
}

fn said(mark: char, lines: &[&str], out: &mut String) {
    for line in lines {
        let _ = writeln!(out, "{mark}{line}");
    }
}

fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => format!("{}", start + 1),
        0 => format!("{start},0"),
        count => format!("{},{count}", start + 1),
    }
}

/// Puts changes together that are so near that their surroundings meet.
fn groups(changes: &[(usize, usize, usize, usize)]) -> Vec<Vec<(usize, usize, usize, usize)>> {
    let mut out: Vec<Vec<(usize, usize, usize, usize)>> = Vec::new();
    for change in changes {
        match out.last_mut() {
            Some(group) if group.last().is_some_and(|last| change.0 - last.1 <= 2 * CONTEXT) => group.push(*change),
            _ => out.push(vec![*change]),
        }
    }
    out
}

/// Finds what stands between the blocks that are the same.
fn changes(old: &[&str], new: &[&str]) -> Vec<(usize, usize, usize, usize)> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(index);
    }
    if new.len() >= LONG {
        places.retain(|_, found| found.len() <= new.len() / 100 + 1);
    }
    let mut blocks = Vec::new();
    let mut open = vec![(0, old.len(), 0, new.len())];
    while let Some((old_from, old_to, new_from, new_to)) = open.pop() {
        let (i, j, size) = longest(old, new, &places, (old_from, old_to, new_from, new_to));
        if size > 0 {
            blocks.push((i, j, size));
            open.push((old_from, i, new_from, j));
            open.push((i + size, old_to, j + size, new_to));
        }
    }
    blocks.sort_unstable();
    blocks.push((old.len(), new.len(), 0));
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    for (at, other, size) in blocks {
        if i < at || j < other {
            out.push((i, at, j, other));
        }
        (i, j) = (at + size, other + size);
    }
    out
}

/// Finds the longest block within a window; the earliest of several.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (old_from, old_to, new_from, new_to): (usize, usize, usize, usize),
) -> Block {
    let (mut i, mut j, mut size) = (old_from, new_from, 0);
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for (at, line) in old.iter().enumerate().take(old_to).skip(old_from) {
        let mut next = HashMap::new();
        for &other in places.get(line).into_iter().flatten().filter(|other| (new_from..new_to).contains(*other)) {
            let length = other.checked_sub(1).and_then(|before| lengths.get(&before)).copied().unwrap_or(0) + 1;
            next.insert(other, length);
            if length > size {
                (i, j, size) = (at + 1 - length, other + 1 - length, length);
            }
        }
        lengths = next;
    }
    // Common lines are no anchors, but belong to a block beside one.
    while i > old_from && j > new_from && old[i - 1] == new[j - 1] {
        (i, j, size) = (i - 1, j - 1, size + 1);
    }
    while i + size < old_to && j + size < new_to && old[i + size] == new[j + size] {
        size += 1;
    }
    (i, j, size)
}
