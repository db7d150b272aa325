//! Sites of the Map-Server ⇄ TLVs.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Locator, Prefix, Ttl};

use super::{
    EntryLocator, entry,
    message::{Fields, ProtocolError, kind, put, put_address},
};

/// One site of our Map-Server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteStatus {
    /// What operators call it.
    pub name: String,
    /// Its ETRs can register: it has keys.
    pub keyed: bool,
    /// Nobody is told where it is.
    pub denied: bool,
    /// ETRs that serve what nobody registered.
    pub etrs: Vec<IpAddr>,
    /// Configured prefixes, and behind each what is registered inside it.
    pub prefixes: Vec<SitePrefix>,
    /// The last Map-Register that was refused.
    pub refused: Option<RefusalStatus>,
}

/// A prefix of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SitePrefix {
    /// The prefix.
    pub eid: EidPrefix,
    /// Who registered it, the last that spoke first; nobody for a configured prefix that is not registered as a whole.
    pub xtrs: Vec<XtrStatus>,
}

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XtrStatus {
    /// Its xTR-ID, if it says one.
    pub xtr_id: Option<[u8; 16]>,
    /// Its Site-ID; 0 is none.
    pub site_id: u64,
    /// Where its last Map-Register came from.
    pub source: SocketAddr,
    /// The Key ID used last.
    pub key: u8,
    /// For how long without a break, whole seconds.
    pub since: Duration,
    /// Time until it ends without another Map-Register, whole seconds.
    pub left: Duration,
    /// We answer for it.
    pub proxy: bool,
    /// Its locators are merged with those of others.
    pub merge: bool,
    /// It speaks LISP-SEC: Map-Requests that are protected go to it.
    pub signs: bool,
    /// Record TTL.
    pub ttl: Ttl,
    /// As registered, in wire order.
    pub locators: Vec<Locator>,
}

/// A Map-Register that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalStatus {
    /// The name of the counter that counted it.
    pub reason: String,
    /// Who sent it.
    pub source: SocketAddr,
    /// Its Key ID.
    pub key: u8,
    /// How long ago, whole seconds.
    pub ago: Duration,
}

/// Some sites, and where the next ones start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SitesPage {
    /// In the order of the configuration.
    pub sites: Vec<SiteStatus>,
    /// The place of the next one, if there is one.
    pub next: Option<u32>,
}

// Flags of a SITE.
const KEYED: u8 = 1;
const DENIED: u8 = 2;

// Flags of an XTR.
const XTR_ID: u8 = 1;
const PROXY: u8 = 2;
const MERGE: u8 = 4;
const SIGNS: u8 = 8;

fn seconds(duration: Duration) -> [u8; 4] {
    (duration.as_secs().min(u32::MAX.into()) as u32).to_le_bytes()
}

fn put_socket(out: &mut Vec<u8>, address: SocketAddr) {
    out.extend(address.port().to_le_bytes());
    put_address(out, address.ip());
}

fn socket(fields: &mut Fields<'_>) -> Result<SocketAddr, ProtocolError> {
    let port = fields.u16()?;
    Ok(SocketAddr::new(fields.address()?, port))
}

/// Takes what writes a group of TLVs that stay together.
pub(super) type Group<'a> = dyn FnMut(&mut dyn FnMut(&mut Vec<u8>)) + 'a;

/// Hands over a site's groups of TLVs: its head, then each prefix with its registrations.
pub(super) fn put_site(site: &SiteStatus, group: &mut Group<'_>) {
    group(&mut |out| {
        put(out, kind::SITE, |out| {
            out.push(if site.keyed { KEYED } else { 0 } | if site.denied { DENIED } else { 0 });
            out.extend(site.name.as_bytes());
        });
        for etr in &site.etrs {
            put(out, kind::ADDRESS, |out| {
                out.push(if etr.is_ipv4() { 32 } else { 128 });
                put_address(out, *etr);
            });
        }
        if let Some(refused) = &site.refused {
            put(out, kind::REFUSAL, |out| {
                out.push(refused.key);
                out.extend(seconds(refused.ago));
                put_socket(out, refused.source);
                out.extend(refused.reason.as_bytes());
            });
        }
    });
    for prefix in &site.prefixes {
        group(&mut |out| {
            entry::put_instance(out, prefix.eid.instance);
            entry::put_prefix(out, prefix.eid.prefix);
            for xtr in &prefix.xtrs {
                put_xtr(out, xtr);
            }
        });
    }
}

fn put_xtr(out: &mut Vec<u8>, xtr: &XtrStatus) {
    put(out, kind::XTR, |out| {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let answers = flag(xtr.proxy, PROXY) | flag(xtr.merge, MERGE) | flag(xtr.signs, SIGNS);
        out.push(flag(xtr.xtr_id.is_some(), XTR_ID) | answers);
        out.push(xtr.key);
        out.extend(seconds(xtr.since));
        out.extend(seconds(xtr.left));
        out.extend(xtr.ttl.to_wire().to_le_bytes());
        out.extend(xtr.xtr_id.unwrap_or_default());
        out.extend(xtr.site_id.to_le_bytes());
        put_socket(out, xtr.source);
    });
    for &locator in &xtr.locators {
        entry::put_locator(out, &EntryLocator { locator, up: false, bad: false });
    }
}

/// Appends NEXT.
pub(super) fn put_next(out: &mut Vec<u8>, next: u32) {
    put(out, kind::NEXT, |out| out.extend(next.to_le_bytes()));
}

/// Reads NEXT.
pub(super) fn next(mut fields: Fields<'_>) -> Result<u32, ProtocolError> {
    let next = fields.u32()?;
    fields.end()?;
    Ok(next)
}

/// Collects the TLVs of an answer as they come.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) page: SitesPage,
    instance: InstanceId,
}

impl Collected {
    /// Takes the next TLV of an answer.
    pub(super) fn take(&mut self, kind: u16, mut fields: Fields<'_>) -> Result<(), ProtocolError> {
        match kind {
            kind::SITE => {
                let flags = fields.u8()?;
                self.page.sites.push(SiteStatus {
                    name: fields.text()?.to_owned(),
                    keyed: flags & KEYED != 0,
                    denied: flags & DENIED != 0,
                    etrs: Vec::new(),
                    prefixes: Vec::new(),
                    refused: None,
                });
            }
            kind::ADDRESS => {
                let _length = fields.u8()?;
                let etr = fields.address()?;
                self.site()?.etrs.push(etr);
            }
            kind::REFUSAL => {
                let (key, ago) = (fields.u8()?, Duration::from_secs(fields.u32()?.into()));
                let source = socket(&mut fields)?;
                let reason = fields.text()?.to_owned();
                self.site()?.refused = Some(RefusalStatus { reason, source, key, ago });
            }
            kind::IID => self.instance = entry::instance(fields)?,
            kind::EID => {
                let prefix: Prefix = entry::prefix(fields)?;
                let eid = EidPrefix { instance: self.instance, prefix };
                self.site()?.prefixes.push(SitePrefix { eid, xtrs: Vec::new() });
            }
            kind::XTR => {
                let xtr = xtr(fields)?;
                self.prefix()?.xtrs.push(xtr);
            }
            kind::RLOC => {
                let EntryLocator { locator, .. } = entry::locator(fields)?;
                let xtr = self.prefix()?.xtrs.last_mut();
                xtr.ok_or(ProtocolError::Value("an RLOC comes before its XTR"))?.locators.push(locator);
            }
            kind::NEXT => self.page.next = Some(next(fields)?),
            other if other & kind::MANDATORY != 0 => return Err(ProtocolError::Unknown(other)),
            _ => {}
        }
        Ok(())
    }

    fn site(&mut self) -> Result<&mut SiteStatus, ProtocolError> {
        self.page.sites.last_mut().ok_or(ProtocolError::Value("a TLV comes before its SITE"))
    }

    fn prefix(&mut self) -> Result<&mut SitePrefix, ProtocolError> {
        self.site()?.prefixes.last_mut().ok_or(ProtocolError::Value("a TLV comes before its EID"))
    }
}

fn xtr(mut fields: Fields<'_>) -> Result<XtrStatus, ProtocolError> {
    let (flags, key) = (fields.u8()?, fields.u8()?);
    let mut seconds = || fields.u32().map(|seconds| Duration::from_secs(seconds.into()));
    let (since, left) = (seconds()?, seconds()?);
    let ttl = Ttl::from_wire(fields.u32()?);
    let (xtr_id, site_id) = (fields.array()?, fields.u64()?);
    let source = socket(&mut fields)?;
    fields.end()?;
    Ok(XtrStatus {
        xtr_id: (flags & XTR_ID != 0).then_some(xtr_id),
        site_id,
        source,
        key,
        since,
        left,
        proxy: flags & PROXY != 0,
        merge: flags & MERGE != 0,
        signs: flags & SIGNS != 0,
        ttl,
        locators: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::message::Tlvs;

    #[test]
    fn what_is_written_reads_back() {
        let eid = |text: &str, instance: u32| EidPrefix {
            instance: InstanceId::new(instance).unwrap(),
            prefix: text.parse().unwrap(),
        };
        let locator = Locator { local: true, ..Locator::unicast([203, 0, 113, 1].into(), 1, 50) };
        let plain = XtrStatus {
            xtr_id: None,
            site_id: 0,
            source: "[2001:db8::1]:4342".parse().unwrap(),
            key: 2,
            since: Duration::from_secs(70),
            left: Duration::from_secs(110),
            proxy: true,
            merge: false,
            signs: false,
            ttl: Ttl::Minutes(1440),
            locators: vec![locator, Locator { reachable: false, ..Locator::unicast([203, 0, 113, 2].into(), 255, 0) }],
        };
        let named = XtrStatus {
            xtr_id: Some([7; 16]),
            site_id: 9,
            merge: true,
            signs: true,
            proxy: false,
            locators: Vec::new(),
            ..plain.clone()
        };
        let refused = RefusalStatus {
            reason: "site-register-bad-authentication".to_owned(),
            source: "203.0.113.9:61000".parse().unwrap(),
            key: 1,
            ago: Duration::from_secs(3),
        };
        let prefixes = vec![
            SitePrefix { eid: eid("192.0.2.0/24", 0), xtrs: vec![plain, named] },
            SitePrefix { eid: eid("2001:db8:1::/48", 77), xtrs: Vec::new() },
        ];
        let first = SiteStatus {
            name: "one".to_owned(),
            keyed: true,
            denied: false,
            etrs: vec![[203, 0, 113, 7].into()],
            prefixes,
            refused: Some(refused),
        };
        let second = SiteStatus { denied: true, keyed: false, refused: None, ..first.clone() };
        let page = SitesPage { sites: vec![first, second], next: Some(2) };
        let mut octets = Vec::new();
        for site in &page.sites {
            put_site(site, &mut |write| write(&mut octets));
        }
        put_next(&mut octets, 2);
        let mut collected = Collected::default();
        for tlv in Tlvs(&octets) {
            let (kind, fields) = tlv.unwrap();
            collected.take(kind, fields).unwrap();
        }
        assert_eq!(collected.page, page);
        let mut lost = Collected::default();
        let (kind, fields) = Tlvs(&octets).nth(1).unwrap().unwrap();
        assert_eq!(lost.take(kind, fields), Err(ProtocolError::Value("a TLV comes before its SITE")));
    }
}
