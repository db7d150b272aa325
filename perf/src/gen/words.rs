//! Words of the command line.

use std::time::Duration;

use altitude_dataplane::mapping::MacAddress;

use crate::bench::generator::pps;

/// A MAC address, as a type that clap can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mac(pub(super) MacAddress);

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rate {
    /// As many as can be sent.
    Flood,
    /// Packets a second.
    Pps(f64),
}

pub(super) fn mac(text: &str) -> Result<Mac, String> {
    let wrong = || "six octets in hexadecimal, such as 52:54:00:12:34:56".to_owned();
    let octets: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|octet| if octet.len() == 2 { u8::from_str_radix(octet, 16).ok() } else { None })
        .collect();
    octets.and_then(|octets| octets.try_into().ok()).map(Mac).ok_or_else(wrong)
}

pub(super) fn rate(text: &str) -> Result<Rate, String> {
    if text == "flood" { Ok(Rate::Flood) } else { pps(text).map(Rate::Pps).map_err(|why| format!("flood, or {why}")) }
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let unit = match &text[at..] {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = text[..at].parse().unwrap_or(f64::NAN) * unit;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("a time such as 500ms, 10s, 5m or 1h".into()),
    }
}

/// Reads a whole number, `k` and `M` behind it allowed: `10k`, `1M`.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 'k')) => (&text[..at], 1000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse().ok().and_then(|number: u64| number.checked_mul(unit)).filter(|number| *number > 0);
    number.ok_or_else(|| "a number above zero, such as 1000, 10k or 1M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(mac("52:54:00:12:34:5f"), Ok(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x5f])));
        assert_eq!(mac("52-54-00-12-34-5F"), Ok(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x5f])));
        for wrong in ["", "52:54:00:12:34", "52:54:00:12:34:5f:60", "52:54:00:12:34:5g", "5:254:00:12:34:5f"] {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
        for (text, pps) in [("1000", 1e3), ("250k", 250e3), ("1.5M", 1.5e6), ("1Mpps", 1e6), ("0.5", 0.5)] {
            assert_eq!(rate(text), Ok(Rate::Pps(pps)));
        }
        assert_eq!(rate("flood"), Ok(Rate::Flood));
        for wrong in ["", "pps", "k", "-1", "0", "NaN", "inf", "1G", "1e12"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("2", 2000), ("1.5m", 90_000), ("1h", 3_600_000)] {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)));
        }
        for wrong in ["", "s", "0s", "-1s", "1d", "1 s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        assert_eq!(["7", "10k", "1M"].map(number), [Ok(7), Ok(10_000), Ok(1_000_000)]);
        for wrong in ["", "0", "k", "1.5k", "-1", "99999999999999999999"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
