//! What an RTR knows of xTRs behind NATs ⇄ TLVs.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use altitude_dataplane::mapping::{EidPrefix, InstanceId};

use super::{
    entry,
    message::{Fields, ProtocolError, kind, put, put_address},
    sites::Group,
};

/// What a NAT has for one xTR that registers through us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingStatus {
    /// A Map-Server vouched for it; else it moves no data.
    pub verified: bool,
    /// Its xTR-ID.
    pub xtr_id: [u8; 16],
    /// Its Site-ID.
    pub site_id: u64,
    /// Its address and port as we see them.
    pub translated: SocketAddr,
    /// Our RLOC that it registers at.
    pub rloc: IpAddr,
    /// Its address and port as it sees them.
    pub inner: SocketAddr,
    /// Of its last Map-Register.
    pub nonce: u64,
    /// Time since its first Map-Register, whole seconds,
    pub since: Duration,
    /// and since its last.
    pub heard: Duration,
    /// What is behind it.
    pub eids: Vec<EidPrefix>,
}

/// Which binding a page ends with: what a router knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindingsAfter {
    /// Its xTR-ID.
    pub xtr_id: [u8; 16],
    /// Its address as it sees it.
    pub inner: IpAddr,
    /// Its address and port as we see them.
    pub translated: SocketAddr,
}

/// Some bindings, those of one xTR-ID together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BindingsPage {
    /// Ascending by what [`BindingsAfter`] names.
    pub list: Vec<BindingStatus>,
    /// The last one, if there are more.
    pub next: Option<BindingsAfter>,
}

impl BindingsPage {
    /// Takes bindings until they have about `max` rows, counting one for each and one for each prefix behind it.
    #[must_use]
    pub fn of(bindings: impl Iterator<Item = BindingStatus>, max: usize) -> Self {
        let (mut page, mut rows) = (Self::default(), 0);
        for one in bindings {
            if rows >= max {
                page.next = page.list.last().map(BindingStatus::place);
                break;
            }
            rows += 1 + one.eids.len();
            page.list.push(one);
        }
        page
    }
}

impl BindingStatus {
    /// What it is known by.
    #[must_use]
    pub const fn place(&self) -> BindingsAfter {
        BindingsAfter { xtr_id: self.xtr_id, inner: self.inner.ip(), translated: self.translated }
    }
}

// Flag of a BINDING.
const VERIFIED: u8 = 1;

/// Appends BINDING with the TLVs that belong to it: three ADDRESSes, then IID and EID of each prefix.
pub(super) fn put_binding(out: &mut Vec<u8>, status: &BindingStatus) {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_le_bytes();
    put(out, kind::BINDING, |out| {
        out.push(if status.verified { VERIFIED } else { 0 });
        out.extend(status.translated.port().to_le_bytes());
        out.extend(status.inner.port().to_le_bytes());
        out.extend(seconds(status.since));
        out.extend(seconds(status.heard));
        out.extend(status.nonce.to_le_bytes());
        out.extend(status.xtr_id);
        out.extend(status.site_id.to_le_bytes());
    });
    for address in [status.translated.ip(), status.rloc, status.inner.ip()] {
        put(out, kind::ADDRESS, |out| {
            out.push(if address.is_ipv4() { 32 } else { 128 });
            put_address(out, address);
        });
    }
    for eid in &status.eids {
        entry::put_instance(out, eid.instance);
        entry::put_prefix(out, eid.prefix);
    }
}

/// Appends BINDINGS_AFTER.
pub(super) fn put_after(out: &mut Vec<u8>, after: &BindingsAfter) {
    put(out, kind::BINDINGS_AFTER, |out| {
        out.extend(after.xtr_id);
        out.extend(after.translated.port().to_le_bytes());
        put_address(out, after.inner);
        put_address(out, after.translated.ip());
    });
}

/// Reads BINDINGS_AFTER.
pub(super) fn after(mut fields: Fields<'_>) -> Result<BindingsAfter, ProtocolError> {
    let (xtr_id, port) = (fields.array()?, fields.u16()?);
    let (inner, translated) = (fields.address()?, fields.address()?);
    fields.end()?;
    Ok(BindingsAfter { xtr_id, inner, translated: SocketAddr::new(translated, port) })
}

/// Appends a page.
pub(super) fn put_page(page: &BindingsPage, group: &mut Group<'_>) {
    for status in &page.list {
        group(&mut |out| put_binding(out, status));
    }
    if let Some(next) = &page.next {
        group(&mut |out| put_after(out, next));
    }
}

fn binding(mut fields: Fields<'_>) -> Result<BindingStatus, ProtocolError> {
    let flags = fields.u8()?;
    let unset = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
    let (translated, inner) = (unset(fields.u16()?), unset(fields.u16()?));
    let (since, heard) = (Duration::from_secs(fields.u32()?.into()), Duration::from_secs(fields.u32()?.into()));
    let (nonce, xtr_id, site_id) = (fields.u64()?, fields.array()?, fields.u64()?);
    fields.end()?;
    let (verified, rloc) = (flags & VERIFIED != 0, translated.ip());
    Ok(BindingStatus { verified, xtr_id, site_id, translated, rloc, inner, nonce, since, heard, eids: Vec::new() })
}

/// Collects the TLVs of an answer about bindings as they come.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    pub(super) page: BindingsPage,
    /// Which of the last one's addresses is next.
    addresses: usize,
    /// The instance that holds for the next EID.
    instance: InstanceId,
}

impl Bindings {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        const ORPHAN: ProtocolError = ProtocolError::Value("a TLV comes before what it belongs to");
        match kind {
            kind::BINDING => {
                self.page.list.push(binding(fields)?);
                self.addresses = 0;
            }
            kind::ADDRESS => {
                fields.u8()?;
                let address = fields.address()?;
                let last = self.page.list.last_mut().ok_or(ORPHAN)?;
                match self.addresses {
                    0 => last.translated.set_ip(address),
                    1 => last.rloc = address,
                    _ => last.inner.set_ip(address),
                }
                self.addresses += 1;
            }
            kind::BINDINGS_AFTER => self.page.next = Some(after(fields)?),
            kind::IID => self.instance = entry::instance(fields)?,
            kind::EID => {
                let eid = EidPrefix { instance: self.instance, prefix: entry::prefix(fields)? };
                self.page.list.last_mut().ok_or(ORPHAN)?.eids.push(eid);
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
    use crate::api::message::Tlvs;

    #[test]
    fn bindings_come_as_they_are() {
        let eid = |instance: u32, prefix: &str| EidPrefix {
            instance: InstanceId::new(instance).unwrap(),
            prefix: prefix.parse().unwrap(),
        };
        let one = BindingStatus {
            verified: true,
            xtr_id: [9; 16],
            site_id: 42,
            translated: "203.0.113.50:20001".parse().unwrap(),
            rloc: [203, 0, 113, 200].into(),
            inner: "10.0.0.2:4342".parse().unwrap(),
            nonce: u64::MAX,
            since: Duration::from_secs(90),
            heard: Duration::from_secs(7),
            eids: vec![eid(7, "2001:db8::/32"), eid(0, "192.0.2.0/24")],
        };
        let fresh = BindingStatus { verified: false, eids: vec![], ..one.clone() };
        let v6 = BindingStatus { rloc: "2001:db8::9".parse().unwrap(), ..one.clone() };
        // The next page is asked for by addresses of two families.
        let next = BindingsAfter { inner: "2001:db8::8".parse().unwrap(), ..v6.place() };
        let page = BindingsPage { list: vec![one, fresh, v6], next: Some(next) };
        let mut octets = Vec::new();
        put_page(&page, &mut |put| put(&mut octets));
        let mut collected = Bindings::default();
        for tlv in Tlvs(&octets) {
            let (kind, fields) = tlv.unwrap();
            collected.take(kind, fields).unwrap();
        }
        assert_eq!(collected.page, page);
        for kind in [kind::BINDING, kind::BINDINGS_AFTER, kind::EID, kind::ADDRESS] {
            assert!(Bindings::default().take(kind, Fields(&[9; 9])).is_err(), "{kind:#x}");
        }
    }
}
