//! PubSub subscriptions, ours and those at our Map-Server ⇄ TLVs.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

use super::{
    bgp, entry,
    message::{Fields, ProtocolError, kind, put, put_address},
    sites::Group,
};

/// How a subscription stands, by the number on the wire: the first four of ours, the last three of others'.
pub const SUBSCRIPTION_STANDINGS: [&str; 7] =
    ["asking", "live", "refused", "silent", "unconfirmed", "confirmed", "unacknowledged"];

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionStatus {
    /// We are the subscriber; else it is one at our Map-Server.
    pub ours: bool,
    /// To what.
    pub eid: EidPrefix,
    /// One of [`SUBSCRIPTION_STANDINGS`],
    pub standing: &'static str,
    /// and for how long, whole seconds.
    pub since: Duration,
    /// Time until it ends because nothing is registered, whole seconds.
    pub left: Option<Duration>,
    /// The last nonce of either side.
    pub nonce: u64,
    /// Map-Notifies taken in, of ours; prefixes that wait to be published, of others'.
    pub count: u64,
    /// xTR-ID and Site-ID of the subscriber, where it is another.
    pub xtr: Option<([u8; 16], u64)>,
    /// The Map-Server that spoke last, or the subscriber's ITR-RLOCs.
    pub peers: Vec<IpAddr>,
}

/// Which subscription a page ends with. Names stay while places change, so what is there all the while comes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionsAfter {
    /// Ours to this prefix.
    Ours(EidPrefix),
    /// That of this xTR-ID and Site-ID to this prefix, at our Map-Server.
    Others([u8; 16], u64, EidPrefix),
    /// One that nobody has confirmed, by its age.
    Unconfirmed(u64),
}

/// Some subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionsPage {
    /// Ours first.
    pub list: Vec<SubscriptionStatus>,
    /// The last one, if there are more.
    pub next: Option<SubscriptionsAfter>,
}

// Flags of a SUBSCRIPTION.
const OURS: u8 = 1;
const LEFT: u8 = 2;
const XTR: u8 = 4;

/// Appends SUBSCRIPTION with the TLVs that belong to it.
pub(super) fn put_subscription(out: &mut Vec<u8>, status: &SubscriptionStatus) {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_le_bytes();
    put(out, kind::SUBSCRIPTION, |out| {
        let standing = SUBSCRIPTION_STANDINGS.iter().position(|name| *name == status.standing).unwrap_or(0);
        let flags = flag(status.ours, OURS) | flag(status.left.is_some(), LEFT) | flag(status.xtr.is_some(), XTR);
        out.extend([flags, standing as u8]);
        out.extend(seconds(status.since));
        out.extend(seconds(status.left.unwrap_or_default()));
        out.extend(status.nonce.to_le_bytes());
        out.extend(status.count.to_le_bytes());
        let (xtr_id, site_id) = status.xtr.unwrap_or_default();
        out.extend(xtr_id);
        out.extend(site_id.to_le_bytes());
    });
    entry::put_instance(out, status.eid.instance);
    entry::put_prefix(out, status.eid.prefix);
    for peer in &status.peers {
        put(out, kind::ADDRESS, |out| {
            out.push(if peer.is_ipv4() { 32 } else { 128 });
            put_address(out, *peer);
        });
    }
}

/// Appends SUBSCRIPTIONS_AFTER.
pub(super) fn put_after(out: &mut Vec<u8>, after: &SubscriptionsAfter) {
    let any = EidPrefix { instance: InstanceId::DEFAULT, prefix: Prefix::new([0; 4].into(), 0).expect("0 bits") };
    let (which, xtr, number, eid) = match after {
        SubscriptionsAfter::Ours(eid) => (1, [0; 16], 0, *eid),
        SubscriptionsAfter::Others(xtr, site, eid) => (2, *xtr, *site, *eid),
        SubscriptionsAfter::Unconfirmed(place) => (3, [0; 16], *place, any),
    };
    put(out, kind::SUBSCRIPTIONS_AFTER, |out| {
        out.push(which);
        out.extend(xtr);
        out.extend(number.to_le_bytes());
        bgp::put_place(out, &eid);
    });
}

/// Reads SUBSCRIPTIONS_AFTER.
pub(super) fn after(mut fields: Fields<'_>) -> Result<SubscriptionsAfter, ProtocolError> {
    let (which, xtr, number) = (fields.u8()?, fields.array()?, fields.u64()?);
    let eid = bgp::cursor(fields)?;
    match which {
        1 => Ok(SubscriptionsAfter::Ours(eid)),
        2 => Ok(SubscriptionsAfter::Others(xtr, number, eid)),
        3 => Ok(SubscriptionsAfter::Unconfirmed(number)),
        _ => Err(ProtocolError::Value("SUBSCRIPTIONS_AFTER is 1 to 3")),
    }
}

/// Appends a page.
pub(super) fn put_page(page: &SubscriptionsPage, group: &mut Group<'_>) {
    for status in &page.list {
        group(&mut |out| put_subscription(out, status));
    }
    if let Some(next) = &page.next {
        group(&mut |out| put_after(out, next));
    }
}

fn subscription(mut fields: Fields<'_>) -> Result<SubscriptionStatus, ProtocolError> {
    let (flags, standing) = (fields.u8()?, fields.u8()?);
    let standing = SUBSCRIPTION_STANDINGS.get(usize::from(standing)).copied();
    let (since, left) = (Duration::from_secs(fields.u32()?.into()), Duration::from_secs(fields.u32()?.into()));
    let (nonce, count) = (fields.u64()?, fields.u64()?);
    let (xtr_id, site_id) = (fields.array()?, fields.u64()?);
    fields.end()?;
    Ok(SubscriptionStatus {
        ours: flags & OURS != 0,
        eid: EidPrefix { instance: InstanceId::DEFAULT, prefix: "0.0.0.0/0".parse().expect("a prefix") },
        standing: standing.ok_or(ProtocolError::Value("a subscription's standing is unknown"))?,
        since,
        left: (flags & LEFT != 0).then_some(left),
        nonce,
        count,
        xtr: (flags & XTR != 0).then_some((xtr_id, site_id)),
        peers: Vec::new(),
    })
}

/// Collects the TLVs of an answer about subscriptions as they come.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub(super) page: SubscriptionsPage,
    /// The instance that holds for the next EID.
    instance: InstanceId,
}

impl Subscriptions {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        const ORPHAN: ProtocolError = ProtocolError::Value("a TLV comes before what it belongs to");
        match kind {
            kind::SUBSCRIPTION => self.page.list.push(subscription(fields)?),
            kind::SUBSCRIPTIONS_AFTER => self.page.next = Some(after(fields)?),
            kind::IID => self.instance = entry::instance(fields)?,
            kind::EID => {
                let eid = EidPrefix { instance: self.instance, prefix: entry::prefix(fields)? };
                self.page.list.last_mut().ok_or(ORPHAN)?.eid = eid;
            }
            kind::ADDRESS => {
                fields.u8()?;
                self.page.list.last_mut().ok_or(ORPHAN)?.peers.push(fields.address()?);
            }
            other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::message::Tlvs, pubsub::Standing};

    fn one() -> SubscriptionStatus {
        SubscriptionStatus {
            ours: false,
            eid: EidPrefix { instance: InstanceId::new(7).unwrap(), prefix: "2001:db8::/32".parse().unwrap() },
            standing: "unacknowledged",
            since: Duration::from_secs(90),
            left: Some(Duration::from_secs(7)),
            nonce: u64::MAX,
            count: 3,
            xtr: Some(([9; 16], 42)),
            peers: vec![[203, 0, 113, 1].into(), "2001:db8::1".parse().unwrap()],
        }
    }

    #[test]
    fn subscriptions_come_as_they_are() {
        let prefix = "10.0.0.0/8".parse().unwrap();
        let eid = EidPrefix { instance: InstanceId::DEFAULT, prefix };
        let ours =
            SubscriptionStatus { ours: true, eid, standing: "live", left: None, xtr: None, peers: vec![], ..one() };
        let list = vec![one(), ours];
        let others = SubscriptionsAfter::Others([9; 16], 42, one().eid);
        for next in [SubscriptionsAfter::Ours(eid), others, SubscriptionsAfter::Unconfirmed(u64::MAX)] {
            let page = SubscriptionsPage { list: list.clone(), next: Some(next) };
            let mut octets = Vec::new();
            put_page(&page, &mut |put| put(&mut octets));
            let mut collected = Subscriptions::default();
            for tlv in Tlvs(&octets) {
                let (kind, fields) = tlv.unwrap();
                collected.take(kind, fields).unwrap();
            }
            assert_eq!(collected.page, page);
        }
        for kind in [kind::SUBSCRIPTION, kind::SUBSCRIPTIONS_AFTER, kind::EID, kind::ADDRESS] {
            assert!(Subscriptions::default().take(kind, Fields(&[9; 9])).is_err(), "{kind:#x}");
        }
    }

    #[test]
    fn standings_are_those_of_the_subscriber() {
        let all = [Standing::Asking, Standing::Live, Standing::Refused, Standing::Silent];
        assert_eq!(all.map(Standing::name), SUBSCRIPTION_STANDINGS[..4]);
    }
}
