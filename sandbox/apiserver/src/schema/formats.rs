//! Formats of texts that schemas may ask for. Unknown ones are ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use base64::Engine as _;
use regex::Regex;

/// Tells whether a text has a format; `None` where nobody knows the format.
pub(crate) fn check(format: &str, text: &str) -> Option<bool> {
    Some(match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(ip, bits)| cidr(ip, bits)),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid(format, text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok() && !text.is_empty(),
        "duration" => duration(text).is_some(),
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains(|c| c != '@')),
        "hostname" => matches(
            &HOSTNAME,
            r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
            text,
        ),
        "mac" => matches(&MAC, r"^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$", text),
        "uri" => text.contains(':') && http::Uri::try_from(text).is_ok(),
        "isbn" | "isbn10" | "isbn13" => isbn(format, text),
        "hexcolor" => matches(&HEXCOLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", text),
        "rgbcolor" => matches(
            &RGBCOLOR,
            r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
            text,
        ),
        "creditcard" => card(text),
        "ssn" => matches(&SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "k8s-short-name" => crate::names::is_label(text),
        "k8s-long-name" => crate::names::is_subdomain(text),
        _ => return None,
    })
}

static HOSTNAME: OnceLock<Option<Regex>> = OnceLock::new();
static MAC: OnceLock<Option<Regex>> = OnceLock::new();
static HEXCOLOR: OnceLock<Option<Regex>> = OnceLock::new();
static RGBCOLOR: OnceLock<Option<Regex>> = OnceLock::new();
static SSN: OnceLock<Option<Regex>> = OnceLock::new();

fn matches(cell: &OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    cell.get_or_init(|| Regex::new(pattern).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
}

/// Checks the number of a book by its last digit.
fn isbn(format: &str, text: &str) -> bool {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| if matches!(c, 'X' | 'x') { Some(10) } else { c.to_digit(10) })
        .collect::<Option<_>>()
        .unwrap_or_default();
    let sum = |weight: fn(u32) -> u32| (0u32..).zip(&digits).map(|(place, digit)| weight(place) * digit).sum::<u32>();
    match digits.len() {
        10 if format != "isbn13" => sum(|place| 10 - place) % 11 == 0,
        13 if format != "isbn10" => sum(|place| if place % 2 == 0 { 1 } else { 3 }) % 10 == 0,
        _ => false,
    }
}

/// Checks the number of a card by its digits' sum.
fn card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ' '));
    let doubled = |(place, digit): (usize, &u32)| match (place % 2, digit * 2) {
        (0, _) => *digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    plain && (12..=19).contains(&digits.len()) && digits.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

fn cidr(ip: &str, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u8>() else { return false };
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => bits <= 32,
        Ok(IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

fn uuid(format: &str, text: &str) -> bool {
    let Ok(parsed) = uuid::Uuid::try_parse(text) else { return false };
    match format {
        "uuid3" => parsed.get_version_num() == 3,
        "uuid4" => parsed.get_version_num() == 4,
        "uuid5" => parsed.get_version_num() == 5,
        _ => true,
    }
}

/// Says what is wrong with a text that is no duration.
pub(crate) fn bad_duration(text: &str) -> String {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let unit = rest.trim_start_matches(is_number);
        let number = &rest[..rest.len() - unit.len()];
        if !number.bytes().any(|byte| byte.is_ascii_digit()) || number.matches('.').count() > 1 {
            break;
        }
        let length = unit.find(is_number).unwrap_or(unit.len());
        match &unit[..length] {
            "" => return format!("missing unit in duration {text:?}"),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = &unit[length..],
            other => return format!("unknown unit {other:?} in duration {text:?}"),
        }
    }
    format!("invalid duration {text:?}")
}

/// Reads a duration as Go writes them (`1h30m`), in seconds.
pub(crate) fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit_len] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += value * scale;
        rest = &rest[unit_len..];
    }
    Some(sign * total)
}
