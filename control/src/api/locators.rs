//! Locators of other sites ⇄ TLVs.

use std::{net::IpAddr, time::Duration};

use super::message::{Fields, ProtocolError, kind, put, put_address};

// Flags of a LOCATOR.
const UP: u8 = 1;
const PROBED: u8 = 2;
const RTT: u8 = 4;
const HELD: u8 = 8;

/// What RLOC-probes say, by the number on the wire.
pub const PROBE_STATES: [&str; 5] = ["unknown", "up", "mute", "down", "held"];

/// One locator of the map-cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatorStatus {
    /// The RLOC.
    pub address: IpAddr,
    /// Packets can be sent to it, and probes say nothing against it.
    pub up: bool,
    /// Why not, or what else is to be known; empty if there is nothing to say.
    pub why: String,
    /// Mappings that have it.
    pub mappings: u32,
    /// Of them those with flows that go to it now.
    pub carrying: u32,
    /// What probing found; `None` while it is not probed.
    pub probing: Option<ProbingStatus>,
}

/// What probing found of a locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbingStatus {
    /// Index into [`PROBE_STATES`].
    pub state: u8,
    /// How long it has been so, whole seconds.
    pub since: Duration,
    /// It answers again, and is held down because it flapped.
    pub held: bool,
    /// Smoothed round-trip time and its variation, whole microseconds.
    pub rtt: Option<(Duration, Duration)>,
    /// Probes sent.
    pub sent: u64,
    /// Of them answered.
    pub answered: u64,
    /// Of them not answered in time.
    pub lost: u64,
}

/// Appends LOCATOR.
pub(super) fn put_locator(out: &mut Vec<u8>, locator: &LocatorStatus) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let probing = locator.probing;
    let rtt = probing.and_then(|probing| probing.rtt);
    let (smoothed, variation) = rtt.unwrap_or_default();
    let microseconds = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    put(out, kind::LOCATOR, |out| {
        let held = probing.is_some_and(|probing| probing.held);
        let flags =
            flag(locator.up, UP) | flag(probing.is_some(), PROBED) | flag(rtt.is_some(), RTT) | flag(held, HELD);
        out.extend([flags, probing.map_or(0, |probing| probing.state)]);
        let since = probing.map_or(0, |probing| probing.since.as_secs());
        let since = u32::try_from(since).unwrap_or(u32::MAX);
        for number in [since, microseconds(smoothed), microseconds(variation), locator.mappings, locator.carrying] {
            out.extend(number.to_le_bytes());
        }
        let counts = probing.map_or([0; 3], |probing| [probing.sent, probing.answered, probing.lost]);
        counts.iter().for_each(|count| out.extend(count.to_le_bytes()));
        put_address(out, locator.address);
        out.extend(locator.why.as_bytes());
    });
}

/// Reads LOCATOR.
pub(super) fn locator(mut fields: Fields<'_>) -> Result<LocatorStatus, ProtocolError> {
    let (flags, state) = (fields.u8()?, fields.u8()?);
    if usize::from(state) >= PROBE_STATES.len() {
        return Err(ProtocolError::Value("a locator's state is unknown"));
    }
    let since = Duration::from_secs(fields.u32()?.into());
    let (smoothed, variation) =
        (Duration::from_micros(fields.u32()?.into()), Duration::from_micros(fields.u32()?.into()));
    let (mappings, carrying) = (fields.u32()?, fields.u32()?);
    let (sent, answered, lost) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let address = fields.address()?;
    let rtt = (flags & RTT != 0).then_some((smoothed, variation));
    let probing = ProbingStatus { state, since, held: flags & HELD != 0, rtt, sent, answered, lost };
    Ok(LocatorStatus {
        address,
        up: flags & UP != 0,
        why: fields.text()?.to_owned(),
        mappings,
        carrying,
        probing: (flags & PROBED != 0).then_some(probing),
    })
}

/// Appends AFTER: the last locator of a page, in an answer and in the request for the next one.
pub(super) fn put_after(out: &mut Vec<u8>, address: IpAddr) {
    put(out, kind::AFTER, |out| put_address(out, address));
}

/// Reads AFTER.
pub(super) fn after(mut fields: Fields<'_>) -> Result<IpAddr, ProtocolError> {
    let address = fields.address()?;
    fields.end()?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::message::Tlvs;

    #[test]
    fn a_locator_comes_as_it_is() {
        let probing = ProbingStatus {
            state: 3,
            since: Duration::from_secs(90),
            held: true,
            rtt: Some((Duration::from_micros(20_500), Duration::from_micros(300))),
            sent: 12,
            answered: 8,
            lost: 4,
        };
        let plain = LocatorStatus {
            address: [240, 1, 0, 20].into(),
            up: false,
            why: "no answer to RLOC-probes".to_owned(),
            mappings: 7,
            carrying: 0,
            probing: Some(probing),
        };
        for status in [
            plain.clone(),
            LocatorStatus { probing: Some(ProbingStatus { rtt: None, held: false, ..probing }), ..plain.clone() },
            LocatorStatus {
                address: "2001:db8::20".parse().unwrap(),
                up: true,
                why: String::new(),
                probing: None,
                ..plain
            },
        ] {
            let mut octets = Vec::new();
            put_locator(&mut octets, &status);
            let (kind, fields) = Tlvs(&octets).next().unwrap().unwrap();
            assert_eq!((kind, locator(fields)), (kind::LOCATOR, Ok(status)));
            for length in 4..octets.len().min(50) {
                let mut cut = octets[..length].to_vec();
                cut[2..4].copy_from_slice(&((length - 4) as u16).to_le_bytes());
                let (_, fields) = Tlvs(&cut).next().unwrap().unwrap();
                assert!(locator(fields).is_err(), "cut to {length}");
            }
        }
    }
}
