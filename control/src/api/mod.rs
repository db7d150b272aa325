//! The mapping API: what OpenLISP's mapping socket offered, over a Unix socket (version 1).
//!
//! `SOCK_SEQPACKET`; one datagram is one message of at most [`MESSAGE_MAX`] octets: a [`Header`] and TLVs. Integers are
//! little-endian and fixed-width, without padding; addresses are LISP-encoded (AFI and address in network order).
//!
//! | op | request | reply |
//! |---|---|---|
//! | 1 ADD | EID, \[IID\], \[TABLE\], \[MAPPING\], RLOC… | –; EEXIST if exactly the prefix is there |
//! | 2 DELETE | EID, \[IID\], \[TABLE\], \[MUST_GEN\] | the entry as it was; ENOENT |
//! | 3 CHANGE | as ADD, \[MUST_GEN\] | –; replaces an entry, whose counters stay; ENOENT, EAGAIN |
//! | 4 GET | EID, \[IID\], \[TABLE\] | the entry of the longest match, or of exactly the prefix if the EID's mask is shorter than an address |
//! | 4 GET with DUMP | \[TABLE\], \[IID\] | all entries, ascending, in messages that are made one by one; all but the last have MORE |
//! | 6 REACH, 7 BADREACH | one RLOC, or EID and \[IID\]; \[REACH_INFO\] | STAT: how many locators |
//! | 8 SUBSCRIBE | FILTER… | – |
//! | 9 FLUSH | \[TABLE\], \[IID\] | STAT: how many entries |
//! | 10 STATS | – | STAT and NAME each: every counter, summed over workers |
//! | 10 STATS | DETAIL | see below |
//! | 13 HELLO | – | TEXT: program and version |
//! | 0x4000 RELOAD | – | STAT: how many things changed in the configuration, which is read again |
//! | 0x4001 TRACE | TRACE, \[EID\], \[IID\], \[FROM\], REASON… | –; packets come as events; EBUSY while another client's trace runs |
//! | 0x4002 CLEAR | CLEAR | STAT: with how many BGP neighbours sessions begin anew, or routes are exchanged again; ENOENT |
//!
//! TABLE is the cache if not given. An entry is TABLE, IID, EID, MAPPING, \[EXPIRY\], \[VOLUME\], RLOC…, in this order and
//! never spread over two messages. A refusal is a reply with errno set (Linux numbers) and TEXT, and nothing has changed
//! then. Operations that this version does not offer are refused with EOPNOTSUPP.
//!
//! # Changes
//!
//! What a client puts in stays until it is taken out, or for as long as its MAPPING says, and no Map-Reply replaces it. Of a
//! MAPPING in a request the flags (1 NEGATIVE: no RLOCs, but ACT; 2 authoritative; 4 EPHEMERAL: it goes with the connection;
//! 8 FOREIGN), ttl_s, version and ACT count; of an RLOC priorities, weights, the flags R and L, and the address. Without
//! MAPPING it is a mapping with RLOCs that stays. What lies inside an EID-prefix of our own is no place for it: EINVAL.
//!
//! An entry of the database is one of our own mappings: registered, announced to the ALT, steered, answered for, and told to
//! those who send to us, as if the configuration named it, and refused (EINVAL) where the configuration would be. Its ttl_s is
//! the Record TTL, a day if that is 0: it stays until it is taken out. It has RLOCs, at least one of them ours unless FOREIGN;
//! L and R of RLOCs of ours are the router's to know. What was learned of other sites inside it leaves. RELOAD makes of each
//! prefix that the configuration names what that says; what clients put in beside it stays (origin 7), and goes when the router
//! ends. What is EPHEMERAL goes with its connection; what the configuration says in its place is so again. Clients have at most
//! 4096 of these (ENOSPC), and a change of one costs work for all: many go in batches. FLUSH of the database undoes what clients made of
//! it: what they changed is as the configuration says, what they put in leaves, and each is told by an event of its own, CHANGE or
//! DELETE, when it is its turn: 256 at a time, and so goes what is EPHEMERAL. Until then it is there; what is changed after FLUSH was
//! asked for stays. What they took out comes back with RELOAD alone. With ALL it is refused (EOPNOTSUPP): nobody empties it of
//! what the configuration says. Where map-versions are on, what is again as the configuration says has the version after the one
//! that peers know if its locators are others, also after a RELOAD of what it said before.
//!
//! The generation in a reply grows with each change of a table. MUST_GEN is the generation of a reply in which the client saw
//! the entry: EAGAIN if it has changed since, or if that can no longer be told, which takes 65,536 other changes.
//!
//! BADREACH takes a locator out of use in every mapping that has it, whatever probes say, until REACH takes that back. FLUSH
//! spares static entries unless its header has the flag ALL (0x100). It goes over the table in slices, and its reply comes at the
//! end; what comes into the table meanwhile may go too.
//!
//! # Batches
//!
//! ADD, CHANGE and DELETE with the flag ATOMIC (0x10) are a batch: all with MORE (2) too but the last, at most [`BATCH_MAX`].
//! Only the last is answered, so a client sends them all and reads one reply. The batch is verified first, each operation as if
//! those before it were done; then all is done before anything else, or nothing. STAT says how many operations there were. A
//! refusal has FAILED, the sequence of the first message that could not be done, and errno and TEXT are about that one. One
//! that no batch may have (EINVAL) or is one too many (ENOSPC) spoils the batch: the rest is read and forgotten. So may a
//! client end one that it no longer wants; the end of the connection does too. A batch is about one table: EINVAL for the first
//! operation on the other. TRIAL in one of its messages has all of it verified and nothing done. Messages without ATOMIC that
//! come in between are no part of it, and are done and answered at once.
//!
//! The reply to a trial has AHEAD: how many more entries the table would have that the next batches must not push out. Beside the TRIAL of another batch, which
//! names other prefixes, it has that one's room reckoned as if this one were done. So many batches are tried before the first
//! is done; others may change the table meanwhile, so each may be refused all the same.
//!
//! A prefix may be named several times; what it is in the end is what happens to it, and what is told: DELETE and ADD of one
//! that was there are one CHANGE, which keeps its counters. A MUST_GEN after another operation on the prefix is EAGAIN. No
//! entry that is put in gives way to another of its batch, so what is new must find room before what is taken out leaves
//! (ENOSPC). What goes in goes in more-specifics first, what goes out leaves after that and less-specifics first: a packet
//! takes the way that the table had before or the one that it has after, never one that neither has. In a full table what gives
//! way leaves first, and a packet to it may for a moment take the way of a less-specific entry that is about to be replaced.
//!
//! The socket `map-ro.sock` is for everybody; whoever comes by it may only read: EPERM. So may, at the other one, users that are
//! neither root nor the router's own nor of the socket's group, should somebody have opened its file to them.
//!
//! # Events
//!
//! SUBSCRIBE replaces the connection's filters; none ends the subscription. An event has the flag EVENT and no sequence, and
//! comes in order with the replies of its connection: one that comes before a message of a dump is older than what that tells, one
//! that comes after it is newer. An event has the whole entry, so applying an older one again does no harm.
//! A client's own changes are told to it only if the flag ECHO-ME (0x40) was set.
//!
//! So SUBSCRIBE and a dump after it leave no gap. The table may change between the messages of a dump: an entry that is there
//! all the while comes exactly once, one that comes, changes or leaves is told by an event at its place. Who takes entries and
//! events in as they come has the router's table in the end, and so has who takes the events in, in their order, after the
//! whole dump. All messages of a dump have the generation of its beginning, so that MUST_GEN counts what changed during the
//! dump as changed.
//!
//! | op | TLVs | |
//! |---|---|---|
//! | ADD, CHANGE | an entry | whoever did it: a Map-Reply, the operator, a client |
//! | DELETE | TABLE, IID, EID | with the flag EXPIRED (0x80) if its time was over |
//! | FLUSH | TABLE, \[IID\] | of the cache, when it begins, instead of a DELETE for each; an entry that has been told so and gets a new mapping comes with ADD, or after 65,536 other changes meanwhile with CHANGE: who keeps a copy takes both alike; with ALL if static entries (origin 1) and those of NAT traversal (origin 129) go too. Who flushes and follows by events sets ECHO-ME, to see where it began |
//! | MISS | TABLE, IID, EID, MISS_INFO, \[FROM\], \[PACKET\] | packets find no mapping (reason 1), or one that says to ask (3); or a mapping in use nears its end or is in doubt (2): to be answered by ADD or CHANGE |
//! | REACH, BADREACH | RLOC, REACH_INFO | a locator is used again, or no more |
//! | STALE | TABLE, IID, EID, STALE_INFO | where map-versions are on: a packet has shown that our copy of a mapping is old (1), which is asked for, or a peer's copy of a mapping of ours (2), which is sent an SMR |
//! | LSBITS | TABLE, IID, EID, STATUS_BITS | where status bits are on: packets carry others than before |
//!
//! Events of a connection are numbered one by one from the generation in the reply to SUBSCRIBE; the number stands in
//! their generation. [`RING`] events wait for a client that is slow. Then the oldest MISS gives way, which leaves a gap in the
//! numbers; if there is none, all go, and the next event has the flag OVERRUN (0x20): the client must dump again. MISS comes
//! once a second for an EID, a thousand times a second in all, or as often as the FILTER says; MISS_INFO counts what was left
//! out. It has the EID, and where the first packet came from; with detail 1 of the FILTER also the IP header of a packet and the 8
//! octets behind it, with detail 2 the packet as it came, as PACKET. Workers hand such copies over only while somebody wants them,
//! some in each turn: where there was none PACKET is missing. The packet itself stays with its worker, which may hold it
//! until the answer comes. Detail 2 is not for clients that may only read: EPERM.
//!
//! FILTER: u32 operations (bit n for operation n), u32 IID or 0xffffffff for all, u32 MISS events a second or 0, u8 TABLE, u8
//! detail of MISS, then a prefix as in EID, or four zeros for all. An event comes if one of the filters takes it; verdicts on
//! locators belong to no table, instance or prefix. The state in REACH_INFO is that of a LOCATOR below. STALE_INFO: u8 which, u16
//! version seen, u16 version of ours, address of the peer.
//!
//! # Traces
//!
//! TRACE has packets shown with what became of them: those that meet all that the request names. EID is a prefix that one end
//! of the packet is in, of the inner packet where there is one; FROM an end of its outer header; each REASON the name of a drop
//! counter. They come as events with the operation TRACE, each with some TRACED; the last event has TRACE_END. A TRACE with
//! count 0 ends the trace; so does the end of the connection. Packets are private: it takes the right to write.
//!
//! # TLVs beyond the specification
//!
//! Types 0x4000 to 0x7fff are Altitude's own. Their high bit is clear, so that a client that does not know them skips
//! them. So is 0xc000, whose high bit is set: who does not know TRIAL refuses it.
//!
//! | type | name | value |
//! |---|---|---|
//! | 0x4000 | DETAIL | in a STATS request: u8 1 counters by scope, 2 ports, 3 tunnels, sources and static routes of the ALT, 4 the BGP speaker and its neighbours, 5 BGP routes, 6 registrations with Map-Servers, 7 sites of our Map-Server, 8 locators of other sites, 9 PubSub subscriptions, 10 xTRs behind NATs |
//! | 0x4001 | NAME | stable name (UTF-8) of the STAT before it |
//! | 0x4002 | SCOPE | u8 kind (1 worker, 2 control thread), u16 number; holds for the STATs after it |
//! | 0x4003 | EXPIRY | u32 seconds until the entry leaves; absent if it stays |
//! | 0x4004 | VOLUME | u64 octets that the entry carried |
//! | 0x4005 | FROM | address that a packet which missed came from |
//! | 0x4006 | STATUS_BITS | u32 bits, bit i for the locator of ordinal i; u8 how many there was room for; address of the peer |
//! | 0x4007 | FAILED | u64 sequence of the message for which a batch was refused |
//! | 0x4010 | PORT | u32 interface index, u8 roles (1 site, 2 core), u8 flags (1 up, 2 zero-copy, 4 address known), u16 MTU, u32 IID, 6 octets of MAC address, name; the STATs after it are the port's |
//! | 0x4011 | TUNNEL | u8 flags (1 key, 2 checksum, 4 up), u32 key, local and remote address, name; the ADDRESSes and STATs after it are the tunnel's |
//! | 0x4012 | ADDRESS | u8 prefix length, address |
//! | 0x4013 | ROUTE | u8 kind (0 discard, 1 tunnel), the tunnel's name; comes after the IID and EID it routes |
//! | 0x4014 | SOURCE | u8 flags (1 ready), u64 prefixes, name of a source of EID routes; comes after the IID it serves |
//! | 0x4020 | SPEAKER | u8 flags (1 restarting), u32 AS, 4 octets of BGP Identifier |
//! | 0x4021 | NEIGHBOR | u8 state (0 Idle … 5 Established), u8 flags (1 was down, 2 waits to retry, 4 has stale routes), u32 AS, u32 IID, u32 each: seconds in this state, since the last end, until the retry, until stale routes go; u64 prefixes received, u64 advertised, its and our address, name; the TLVs up to the next NEIGHBOR are its own |
//! | 0x4022 | THROUGH | name of the neighbour's tunnel |
//! | 0x4023 | REASON | text: why the neighbour's last session ended, why a route is not the best, or why not everything is registered |
//! | 0x4024 | SESSION | 4 octets of the neighbour's BGP Identifier, u16 hold time in seconds, names of capabilities with blanks between |
//! | 0x4025 | PATH | u8 flags (1 best, 2 stale, 4 MED given), u8 origin (1 local, 2 aggregate, 3 neighbour), u32 MED, the neighbour's name; comes after the IID and EID of the route |
//! | 0x4026 | AS-PATH | text |
//! | 0x4027 | COMMUNITIES | u32 each |
//! | 0x4028 | CURSOR | u32 IID, u8 prefix length, address |
//! | 0x4029 | CLEAR | u8 flags (1 soft: the session stays, 2 all neighbours), unless all are meant the name or address of one |
//! | 0x4030 | REGISTRATION | u8 standing (0 waiting, 1 registered, 2 silent, 3 wrong key, 4 partial), u8 flags (1 a Map-Notify came), u64 each: seconds in this standing, Map-Registers sent, Map-Notifies that answered one, seconds since the last; the Map-Server's address; the TLVs up to the next REGISTRATION are its own |
//! | 0x4031 | REMEDY | text: what to do about the REASON before it |
//! | 0x4032 | REGISTERED | u8 standing (0 waiting, 1 registered, 2 refused, 3 silent), u64 seconds in it; comes after the IID and EID |
//! | 0x4040 | SITE | u8 flags (1 has keys, 2 denied), name; the TLVs up to the next SITE are its own: an ADDRESS for each fixed ETR, REFUSAL, then IID and EID of each prefix with its XTRs |
//! | 0x4041 | REFUSAL | u8 Key ID, u32 seconds since, u16 port and address it came from, name of the fault: the last Map-Register refused |
//! | 0x4042 | XTR | u8 flags (1 has an xTR-ID, 2 proxy, 4 merge), u8 Key ID, u32 each: seconds since, seconds left, Record TTL in minutes; 16 octets of xTR-ID, u64 Site-ID, u16 port and address it registers from; the RLOCs after it are its locators |
//! | 0x4043 | NEXT | u32 place of a site: in a request where to begin, in an answer where the next page does |
//! | 0x4050 | LOCATOR | u8 flags (1 up, 2 probed, 4 RTT known, 8 held down), u8 what probes say (0 unknown, 1 up, 2 mute, 3 down, 4 held down), u32 each: seconds since, RTT and its variation in microseconds, mappings that have it, mappings with flows to it; u64 each: probes sent, answered, lost; address; why |
//! | 0x4051 | AFTER | address: behind which locator to begin; in an answer with more to come, the last one |
//! | 0x4060 | TRACE | u64 packets at most, u32 milliseconds at most, u16 ports (bit n for port n), u16 octets of each packet, u8 flags (1 dropped ones alone) |
//! | 0x4061 | TRACED | u64 nanoseconds since 1970, u8 port, u8 0 in or 1 out by it, u8 0 arrived, 1 was held, 2 part of one that was split; u8 verdict (1 encapsulated, 2 decapsulated, 3 re-encapsulated, 4 native, 5 split, 6 held for a mapping, 7 held for a neighbour, 8 dropped, 9 an ICMP error of ours), u8 port it leaves by or 255, u32 length, u32 IID, address (RLOC, or EID that is missing; AFI 0: none), u8 length of the reason, reason, octets |
//! | 0x4062 | TRACE_END | u64 packets shown, u64 packets that found no room |
//! | 0x4070 | SUBSCRIPTION | u8 flags (1 ours, 2 ends unless something is registered, 4 of another xTR), u8 standing (0 asking, 1 live, 2 refused, 3 silent; 4 unconfirmed, 5 confirmed, 6 unacknowledged), u32 each: seconds in it, seconds left; u64 each: last nonce, Map-Notifies taken in or prefixes that wait; 16 octets of xTR-ID, u64 Site-ID; the IID, the EID and the ADDRESSes (Map-Server, or ITR-RLOCs) after it are its own |
//! | 0x4080 | BINDING | u8 flags (1 verified), u16 each: translated port, the xTR's own port; u32 each: seconds since its first and its last Map-Register; u64 nonce of the last, 16 octets of xTR-ID, u64 Site-ID; three ADDRESSes after it are the translated one, our RLOC and the xTR's own, and each IID and EID after these is behind it |
//! | 0x4071 | SUBSCRIPTIONS_AFTER | u8 which (1 ours, 2 another xTR's, 3 an unconfirmed one), 16 octets of xTR-ID, u64 Site-ID or place of an unconfirmed one, u32 IID, u8 prefix length, address: the last of a page, if there are more; in the next request it asks for what comes after |
//! | 0x4081 | AHEAD | i32 entries more than there are that no batch after it is to push out: of a trial and its reply |
//! | 0x4082 | BINDINGS_AFTER | 16 octets of xTR-ID, u16 translated port, the xTR's own and its translated address: the last of a page, as SUBSCRIPTIONS_AFTER |
//! | 0xc000 | TRIAL | nothing: of a batch |
//!
//! Locators come in pages, of which all but the last have AFTER at their end. BGP routes come in pages, as there may be a
//! million: an answer ends with a CURSOR if there are more, and the same CURSOR in the next request asks for the next page.
//! With an EID (and IID) only the routes to exactly that prefix come.
//!
//! The counter id of a STAT numbers the names within one answer; the NAME is what identifies a counter.

#![forbid(unsafe_code)]

mod batch;
mod bgp;
mod changes;
pub mod client;
mod entry;
mod event;
mod locators;
mod message;
mod misses;
mod nat;
mod operation;
mod registration;
mod request;
mod server;
mod session;
mod sites;
mod status;
mod subscriptions;
mod trace;
mod work;
mod write;

use std::{
    borrow::Cow,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use altitude_dataplane::mapping::{Action, EidPrefix, InstanceId, Locator, MacAddress, Mapping, Ttl};

pub use batch::{BATCH_MAX, Batch, Checks, Failed, too_long};
pub use bgp::{BgpRoute, BgpStatus, NeighborStatus, RouteOrigin, RoutesAsked, STATES, SessionStatus, SpeakerStatus};
pub use changes::Changes;
pub use event::{Event, Filter, Method, MissDetail, MissReason, Stale};
pub use locators::{LocatorStatus, PROBE_STATES, ProbingStatus};
pub use message::{FLAGS, Flags, HEADER, Header, MESSAGE_MAX, Op, ProtocolError};
pub use misses::Misses;
pub use nat::{BindingStatus, BindingsAfter, BindingsPage};
pub use operation::{Asker, Done, Judged, Offer, Operation, Outcome, RLOCS_MAX, Refused, Rights};
pub use registration::{PREFIX_STANDINGS, PrefixStatus, RegistrationStatus, STANDINGS};
pub use server::{Conduct, Places, Router, View, handle, next_page};
pub use session::{FILTERS_MAX, RING, Session};
pub use sites::{RefusalStatus, SitePrefix, SiteStatus, SitesPage, XtrStatus};
pub use subscriptions::{SUBSCRIPTION_STANDINGS, SubscriptionStatus, SubscriptionsAfter, SubscriptionsPage};
pub use trace::{SNAPLEN_MAX, TRACE_LONGEST, TraceAsk, TraceEnd, TraceNews, TracePages, TraceVerdict, Traced};

/// Which table an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Mappings of other sites.
    Cache,
    /// Our own mappings.
    Database,
}

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The operator.
    Static,
    /// A Map-Reply.
    MapReply,
    /// A Map-Notify of a Map-Server that we subscribed at.
    PubSub,
    /// A client of this API.
    Api,
    /// Nobody answered; this stops asking for a while.
    GivenUp,
    /// NAT traversal.
    Nat,
}

impl Origin {
    /// Stable name, as `show map-cache` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::MapReply => "map-reply",
            Self::PubSub => "pubsub",
            Self::Api => "api",
            Self::GivenUp => "given-up",
            Self::Nat => "nat",
        }
    }
}

/// One mapping of a table, with its use.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Table it is in.
    pub table: Table,
    /// EIDs it speaks of.
    pub eid: EidPrefix,
    /// Record TTL; `None` if the record names none.
    pub ttl: Option<Duration>,
    /// Time until it leaves, whole seconds; `None` if it stays.
    pub left: Option<Duration>,
    /// Map-Version; 0 is none.
    pub version: u16,
    /// What is done without locators.
    pub action: Action,
    /// An ETR of the site itself said so.
    pub authoritative: bool,
    /// It goes with the client's connection that put it in.
    pub ephemeral: bool,
    /// Who said so.
    pub origin: Origin,
    /// Packets that used it.
    pub packets: u64,
    /// Their inner octets.
    pub octets: u64,
    /// When it came, whole milliseconds.
    pub created: SystemTime,
    /// When it was last used, whole milliseconds, if known.
    pub used: Option<SystemTime>,
    /// Locators in wire order; none makes it negative.
    pub locators: Vec<EntryLocator>,
}

/// One locator of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryLocator {
    /// As the record has it.
    pub locator: Locator,
    /// Packets can be sent to it now: usable, with a route and a next hop.
    pub up: bool,
    /// A client said that it is not to be used (BADREACH).
    pub bad: bool,
}

impl Entry {
    /// An entry that was not used yet and stays. `up` tells of each RLOC whether packets can be sent to it.
    #[must_use]
    pub fn new(
        table: Table,
        mapping: &Mapping,
        origin: Origin,
        created: SystemTime,
        up: impl Fn(IpAddr) -> bool,
    ) -> Self {
        let ttl = match mapping.ttl {
            Ttl::Minutes(minutes) => Some(Duration::from_secs(u64::from(minutes) * 60)),
            Ttl::Remove | Ttl::ReceiverDecides => None,
        };
        let locators = mapping.locators.iter();
        Self {
            table,
            eid: mapping.eid,
            ttl,
            left: None,
            version: mapping.version,
            action: mapping.action,
            authoritative: mapping.authoritative,
            ephemeral: false,
            origin,
            packets: 0,
            octets: 0,
            created,
            used: None,
            locators: locators.map(|&locator| EntryLocator { locator, up: up(locator.address), bad: false }).collect(),
        }
    }
}

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A worker, by its number.
    Worker(u16),
    /// The control thread.
    Control,
}

/// A counter's stable name and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Stable name; at most 255 octets.
    pub name: Cow<'static, str>,
    /// Value.
    pub value: u64,
}

impl Stat {
    /// A counter of this program.
    #[must_use]
    pub const fn new(name: &'static str, value: u64) -> Self {
        Self { name: Cow::Borrowed(name), value }
    }
}

/// All that one scope counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Who counts.
    pub scope: Scope,
    /// The counters, those at zero included.
    pub stats: Vec<Stat>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStatus {
    /// Interface name.
    pub name: String,
    /// Interface index; 0 while the interface is gone.
    pub index: u32,
    /// Packets from it are encapsulated.
    pub site: bool,
    /// LISP packets from it are decapsulated.
    pub core: bool,
    /// Packets from it to EIDs that we attract are encapsulated.
    pub native: bool,
    /// Instance of the site's packets.
    pub instance: InstanceId,
    /// Up and with carrier.
    pub up: bool,
    /// Every worker's socket on it is bound zero-copy.
    pub zero_copy: bool,
    /// Largest IP packet, octets.
    pub mtu: u16,
    /// Own link-layer address.
    pub mac: Option<MacAddress>,
    /// Packets and octets in and out, and what the kernel says of the rings.
    pub stats: Vec<Stat>,
}

impl PortStatus {
    /// What it is for, as operators read it.
    #[must_use]
    pub const fn roles(&self) -> &'static str {
        match (self.site, self.core, self.native) {
            (true, true, _) => "site+core",
            (true, false, _) => "site",
            (false, true, true) => "core+native",
            (false, false, true) => "native",
            (false, _, false) => "core",
        }
    }
}

/// One tunnel of the ALT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelStatus {
    /// Name, as routes use it.
    pub name: String,
    /// Our end.
    pub local: IpAddr,
    /// Far end.
    pub remote: IpAddr,
    /// GRE key.
    pub key: Option<u32>,
    /// GRE checksum.
    pub checksum: bool,
    /// Packets pass, as far as is known.
    pub up: bool,
    /// Addresses of the interface with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What was counted on it.
    pub stats: Vec<Stat>,
}

/// One route of the ALT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteStatus {
    /// EIDs it leads to.
    pub eid: EidPrefix,
    /// A tunnel's name; `None` is a hole.
    pub via: Option<String>,
}

/// Where EID routes of one instance come from, beside static ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Whose.
    pub instance: InstanceId,
    /// `static`, `embedded` or `netlink:table=N`.
    pub source: String,
    /// It was read, or has nothing left to wait for.
    pub ready: bool,
    /// Prefixes it has, static ones included.
    pub prefixes: u64,
}

/// Tunnels, sources and static routes of the ALT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AltStatus {
    /// In the order of the configuration.
    pub tunnels: Vec<TunnelStatus>,
    /// Ascending by instance.
    pub sources: Vec<SourceStatus>,
    /// The static ones. Ascending by prefix.
    pub routes: Vec<RouteStatus>,
}

#[cfg(test)]
mod tests;
