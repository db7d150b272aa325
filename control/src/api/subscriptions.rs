//! PubSub subscriptions, ours and those at our Map-Server ⇄ TLVs.

use std::{net::IpAddr, time::Duration};

use altitude_dataplane::mapping::{EidPrefix, InstanceId};

use super::{
    entry,
    message::{Fields, ProtocolError, kind, put, put_address},
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
    pub(super) list: Vec<SubscriptionStatus>,
    /// The instance that holds for the next EID.
    instance: InstanceId,
}

impl Subscriptions {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        const ORPHAN: ProtocolError = ProtocolError::Value("a TLV comes before what it belongs to");
        match kind {
            kind::SUBSCRIPTION => self.list.push(subscription(fields)?),
            kind::IID => self.instance = entry::instance(fields)?,
            kind::EID => {
                let eid = EidPrefix { instance: self.instance, prefix: entry::prefix(fields)? };
                self.list.last_mut().ok_or(ORPHAN)?.eid = eid;
            }
            kind::ADDRESS => {
                fields.u8()?;
                self.list.last_mut().ok_or(ORPHAN)?.peers.push(fields.address()?);
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
        let mut octets = Vec::new();
        list.iter().for_each(|status| put_subscription(&mut octets, status));
        let mut collected = Subscriptions::default();
        for tlv in Tlvs(&octets) {
            let (kind, fields) = tlv.unwrap();
            collected.take(kind, fields).unwrap();
        }
        assert_eq!(collected.list, list);
        for kind in [kind::SUBSCRIPTION, kind::EID, kind::ADDRESS] {
            assert!(Subscriptions::default().take(kind, Fields(&[9; 9])).is_err(), "{kind:#x}");
        }
    }

    #[test]
    fn standings_are_those_of_the_subscriber() {
        let all = [Standing::Asking, Standing::Live, Standing::Refused, Standing::Silent];
        assert_eq!(all.map(Standing::name), SUBSCRIPTION_STANDINGS[..4]);
    }
}
