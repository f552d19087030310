//! Quantities as Go holds them.

use std::fmt::Write;

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// The parts of a quantity, and the text that is kept beside them.
struct Parts<'a> {
    value: i128,
    scale: i32,
    text: &'a str,
    format: &'static str,
}

/// Prints a quantity; numbers beyond 15 digits, which Go holds in another way, are printed as the others.
pub(super) fn print(out: &mut impl Write, text: Option<&str>) -> std::fmt::Result {
    let Parts { value, scale, text, format } =
        text.and_then(read).unwrap_or(Parts { value: 0, scale: 0, text: "", format: "" });
    write!(
        out,
        "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} \
         d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} s:(string){text} Format:(resource.Format){format}}}"
    )
}

fn read(text: &str) -> Option<Parts<'_>> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.trim_start_matches('+')),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let sign = if negative { -1 } else { 1 };
    if let Some((_, power)) = BINARY.iter().find(|(known, _)| *known == suffix) {
        // As seen: the text of every eighth is not kept.
        let text = if digits % 8 == 0 { "" } else { text };
        return Some(Parts { value: sign * digits * (1 << power), scale: 0, text, format: "BinarySI" });
    }
    let (power, format) = match DECIMAL.iter().find(|(known, _)| *known == suffix) {
        Some((_, power)) => (*power, "DecimalSI"),
        None => (suffix.strip_prefix(['e', 'E'])?.parse().ok()?, "DecimalExponent"),
    };
    let scale = power - i32::try_from(fraction.len()).ok()?;
    Some(Parts { value: sign * digits, scale, text, format })
}
