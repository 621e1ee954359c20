//! Quantities with units: "80ms", "100 Mbit/s", "2.5 MB", "0.1 %".
//!
//! Kind: time-free. A number alone says nothing about its unit, so one is always asked for, except
//! with shares. Prefixes are those of the standards: k, M, G, T are powers of 1000 and Ki, Mi, Gi,
//! Ti powers of 1024; a bit is an eighth of a byte. Case counts: "mbit/s" would be a thousandth of
//! a bit, so it is refused, not guessed at.

use std::time::Duration;

/// What a duration may look like.
pub const DURATION: &str = "a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h)";
/// What a duration of days may look like.
pub const DAYS: &str = "a duration such as \"30 days\" or \"36 h\" (days, weeks, or any shorter unit)";
/// What a rate may look like.
pub const RATE: &str =
    "a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti)";
/// What a size may look like.
pub const SIZE: &str = "a size such as \"2.5 MB\" or \"64 KiB\" (B with k, M, G, T or Ki, Mi, Gi, Ti)";

/// What a budget may look like.
pub const BUDGET: &str = "a budget such as \"5 Mbit/s\", \"2 MB/clock\" or \"$40/day\"";
/// What a price may look like.
pub const PRICE: &str = "a price such as \"$0.09/GB\"";

/// No setting is about longer times than this, and sums of a few of them stay far from overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// No setting is about more bytes (or bytes a second) than this: an exabyte.
const MOST_BYTES: f64 = 1e18;

/// Parses a duration.
pub fn duration(text: &str) -> Option<Duration> {
    // humantime 2.4 overflows on a sum such as "18446744073709551615s 1000ms"; nobody means numbers
    // that long, nor so many.
    const LONGEST_NUMBER: usize = 10;
    const LONGEST_TEXT: usize = 64;
    let text = text.trim();
    // To it, numbers may have spaces.
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut numbers = dense.split(|c: char| !c.is_ascii_digit());
    if text.len() > LONGEST_TEXT || numbers.any(|digits| digits.len() > LONGEST_NUMBER) {
        return None;
    }
    humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST)
}

/// Parses a duration that is a matter of days, as how long certificates live, for the command line.
///
/// # Errors
///
/// What is allowed, and what a number alone may have been meant to be.
pub fn days(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| {
        let meant = text.trim().parse::<u32>().map(|number| format!("{number} days"));
        match meant.ok().filter(|meant| duration(meant).is_some()) {
            Some(meant) => format!("allowed: {DAYS}; did you mean \"{meant}\"?"),
            None => format!("allowed: {DAYS}"),
        }
    })
}

/// Parses a rate; the result is in bytes a second.
pub fn rate(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    // "bps" is how network people write bit/s; "Bps" is left out since nobody agrees on it.
    let (prefix, bytes) = if let Some(prefix) = unit.strip_suffix("bit/s").or(unit.strip_suffix("bps")) {
        (prefix, 0.125)
    } else {
        (unit.strip_suffix("B/s")?, 1.0)
    };
    whole_bytes(number * multiple(prefix)? * bytes)
}

/// How much may be sent, as it is stated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BudgetText {
    /// Bytes a second.
    Rate(u64),
    /// Bytes in each clock.
    PerClock(u64),
    /// Dollars a second.
    Dollars(f64),
}

/// Parses "5 Mbit/s", "2 MB/clock" or "$40/day".
pub fn budget(text: &str) -> Option<BudgetText> {
    const DAY: f64 = 86_400.0;
    if let Some(dollars) = text.trim().strip_prefix('$') {
        let (number, unit) = split(dollars)?;
        let seconds = match unit.strip_prefix('/')?.trim_start() {
            "h" | "hour" => DAY / 24.0,
            "day" => DAY,
            "month" => 30.0 * DAY,
            _ => return None,
        };
        return Some(BudgetText::Dollars(number / seconds));
    }
    match text.trim().strip_suffix("/clock") {
        Some(of_clock) => size(of_clock).map(BudgetText::PerClock),
        None => rate(text).map(BudgetText::Rate),
    }
}

/// Parses "$0.09/GB"; the result is in dollars a byte.
pub fn price(text: &str) -> Option<f64> {
    let (dollars, unit) = split(text.trim().strip_prefix('$')?)?;
    let of = unit.strip_prefix('/')?.trim_start().strip_suffix('B')?;
    Some(dollars / multiple(of)?)
}

/// Parses a size; the result is in bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    whole_bytes(number * multiple(unit.strip_suffix('B')?)?)
}

/// Parses "1.5 bdp", a number of bandwidth-delay products.
pub fn bandwidth_delay_products(text: &str) -> Option<f64> {
    let (number, unit) = split(text)?;
    unit.eq_ignore_ascii_case("bdp").then_some(number)
}

/// Parses "1000 times the usual".
pub fn times_the_usual(text: &str) -> Option<f64> {
    let (number, words) = split(text)?;
    words.split_whitespace().eq(["times", "the", "usual"]).then_some(number)
}

/// Parses "0.1 %" or "0.001"; the result is the share, 0.001.
pub fn share(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    number.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number / scale)
}

/// Splits "2.5 MB" into 2.5 and "MB"; the number is finite and at or above zero.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number = text[..end].parse::<f64>().ok().filter(|number| number.is_finite())?;
    Some((number, text[end..].trim_start()))
}

fn multiple(prefix: &str) -> Option<f64> {
    Some(match prefix {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

fn whole_bytes(bytes: f64) -> Option<u64> {
    (bytes <= MOST_BYTES).then(|| bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let micros = |text| duration(text).map(|duration| duration.as_micros());
        for (text, expected) in [
            ("80ms", Some(80_000)),
            ("80 ms", Some(80_000)),
            ("1.5 s", Some(1_500_000)),
            ("50us", Some(50)),
            ("2min", Some(120_000_000)),
            ("1h 30min", Some(5_400_000_000)),
            ("0s", Some(0)),
            ("80", None),
            ("", None),
            ("ms", None),
            ("-5ms", None),
            ("80 Mbit/s", None),
            ("18446744073709551615s 1000ms", None),
            ("9999999 years", None),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
    }

    #[test]
    fn days_without_a_unit_are_days_and_not_milliseconds() {
        assert_eq!(days("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(days("2 weeks"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(days("30").expect_err("no unit"), format!("allowed: {DAYS}; did you mean \"30 days\"?"));
        // Longer than any setting may be.
        for text in ["soon", "-3", "", "80320"] {
            assert_eq!(days(text).expect_err("no duration"), format!("allowed: {DAYS}"));
        }
    }

    #[test]
    fn rates_count_bits_and_bytes_in_decimal_and_binary() {
        for (text, expected) in [
            ("100 Mbit/s", Some(12_500_000)),
            ("100Mbit/s", Some(12_500_000)),
            ("100 Mbps", Some(12_500_000)),
            ("17 Mbit/s", Some(2_125_000)),
            ("2 MB/s", Some(2_000_000)),
            ("2 MiB/s", Some(2_097_152)),
            ("1 Mibit/s", Some(131_072)),
            ("0.5 kB/s", Some(500)),
            ("8 bit/s", Some(1)),
            ("10 Gbit/s", Some(1_250_000_000)),
            ("100", None),
            ("100 Mbit", None),
            ("100 mbit/s", None),
            ("100 Mb/s", None),
            ("100 MBps", None),
            ("-1 B/s", None),
            ("1e3 B/s", None),
            ("9999999999 TB/s", None),
            ("1.2.3 B/s", None),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("2.5 MB", Some(2_500_000)),
            ("64 KiB", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("1 GiB", Some(1 << 30)),
            ("7 B", Some(7)),
            ("1 KB", None),
            ("1 bdp", None),
            ("64", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
        assert_eq!(bandwidth_delay_products("1.5 bdp"), Some(1.5));
        assert_eq!(bandwidth_delay_products("1 BDP"), Some(1.0));
        assert_eq!(bandwidth_delay_products("1"), None);
        assert_eq!(times_the_usual("1000 times the usual"), Some(1000.0));
        assert_eq!(times_the_usual(" 2.5 times  the usual "), Some(2.5));
        for text in ["1000", "1000x", "times the usual", "-1 times the usual", "10 times the usuals"] {
            assert_eq!(times_the_usual(text), None, "{text}");
        }
    }

    #[test]
    fn budgets_and_prices() {
        for (text, expected) in [
            ("5 Mbit/s", Some(BudgetText::Rate(625_000))),
            ("2 MB/clock", Some(BudgetText::PerClock(2_000_000))),
            ("$40/day", Some(BudgetText::Dollars(40.0 / 86_400.0))),
            (" $ 3.6 / h", Some(BudgetText::Dollars(0.001))),
            ("$2592/month", Some(BudgetText::Dollars(0.001))),
            ("$40", None),
            ("40/day", None),
            ("$-1/day", None),
            ("$1/year", None),
            ("2 MB", None),
            ("2 Mbit/clock", None),
        ] {
            assert_eq!(budget(text), expected, "{text}");
        }
        assert_eq!(price("$0.09/GB"), Some(9e-11));
        assert_eq!(price("$1/GiB"), Some(1.0 / f64::from(1u32 << 30)));
        for text in ["0.09/GB", "$0.09", "$0.09/Gbit", "$x/GB"] {
            assert_eq!(price(text), None, "{text}");
        }
    }

    #[test]
    fn shares() {
        for (text, expected) in [
            ("0.1 %", Some(0.001)),
            ("50%", Some(0.5)),
            ("0.25", Some(0.25)),
            ("-1", Some(-1.0)),
            ("inf", None),
            ("NaN %", None),
            ("%", None),
        ] {
            assert_eq!(share(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}", number in any::<f64>(), unit in "[ a-zA-Z%/]{0,8}") {
            for text in [text, format!("{number}{unit}")] {
                duration(&text);
                rate(&text);
                size(&text);
                share(&text);
                bandwidth_delay_products(&text);
                times_the_usual(&text);
                budget(&text);
                price(&text);
            }
        }

        #[test]
        fn a_printed_quantity_is_read_back(bytes in 0u64..1_000_000_000_000, millis in 0u64..1_000_000_000) {
            prop_assert_eq!(size(&format!("{bytes} B")), Some(bytes));
            prop_assert_eq!(rate(&format!("{bytes} B/s")), Some(bytes));
            prop_assert_eq!(rate(&format!("{} bit/s", bytes * 8)), Some(bytes));
            let duration_read = duration(&format!("{millis}ms"));
            prop_assert_eq!(duration_read, Some(Duration::from_millis(millis)));
        }
    }
}
