//! Quantities with units, as settings and flags have them.

use std::time::Duration;

use gaia::settings::units::{bandwidth_delay_products, days, duration, rate, share, size, times_the_usual};

/// The whole input is one text: what any of the parsers takes for a quantity is written plainly,
/// and read as the same.
pub fn units(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(time) = duration(text) {
        assert_eq!(duration(&plain(time)), Some(time), "{text:?}");
        // As messages show it, from where people copy it.
        assert_eq!(duration(&format!("{time:?}")), Some(time), "{text:?}");
        assert_eq!(days(text), Ok(time));
    } else {
        let refused = days(text).expect_err("it is no duration");
        // A hint is something that would be taken.
        if let Some((_, hint)) = refused.split_once("did you mean \"") {
            let hint = hint.strip_suffix("\"?").expect("a quoted text");
            duration(hint).unwrap_or_else(|| panic!("{hint:?} was offered, of {text:?}"));
        }
    }
    if let Some(rate_bytes_per_sec) = rate(text) {
        assert_eq!(rate(&format!("{rate_bytes_per_sec} B/s")), Some(rate_bytes_per_sec), "{text:?}");
    }
    if let Some(bytes) = size(text) {
        assert_eq!(size(&format!("{bytes} B")), Some(bytes), "{text:?}");
        // What is so much is so much a second, too.
        assert_eq!(rate(&format!("{}/s", text.trim())), Some(bytes), "{text:?}");
    }
    if let Some(products) = bandwidth_delay_products(text) {
        assert!(products.is_finite() && products >= 0.0, "{text:?}");
        assert_eq!(bandwidth_delay_products(&format!("{products} bdp")), Some(products), "{text:?}");
    }
    if let Some(times) = times_the_usual(text) {
        assert!(times.is_finite() && times >= 0.0, "{text:?}");
        assert_eq!(times_the_usual(&format!("{times} times the usual")), Some(times), "{text:?}");
    }
    if let Some(part) = share(text) {
        assert!(part.is_finite(), "{text:?}");
        assert_eq!(share(&format!("{part}")), Some(part), "{text:?}");
    }
    let kinds = [
        duration(text).is_some(),
        rate(text).is_some(),
        size(text).is_some(),
        bandwidth_delay_products(text).is_some(),
        times_the_usual(text).is_some(),
        share(text).is_some(),
    ];
    // With its unit, a text is one kind of quantity.
    assert!(kinds.iter().filter(|is_one| **is_one).count() <= 1 || text.trim() == "0", "{text:?}: {kinds:?}");
}

fn plain(time: Duration) -> String {
    format!("{} s {} ns", time.as_secs(), time.subsec_nanos())
}

/// Of each kind some, and some that are none.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    [
        "80ms",
        "1.5 s",
        "1h 30min",
        "50us",
        "30",
        "30 days",
        "2 weeks 3 d",
        "100 years",
        "0",
        "0s",
        "1.000000001s",
        "3000000000.5 ns",
        "18446744073709551615s 1000ms",
        "100 Mbit/s",
        "17Mbps",
        "2.5 MiB/s",
        "0.3 bit/s",
        "9007199254740993 B/s",
        "1000000 TB/s",
        "2.5 MB",
        "64KiB",
        "0.4 B",
        "999999.9999999 TB",
        "1.2.3 B",
        "1.5 bdp",
        "1 BDP",
        "99999999999999999999999999999999999999999999999999 bdp",
        "1000 times the usual",
        "0.1 %",
        "50%",
        "-1",
        "1e-320",
        "NaN %",
        "1e309",
        "\u{a0}5 ms\u{2003}",
        "４ MB",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
