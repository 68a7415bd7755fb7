//! Time as Istio's logs write it.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-08-20T10:00:00.123456Z`, always UTC with microseconds.
pub(crate) fn write_time(out: &mut String, time: SystemTime) -> fmt::Result {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        since.subsec_micros()
    )
}

/// `2026-08-20T10:00:00.123Z`, as Envoy's access log has it.
pub(crate) fn write_time_millis(out: &mut String, time: SystemTime) -> fmt::Result {
    write_time(out, time)?;
    // Three digits of six, and the Z.
    out.truncate(out.len() - 4);
    out.push('Z');
    Ok(())
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that the leap day is the last one.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// `2026-08-20T10:00:00Z`.
pub fn write_rfc3339(time: SystemTime) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_time(&mut text, time);
    text.truncate("2026-08-20T10:00:00".len());
    text.push('Z');
    text
}

/// A JSON string with its quotes.
pub(crate) fn write_json_string(out: &mut String, text: &str) -> fmt::Result {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}

#[cfg(test)]
mod tests;
