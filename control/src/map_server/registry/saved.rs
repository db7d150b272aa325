//! The registry as octets, to survive a restart.
//!
//! ```text
//! magic ─ frames: xTRs, registrations, floors ─ END          a snapshot: whole, or not believed
//!       ─ frames: what changed since its start               the journal: what a crash tore off its end is left out
//! frame  | length of payload (32) | CRC-32 of payload (32) | kind (8) | … |
//! ```
//!
//! Subscriptions stand behind the end of the snapshot (`subscriptions/saved`).
//! A registration is written as the Map-Register that would make it, an xTR with its last nonces. Integers are big-endian.
//! A site is known by a hash of its name; what no longer fits the configuration is left out: sites, prefixes, keys that are gone.
//! A renewal alone is not written into the journal: the next snapshot has it, long before the registration ends.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};
use sha2::{Digest, Sha256};

use super::{
    super::{Output, SiteId},
    New, News, Registry, TIMEOUT, XTRS_MAX,
    table::{Last, Registrant, Table, Who, flag},
};
use crate::wire::{MapRegister, Message};

/// How such a file starts; the last octet is the version of the format.
pub const MAGIC: [u8; 8] = *b"ALTMAPS\x01";

const XTR: u8 = 1;
const REGISTRATION: u8 = 2;
const FLOOR: u8 = 3;
const GONE: u8 = 4;
const END: u8 = 5;
/// A subscription, which is not the registry's; all of them are behind the end of the snapshot.
pub(in crate::map_server) const SUBSCRIPTION: u8 = 6;
/// The mark of a One-Time Key that a subscription was asked for with; these stand there too.
pub(in crate::map_server) const USED: u8 = 7;

/// Why a file is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It is something else, or of another version.
    #[error("it is not a state file of this version")]
    Magic,
    /// A frame is cut off, has a wrong checksum or makes no sense.
    #[error("it is damaged at octet {0}")]
    Frame(usize),
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// xTRs with their nonces.
    pub xtrs: usize,
    /// Registrations that have not ended.
    pub registrations: usize,
    /// Subscriptions that live.
    pub subscriptions: usize,
    /// Frames that fit the configuration no longer, or had ended.
    pub left_out: usize,
    /// The end of the journal was torn off.
    pub torn: bool,
}

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    begun: bool,
    site: usize,
    xtr: u32,
    registration: u32,
    /// The registry's part is complete.
    pub(in crate::map_server) registered: bool,
    pub(in crate::map_server) subscription: u32,
    pub(in crate::map_server) used: u64,
}

/// A site's name as a number that stays.
pub(super) fn mark(name: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    digest.first_chunk().map_or(0, |start| u64::from_be_bytes(*start))
}

pub(in crate::map_server) fn frame(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; 8]);
    out.push(kind);
    write(out);
    let payload = &out[at + 8..];
    let (length, sum) = (payload.len() as u32, crc32fast::hash(payload));
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    out[at + 4..at + 8].copy_from_slice(&sum.to_be_bytes());
}

pub(in crate::map_server) fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend(v6.octets());
        }
    }
}

fn put_who(out: &mut Vec<u8>, who: Who) {
    match who {
        Who::Xtr(id) => {
            out.push(0);
            out.extend(id);
        }
        Who::Source(address) => put_address(out, address),
    }
}

pub(super) fn put_xtr(site: u64, xtr: &Registrant, out: &mut Vec<u8>) {
    frame(out, XTR, |out| {
        out.extend(site.to_be_bytes());
        put_who(out, xtr.who);
        out.extend(xtr.site_id.to_be_bytes());
        put_address(out, xtr.source.ip());
        out.extend(xtr.source.port().to_be_bytes());
        put_address(out, xtr.local);
        out.extend(xtr.heard.to_be_bytes());
        out.extend([xtr.key, u8::from(xtr.whole_mac)]);
        for last in &xtr.last {
            out.push(last.key);
            out.extend(last.nonce.to_be_bytes());
            out.extend(last.mac.to_be_bytes());
        }
    });
}

pub(super) fn put_floor(site: u64, floor: u64, out: &mut Vec<u8>) {
    frame(out, FLOOR, |out| {
        out.extend(site.to_be_bytes());
        out.extend(floor.to_be_bytes());
    });
}

pub(super) fn put_gone(site: u64, who: Who, eid: &EidPrefix, out: &mut Vec<u8>) {
    frame(out, GONE, |out| {
        out.extend(site.to_be_bytes());
        put_who(out, who);
        put_eid(out, eid);
    });
}

pub(in crate::map_server) fn put_eid(out: &mut Vec<u8>, eid: &EidPrefix) {
    out.extend(eid.instance.get().to_be_bytes());
    put_address(out, eid.prefix.address());
    out.push(eid.prefix.length());
}

pub(super) fn put_registration(site: u64, table: &Table, number: u32, out: &mut Vec<u8>) {
    let Some(registration) = table.registrations.get(number) else { return };
    let message = MapRegister {
        proxy: registration.has(flag::PROXY),
        security: registration.has(flag::SIGNS),
        merge: registration.has(flag::MERGE),
        ttl_timeout: registration.has(flag::BY_TTL),
        records: vec![table.mapping(registration)],
        ..MapRegister::default()
    };
    frame(out, REGISTRATION, |out| {
        out.extend(site.to_be_bytes());
        put_who(out, table.registrants[registration.registrant].who);
        out.push(registration.key);
        out.extend(registration.since.to_be_bytes());
        out.extend(table.expires(number).to_be_bytes());
        out.extend(message.encode());
    });
}

/// What is left to read of a payload.
pub(in crate::map_server) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(in crate::map_server) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(in crate::map_server) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(in crate::map_server) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(in crate::map_server) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[octet]| octet)
    }

    fn address_of(&mut self, family: u8) -> Option<IpAddr> {
        match family {
            4 => self.array::<4>().map(IpAddr::from),
            6 => self.array::<16>().map(IpAddr::from),
            _ => None,
        }
    }

    pub(in crate::map_server) fn address(&mut self) -> Option<IpAddr> {
        let family = self.u8()?;
        self.address_of(family)
    }

    fn who(&mut self) -> Option<Who> {
        match self.u8()? {
            0 => self.array().map(Who::Xtr),
            family => self.address_of(family).map(Who::Source),
        }
    }

    pub(in crate::map_server) fn eid(&mut self) -> Option<EidPrefix> {
        let instance = InstanceId::new(self.u32()?)?;
        let address = self.address()?;
        let prefix = Prefix::new(address, self.u8()?).ok()?;
        Some(EidPrefix { instance, prefix })
    }

    fn xtr(&mut self) -> Option<Registrant> {
        let (who, site_id) = (self.who()?, self.u64()?);
        let source = SocketAddr::new(self.address()?, u16::from_be_bytes(self.array()?));
        let (local, heard, key, whole_mac) = (self.address()?, self.u64()?, self.u8()?, self.u8()? != 0);
        let mut last = Vec::with_capacity(1);
        while !self.0.is_empty() {
            last.push(Last { key: self.u8()?, nonce: self.u64()?, mac: self.u64()? });
        }
        Some(Registrant { site: 0, who, site_id, source, local, last, key, whole_mac, heard, registrations: 0 })
    }
}

/// The frames of a file behind its magic, with their places. Ends with the first that is not whole.
struct Frames<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = (usize, u8, Fields<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut fields = Fields(self.octets.get(self.at..)?);
        let (length, sum) = (fields.u32()? as usize, fields.u32()?);
        let payload = fields.0.get(..length).filter(|payload| crc32fast::hash(payload) == sum)?;
        let next = self.at + 8 + length;
        let at = std::mem::replace(&mut self.at, next);
        let (kind, rest) = payload.split_first()?;
        Some((at, *kind, Fields(rest)))
    }
}

/// The frames of a whole file.
pub(in crate::map_server) fn frames(octets: &[u8]) -> impl Iterator<Item = (usize, u8, Fields<'_>)> {
    Frames { octets, at: MAGIC.len() }
}

impl Registry {
    /// Appends `count` more pieces of a snapshot; true when it is complete. What changes between two calls is in the journal,
    /// which belongs behind it.
    pub(in crate::map_server) fn snapshot(&self, at: &mut Cursor, count: usize, out: &mut Vec<u8>) -> bool {
        if !std::mem::replace(&mut at.begun, true) {
            out.extend(MAGIC);
        }
        for _ in 0..count {
            if at.site < self.states.len() {
                let state = &self.states[at.site];
                if state.floor > 0 {
                    put_floor(state.mark, state.floor, out);
                }
                at.site += 1;
            } else if at.xtr < self.table.registrants.places() {
                if let Some(xtr) = self.table.registrants.get(at.xtr) {
                    put_xtr(self.states[xtr.site as usize].mark, xtr, out);
                }
                at.xtr += 1;
            } else if at.registration < self.table.registrations.places() {
                if let Some(one) = self.table.registrations.get(at.registration) {
                    let site = self.table.registrants[one.registrant].site as usize;
                    put_registration(self.states[site].mark, &self.table, at.registration, out);
                }
                at.registration += 1;
            } else {
                frame(out, END, |_| {});
                return true;
            }
        }
        false
    }

    /// Takes in what a file says; nothing of it, if its snapshot is damaged.
    pub(in crate::map_server) fn restore(
        &mut self,
        now: Instant,
        octets: &[u8],
        todo: &mut Vec<Output>,
    ) -> Result<Restored, Damaged> {
        if !octets.starts_with(&MAGIC) {
            return Err(Damaged::Magic);
        }
        let frames = || Frames { octets, at: MAGIC.len() };
        let mut whole = frames();
        if !whole.any(|(_, kind, _)| kind == END) {
            return Err(Damaged::Frame(whole.at));
        }
        let mut sites: Vec<(u64, SiteId)> =
            self.states.iter().enumerate().map(|(index, state)| (state.mark, SiteId(index))).collect();
        sites.sort_unstable();
        let journal = self.journal.take();
        let (mut restored, mut told, mut reading) = (Restored::default(), Vec::new(), frames());
        for (_, kind, mut fields) in reading.by_ref() {
            if matches!(kind, END | SUBSCRIPTION | USED) {
                continue;
            }
            let site = fields
                .u64()
                .and_then(|mark| sites.binary_search_by_key(&mark, |(mark, _)| *mark).ok().map(|place| sites[place].1));
            let taken = site.and_then(|site| self.take_back(now, site, kind, fields, &mut told));
            restored.left_out += usize::from(taken.is_none());
        }
        restored.torn = reading.at < octets.len();
        restored.registrations = self.table.len();
        restored.xtrs = self.states.iter().map(|state| state.xtrs as usize).sum();
        // Everybody knows already.
        self.news = News::new(self.news.nonce());
        self.journal = journal;
        todo.extend(told.into_iter().filter(|output| matches!(output, Output::Announce(_) | Output::Withdraw(_))));
        Ok(restored)
    }

    /// Takes in one frame; `None` if it is not of use any more.
    fn take_back(
        &mut self,
        now: Instant,
        site: SiteId,
        kind: u8,
        mut fields: Fields<'_>,
        todo: &mut Vec<Output>,
    ) -> Option<()> {
        match kind {
            XTR => {
                let mut xtr = fields.xtr()?;
                xtr.site = site.0 as u32;
                xtr.last.retain(|last| self.sites[site.0].keys.iter().any(|key| key.id == last.key));
                if let Some(number) = self.table.registrant(xtr.site, xtr.who) {
                    xtr.registrations = self.table.registrants[number].registrations;
                    self.table.registrants[number] = xtr;
                } else if self.states[site.0].xtrs < XTRS_MAX {
                    self.states[site.0].xtrs += 1;
                    self.table.add_registrant(xtr);
                }
                Some(())
            }
            FLOOR => {
                let floor = fields.u64()?;
                self.states[site.0].floor = self.states[site.0].floor.max(floor);
                Some(())
            }
            REGISTRATION => self.take_registration(now, site, fields, todo),
            GONE => {
                let (who, eid) = (fields.who()?, fields.eid()?);
                let registrant = self.table.registrant(site.0 as u32, who)?;
                let (number, _) = self.table.chain(&eid).find(|(_, one)| one.registrant == registrant)?;
                self.forget(now, number, todo);
                Some(())
            }
            _ => None,
        }
    }

    fn take_registration(
        &mut self,
        now: Instant,
        site: SiteId,
        mut fields: Fields<'_>,
        todo: &mut Vec<Output>,
    ) -> Option<()> {
        let (who, key, since, expires) = (fields.who()?, fields.u8()?, fields.u32()?, fields.u64()?);
        let Ok(Message::MapRegister(message)) = Message::parse(fields.0) else { return None };
        let registrant = self.table.registrant(site.0 as u32, who)?;
        let (mapping, second) = (message.records.first()?, self.clock.second(now));
        // What has run out since is news to subscribers.
        self.changed.as_mut().into_iter().for_each(|changed| changed.push(mapping.eid));
        if expires <= second || !self.sites[site.0].keys.iter().any(|known| known.id == key) {
            return None;
        }
        self.check(site, Some(registrant), &message).ok()?;
        // A clock that was set back must not make it last longer than from now on.
        let latest = if message.ttl_timeout { u64::MAX } else { second + TIMEOUT.as_secs() };
        let new = New { mapping, registrant, key, flags: flag::of(&message), since, expires: expires.min(latest) };
        self.put(now, site, new, todo);
        Some(())
    }
}
