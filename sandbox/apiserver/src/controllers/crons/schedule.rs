//! Schedules as CronJobs write them: five fields, or a name for a usual one.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// How far ahead a time is looked for: every schedule that ever comes does so within a leap year's cycle.
const HORIZON_DAYS: i64 = 366 * 5;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something is to happen.
#[derive(Debug)]
pub(super) struct Schedule {
    when: When,
    zone: TimeZone,
}

#[derive(Debug)]
enum When {
    Every(SignedDuration),
    Fields { minutes: u64, hours: u64, days: Field, months: u64, weekdays: Field },
}

/// Which numbers a field names, and whether it named all of them by a star.
#[derive(Clone, Copy, Debug)]
struct Field {
    bits: u64,
    star: bool,
}

impl Schedule {
    /// Reads a schedule; `None` for one that cannot be read, or whose zone is not known.
    pub(super) fn parse(text: &str, zone: Option<&str>) -> Option<Self> {
        let (text, zone) = match text.split_once(' ') {
            Some((own, rest)) if own.starts_with("TZ=") || own.starts_with("CRON_TZ=") => {
                (rest.trim(), own.split_once('=').map(|(_, zone)| zone))
            }
            _ => (text.trim(), zone),
        };
        let zone = match zone {
            Some(name) => TimeZone::get(name).ok()?,
            None => TimeZone::UTC,
        };
        let usual = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if let Some(every) = usual.strip_prefix("@every ") {
            let every: SignedDuration = every.trim().parse().ok()?;
            let every = SignedDuration::from_secs(every.as_secs().max(1));
            return Some(Self { when: When::Every(every), zone });
        }
        let fields: Vec<&str> = usual.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return None };
        let when = When::Fields {
            minutes: field(minutes, 0, 59, &[])?.bits,
            hours: field(hours, 0, 23, &[])?.bits,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?.bits,
            weekdays: field(weekdays, 0, 6, &DAYS)?,
        };
        Some(Self { when, zone })
    }

    /// Returns the first time after `after`; `None` if it never comes.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let When::Fields { minutes, hours, .. } = &self.when else {
            let When::Every(every) = &self.when else { return None };
            return Timestamp::from_second(after.as_second()).ok()?.checked_add(*every).ok();
        };
        let start = self.zone.to_datetime(after).checked_add(1.minute()).ok()?.with().second(0).subsec_nanosecond(0);
        let start = start.build().ok()?;
        let mut day = start.date();
        for _ in 0..HORIZON_DAYS {
            if self.has_day(day.to_datetime(jiff::civil::Time::midnight())) {
                let times = (0i8..24).filter(|hour| hours & (1 << hour) != 0).flat_map(|hour| {
                    (0i8..60).filter(|minute| minutes & (1 << minute) != 0).map(move |minute| (hour, minute))
                });
                for (hour, minute) in times {
                    let at = day.at(hour, minute, 0, 0);
                    // A time that a change of clocks leaves out does not come.
                    let known = self.zone.to_ambiguous_timestamp(at).compatible().ok();
                    if let Some(known) = known.filter(|known| at >= start && *known > after) {
                        return Some(known);
                    }
                }
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// Days of the month and of the week: where both are named, either will do.
    fn has_day(&self, at: DateTime) -> bool {
        let When::Fields { days, months, weekdays, .. } = &self.when else { return false };
        let has = |bits: u64, number: i8| bits & (1 << number) != 0;
        let of_month = has(days.bits, at.day());
        let of_week = has(weekdays.bits, at.weekday().to_sunday_zero_offset());
        let fits = if days.star || weekdays.star { of_month && of_week } else { of_month || of_week };
        has(*months, at.month()) && fits
    }
}

/// Reads one field: numbers, names, ranges and steps, separated by commas.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Option<Field> {
    let number = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
        match named {
            Some(index) => u32::try_from(index).ok().map(|index| index + least),
            None => text.parse::<u32>().ok(),
        }
    };
    let mut out = Field { bits: 0, star: false };
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (low, high) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => {
                out.star |= step.is_none_or(|step| step == 1);
                (least, most)
            }
            Some((low, high)) => (number(low)?, number(high)?),
            None if step.is_some() => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if low < least || high > most || low > high {
            return None;
        }
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        out.bits |= (low..=high).step_by(step).fold(0u64, |bits, number| bits | (1 << number));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: &str, zone: Option<&str>, after: &str, wanted: Option<&str>) {
        let next = Schedule::parse(schedule, zone).unwrap().next(after.parse().unwrap());
        assert_eq!(next.map(|at| at.to_string()).as_deref(), wanted, "{schedule} after {after}");
    }

    #[test]
    fn the_next_time_is_found() {
        check("*/5 * * * *", None, "2026-01-01T00:03:20Z", Some("2026-01-01T00:05:00Z"));
        check("0 0 * * *", None, "2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z"));
        check("30 8 1 * *", None, "2026-01-15T00:00:00Z", Some("2026-02-01T08:30:00Z"));
        check("0 12 * * mon-fri", None, "2026-01-02T13:00:00Z", Some("2026-01-05T12:00:00Z"));
        check("0 0 13 * fri", None, "2026-01-03T00:00:00Z", Some("2026-01-09T00:00:00Z"));
        check("0 0 29 2 *", None, "2026-01-01T00:00:00Z", Some("2028-02-29T00:00:00Z"));
        check("0 0 31 2 *", None, "2026-01-01T00:00:00Z", None);
        check("@hourly", None, "2026-01-01T00:30:00Z", Some("2026-01-01T01:00:00Z"));
        check("@every 90s", None, "2026-01-01T00:00:00Z", Some("2026-01-01T00:01:30Z"));
        check("5-20/5,50 * * * *", None, "2026-01-01T00:20:00Z", Some("2026-01-01T00:50:00Z"));
    }

    #[test]
    fn a_schedule_keeps_to_its_zone() {
        check("0 9 * * *", Some("Etc/GMT-2"), "2026-01-01T00:00:00Z", Some("2026-01-01T07:00:00Z"));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in ["", "* * * *", "60 * * * *", "* * 0 * *", "* * * * 7-9", "*/0 * * * *", "@never", "5-1 * * * *"] {
            assert!(Schedule::parse(bad, None).is_none(), "{bad}");
        }
        assert!(Schedule::parse("* * * * *", Some("Nowhere/City")).is_none());
    }
}
