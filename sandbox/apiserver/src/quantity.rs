//! Resource quantities in the form in which the API keeps them.

/// Suffixes of powers of 1000, from 10^-9 up in steps of 3.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes of powers of 1024, from 2^0 up in steps of 10.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// One, in the unit that amounts are counted in here (10^-9).
const ONE: i128 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// Reads a quantity and writes it in its canonical form; `None` where it is none.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let (amount, format) = parse(text)?;
    Some(write(amount, format))
}

/// Reads a quantity in units of 10^-9.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    parse(text).map(|(amount, _)| amount)
}

/// Adds quantities; the sum is written as the first that is not zero.
pub(crate) fn sum<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let mut total: i128 = 0;
    let mut format = None;
    for (amount, own) in all.into_iter().filter_map(parse).filter(|(amount, _)| *amount != 0) {
        format.get_or_insert(own);
        total = total.saturating_add(amount);
    }
    write(total, format.unwrap_or(Format::Decimal))
}

fn write(amount: i128, format: Format) -> String {
    match format {
        Format::Binary => binary(amount).unwrap_or_else(|| decimal(amount, false)),
        Format::Decimal => decimal(amount, false),
        Format::Exponent => decimal(amount, true),
    }
}

fn parse(text: &str) -> Option<(i128, Format)> {
    let digits_end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || !(whole.to_owned() + fraction).bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (multiplier, divider, format) = scale(suffix)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let scaled = mantissa.checked_mul(multiplier)?.checked_mul(ONE / divider.min(ONE))?;
    let amount = scaled / places + i128::from(scaled % places != 0);
    Some((if negative { -amount } else { amount }, format))
}

fn scale(suffix: &str) -> Option<(i128, i128, Format)> {
    if let Some(index) = BINARY.iter().position(|known| *known == suffix).filter(|index| *index > 0) {
        return Some((1i128 << (10 * index), 1, Format::Binary));
    }
    if let Some(index) = DECIMAL.iter().position(|known| *known == suffix) {
        let power = |n: usize| 10i128.pow(u32::try_from(n * 3).unwrap_or(0));
        return Some(if index >= 3 {
            (power(index - 3), 1, Format::Decimal)
        } else {
            (1, power(3 - index), Format::Decimal)
        });
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent >= 0 { (power, 1, Format::Exponent) } else { (1, power, Format::Exponent) })
}

fn binary(amount: i128) -> Option<String> {
    if amount % ONE != 0 || amount.abs() < 1024 * ONE {
        return (amount % ONE == 0).then(|| (amount / ONE).to_string());
    }
    let mut whole = amount / ONE;
    let mut index = 0;
    while whole % 1024 == 0 && index + 1 < BINARY.len() {
        whole /= 1024;
        index += 1;
    }
    Some(format!("{whole}{}", BINARY[index]))
}

fn decimal(amount: i128, exponent: bool) -> String {
    if amount == 0 {
        return "0".to_owned();
    }
    let (mut whole, mut index) = (amount, 0);
    while whole % 1000 == 0 && index + 1 < DECIMAL.len() {
        whole /= 1000;
        index += 1;
    }
    let power = i64::try_from(index).unwrap_or(0) * 3 - 9;
    match (exponent, power) {
        (true, 0) | (false, _) => format!("{whole}{}", DECIMAL[index]),
        (true, power) => format!("{whole}e{power}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_one_form() {
        let cases = [
            ("0.5Gi", "512Mi"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("2", "2"),
            ("4Gi", "4Gi"),
            ("1024Mi", "1Gi"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("100", "100"),
            ("1500m", "1500m"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
        ];
        for (text, form) in cases {
            assert_eq!(canonical(text).as_deref(), Some(form), "{text}");
        }
        assert_eq!(canonical("much"), None);
    }

    #[test]
    fn a_sum_is_written_as_its_first_part() {
        for (parts, wanted) in [
            (&["500m", "1"][..], "1500m"),
            (&["1Gi", "1000000"], "1074741824"),
            (&["", "0", "512Mi", "512Mi"], "1Gi"),
            (&[], "0"),
        ] {
            assert_eq!(sum(parts.iter().copied()), wanted, "{parts:?}");
        }
    }
}
