//! What people read: figures with three digits that matter and a unit, errors with their causes.

pub(crate) use datacenter::causes::with_causes;

/// Bytes: "640 B", "1.2 kB", "26.5 MB".
pub(crate) fn bytes(bytes: f64) -> String {
    scaled(bytes, ["B", "kB", "MB", "GB", "TB"])
}

fn scaled(value: f64, units: [&str; 5]) -> String {
    if value < 999.5 {
        return format!("{value:.0} {}", units[0]);
    }
    let mut value = value / 1000.0;
    let mut unit = 1;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), units[unit])
}

/// A rate: "1.2 MB/s".
pub(crate) fn rate(bytes_per_sec: f64) -> String {
    format!("{}/s", bytes(bytes_per_sec))
}

/// A rate in bits, as links are known by: "100 Mbit/s".
pub(crate) fn bit_rate(bytes_per_sec: f64) -> String {
    scaled(bytes_per_sec * 8.0, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// A time: "52 ms", "1.25 s", "3 min 20 s", "2 h 5 min".
pub(crate) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "-".to_owned();
    }
    if seconds == 0.0 {
        return "0 s".to_owned();
    }
    if seconds < 0.0995 {
        return format!("{} ms", three_digits(seconds * 1000.0));
    }
    if seconds < 99.95 {
        return format!("{} s", three_digits(seconds));
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {} s", whole / 60, whole % 60);
    }
    let minutes = (seconds / 60.0).round() as u64;
    format!("{} h {} min", minutes / 60, minutes % 60)
}

/// A number of things: "1 worker", "2 workers".
pub(crate) fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    // More than fit are many.
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// How many times: "22.1x", "1.05x", "531x".
pub(crate) fn times(ratio: f64) -> String {
    if ratio.is_finite() { format!("{}x", three_digits(ratio)) } else { "-".to_owned() }
}

/// A share in per cent: "4.2 %".
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 {
        "0 %".to_owned()
    } else if percent.abs() < 0.01 {
        format!("{percent:.0e} %")
    } else if (99.95..100.0).contains(&percent) {
        // Almost all is not all.
        "99.9 %".to_owned()
    } else {
        let digits = three_digits(percent);
        let short =
            if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
        format!("{short} %")
    }
}

/// A figure of a model: four decimals, or as many digits where it is very small or large.
pub(crate) fn figure(value: f64) -> String {
    if !value.is_finite() {
        "diverged".to_owned()
    } else if value == 0.0 || (0.01..100_000.0).contains(&value.abs()) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

/// A magnitude of which nobody needs more than two digits: "1.7", "0.0031", "12", "3.1e-7".
pub(crate) fn magnitude(value: f64) -> String {
    let short = format!("{value:.1e}");
    match short.parse::<f64>() {
        Ok(rounded) if rounded == 0.0 || (1e-5..1e6).contains(&rounded.abs()) => (rounded + 0.0).to_string(),
        _ => short,
    }
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (999.6, "1.00 kB"),
            (1234.0, "1.23 kB"),
            (26_540_000.0, "26.5 MB"),
            (999_900.0, "1.00 MB"),
        ] {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(bit_rate(12_500_000.0), "100 Mbit/s");
        for (value, text) in [
            (0.0, "0 s"),
            (0.00052, "0.52 ms"),
            (0.052, "52.0 ms"),
            (0.5204, "0.52 s"),
            (12.34, "12.3 s"),
            (99.96, "1 min 40 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(seconds(value), text);
        }
        for (value, text) in [(22.14, "22.1x"), (1.049, "1.05x"), (531.2, "531x"), (f64::INFINITY, "-")] {
            assert_eq!(times(value), text);
        }
        for (value, text) in
            [(0.0, "0 %"), (0.0421, "4.21 %"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.000001, "1e-4 %")]
        {
            assert_eq!(percent(value), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-0.796, "-0.8"),
            (1.749, "1.7"),
            (0.003_14, "0.0031"),
            (12.4, "12"),
            (1234.0, "1200"),
            (3.14e-7, "3.1e-7"),
            (1e9, "1.0e9"),
        ] {
            assert_eq!(magnitude(value), text);
        }
        for (value, text) in
            [(0.15, "0.1500"), (0.0012, "1.200e-3"), (f64::NAN, "diverged"), (2.0e7, "2.000e7")]
        {
            assert_eq!(figure(value), text);
        }
    }
}
