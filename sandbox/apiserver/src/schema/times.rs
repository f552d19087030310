//! Why a text is no time, as clients written in Go know it.

/// Says what is wrong with a text that is no time of a format (RFC 3339, with or without a fraction).
pub(super) fn wrong(text: &str, format: &str) -> String {
    // Numbers by their place in the format, with their bounds, and what stands between them.
    const STEPS: [(&str, u32, u32, &str); 6] = [
        ("2006", 0, 9999, "-"),
        ("01", 1, 12, "-"),
        ("02", 0, 99, "T"),
        ("15", 0, 23, ":"),
        ("04", 0, 59, ":"),
        ("05", 0, 59, ""),
    ];
    const NAMES: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    let cannot =
        |rest: &str, part: &str| format!("parsing time {text:?} as {format:?}: cannot parse {rest:?} as {part:?}");
    let mut rest = text;
    for ((part, least, most, between), name) in STEPS.into_iter().zip(NAMES) {
        let number = rest.get(..part.len()).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let Some(number) = number else { return cannot(rest, part) };
        let value: u32 = number.parse().unwrap_or(0);
        if value < least || value > most {
            return format!("parsing time {text:?}: {name} out of range");
        }
        rest = &rest[part.len()..];
        match rest.strip_prefix(between) {
            Some(left) => rest = left,
            None => return cannot(rest, between),
        }
    }
    let fraction = rest.strip_prefix('.').map_or(0, |digits| digits.bytes().take_while(u8::is_ascii_digit).count());
    let zone = if fraction > 0 { &rest[fraction + 1..] } else { rest };
    let offset = |zone: &str| {
        let bytes = zone.as_bytes();
        bytes.len() >= 6 && matches!(bytes[0], b'+' | b'-') && bytes[3] == b':'
    };
    match zone.strip_prefix('Z') {
        Some("") => format!("parsing time {text:?}: day out of range"),
        Some(extra) => format!("parsing time {text:?}: extra text: {extra:?}"),
        None if offset(zone) => format!("parsing time {text:?}: day out of range"),
        None => cannot(zone, "Z07:00"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_fails_is_named() {
        let format = "2006-01-02T15:04:05Z07:00";
        let cases = [
            ("yesterday", "cannot parse \"yesterday\" as \"2006\""),
            ("2026-01-01", "cannot parse \"\" as \"T\""),
            ("2026-1-01T00:00:00Z", "cannot parse \"1-01T00:00:00Z\" as \"01\""),
            ("2026-01-01 00:00:00Z", "cannot parse \" 00:00:00Z\" as \"T\""),
            ("2026-01-01T00:00:00", "cannot parse \"\" as \"Z07:00\""),
            ("2026-13-01T00:00:00Z", "month out of range"),
            ("2026-02-30T00:00:00Z", "day out of range"),
            ("2026-01-01T00:00:00Zx", "extra text: \"x\""),
        ];
        for (text, why) in cases {
            assert!(wrong(text, format).ends_with(why), "{text}: {}", wrong(text, format));
        }
    }
}
