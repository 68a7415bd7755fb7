use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

fn at(seconds: u64, micros: u32) -> String {
    let mut text = String::new();
    write_time(
        &mut text,
        UNIX_EPOCH + Duration::new(seconds, micros * 1000),
    )
    .unwrap();
    text
}

#[test]
fn known_moments() {
    assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
    assert_eq!(at(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
    assert_eq!(at(1_767_225_599, 999_999), "2025-12-31T23:59:59.999999Z");
    assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
}

#[test]
fn seconds_only() {
    let time = UNIX_EPOCH + Duration::new(1_767_225_599, 5);
    assert_eq!(write_rfc3339(time), "2025-12-31T23:59:59Z");
}

#[test]
fn json_strings_are_escaped() {
    let mut text = String::new();
    write_json_string(&mut text, "a\"b\\c\nd\u{1}é").unwrap();
    assert_eq!(text, "\"a\\\"b\\\\c\\nd\\u0001é\"");
}

proptest! {
    /// Against the calendar's own definition: days add up, months have their length.
    #[test]
    fn each_day_follows_the_one_before(day in 0u64..200_000) {
        let (y, m, d) = civil(day);
        let leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
        let length = match m { 2 => 28 + u64::from(leap), 4 | 6 | 9 | 11 => 30, _ => 31 };
        prop_assert!((1..=12).contains(&m) && (1..=length).contains(&d));
        let expected = if d < length { (y, m, d + 1) } else if m < 12 { (y, m + 1, 1) } else { (y + 1, 1, 1) };
        prop_assert_eq!(civil(day + 1), expected);
    }
}
