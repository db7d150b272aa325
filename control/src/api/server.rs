//! Requests in, replies out: no socket inside.

use std::{
    net::IpAddr,
    ops::{Bound, RangeBounds},
};

use altitude_dataplane::mapping::{Eid, EidPrefix};

use super::{
    AltStatus, Asker, BgpRoute, BgpStatus, BindingsAfter, BindingsPage, Counts, Done, Entry, LocatorStatus, MissDetail,
    Operation, Outcome, PortStatus, Refused, RegistrationStatus, Rights, RoutesAsked, Session, SitesPage, Stat,
    SubscriptionsAfter, SubscriptionsPage, Table, TraceAsk,
    batch::{Failed, batched, member},
    bgp, entry, locators,
    message::{Flags, HEADER, Header, MESSAGE_MAX, Op, ProtocolError, errno, kind, put},
    nat, registration,
    request::Request,
    session::FILTERS_MAX,
    sites,
    status::{self, Detail, Ids},
    subscriptions,
    work::{Dump, Work},
    write,
};

/// Places of a table, ascending by EID-prefix, and what is to be shown of each.
pub type Places<'a> = Box<dyn Iterator<Item = (EidPrefix, Option<Entry>)> + 'a>;

/// What the program knows, as the API asks for it.
pub trait View {
    /// Grows whenever a table changes.
    fn generation(&self) -> u64;

    /// The entries of a table, ascending by EID-prefix.
    fn entries(&self, table: Table) -> Box<dyn Iterator<Item = Entry> + '_>;

    /// The same, from this prefix on; `None` for what is in the table and to be shown to nobody.
    fn places_from(&self, table: Table, start: Bound<EidPrefix>) -> Places<'_> {
        let entries = self.entries(table).filter(move |entry| (start, Bound::Unbounded).contains(&entry.eid));
        Box::new(entries.map(|entry| (entry.eid, Some(entry))))
    }

    /// What every scope counts, workers first.
    fn counts(&self) -> Vec<Counts>;

    /// The ports in their order.
    fn ports(&self) -> Vec<PortStatus>;

    /// The ALT.
    fn alt(&self) -> AltStatus;

    /// At most `max` locators of the map-cache behind `after`, ascending; fewer only if there are no more.
    fn locators(&self, _after: Option<IpAddr>, _max: usize) -> Vec<LocatorStatus> {
        Vec::new()
    }

    /// The BGP speaker.
    fn bgp(&self) -> BgpStatus {
        BgpStatus::default()
    }

    /// At most `max` BGP routes, by prefix, those of one prefix together and the best first. More than `max` routes of one
    /// prefix there are never.
    fn bgp_routes(&self, _asked: RoutesAsked, _max: usize) -> Vec<BgpRoute> {
        Vec::new()
    }

    /// The Map-Servers that our EID-prefixes are registered with.
    fn registrations(&self) -> Vec<RegistrationStatus> {
        Vec::new()
    }

    /// At most `max` PubSub subscriptions, ours and then those at our Map-Server.
    fn subscriptions(&self, _after: Option<SubscriptionsAfter>, _max: usize) -> SubscriptionsPage {
        SubscriptionsPage::default()
    }

    /// xTRs behind NATs that register through us, as many as have about `max` prefixes together, one at least.
    fn bindings(&self, _after: Option<BindingsAfter>, _max: usize) -> BindingsPage {
        BindingsPage::default()
    }

    /// Sites of the Map-Server from this one on: as many as have about `max` prefixes together, one at least.
    fn sites(&self, _from: u32, _max: usize) -> SitesPage {
        SitesPage::default()
    }

    /// The entry of exactly this prefix.
    fn exact(&self, table: Table, eid: &EidPrefix) -> Option<Entry> {
        self.entries(table).find(|entry| entry.eid == *eid)
    }

    /// The entry of the longest prefix that holds the EID.
    fn longest(&self, table: Table, eid: Eid) -> Option<Entry> {
        self.entries(table).filter(|entry| entry.eid.contains(eid)).max_by_key(|entry| entry.eid.prefix.length())
    }
}

/// A router: what it knows, and what it can be made to do.
pub trait Router {
    /// What it knows.
    fn view(&self) -> &dyn View;

    /// Carries out what a client that may write asks for.
    ///
    /// # Errors
    /// [`Refused`], why not; nothing has changed then.
    fn perform(&mut self, asker: Asker, operation: Operation) -> Result<Outcome, Refused>;

    /// Carries out a batch of a client that may write: all of it, in one round, or nothing.
    ///
    /// # Errors
    /// [`Failed`]: which operation cannot be done, and why; nothing has changed then.
    fn perform_all(&mut self, _asker: Asker, _operations: Vec<Operation>) -> Result<Done, Failed> {
        Err((0, Refused::Unsupported("no batch can be done here")))
    }

    /// Says whether a batch could be carried out if the table had `ahead` more entries that stay, and does nothing; and
    /// how many more it would have then.
    ///
    /// # Errors
    /// As of [`perform_all`](Self::perform_all).
    fn try_all(&mut self, _operations: Vec<Operation>, _ahead: i32) -> Result<i32, Failed> {
        Err((0, Refused::Unsupported("no batch can be done here")))
    }

    /// Shows a client that may write what becomes of packets; `None` ends that.
    ///
    /// # Errors
    /// [`Refused`], why not.
    fn trace(&mut self, _asker: Asker, _ask: Option<TraceAsk>) -> Result<(), Refused> {
        Err(Refused::Unsupported("no packets pass here"))
    }
}

/// A view by itself can be asked, and nothing more.
impl<V: View> Router for &V {
    fn view(&self) -> &dyn View {
        *self
    }

    fn perform(&mut self, _asker: Asker, _operation: Operation) -> Result<Outcome, Refused> {
        Err(Refused::Unsupported("nothing can be changed here"))
    }
}

/// BGP routes of one page: more than one prefix can have, one of each neighbour and our own.
const PAGE: usize = 2048;

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// It may go on.
    Keep,
    /// What it sends is not of this protocol: send the replies, then close.
    Close,
}

/// Answers one request: appends its replies, or leaves the session [at work](Session::is_at_work). No other request is to be
/// handed in then, before that has ended: a dump with the last [`next_page`], a change with the one after
/// [`Session::conclude`].
pub fn handle(request: &[u8], router: &mut dyn Router, session: &mut Session, replies: &mut Vec<Vec<u8>>) -> Conduct {
    let (asked, body) = match Header::split(request) {
        Ok(split) => split,
        Err(error) => {
            let nobody = Header { op: Op(0), flags: Flags::default(), errno: 0, sequence: 0, generation: 0 };
            replies.push(refusal(&nobody, error.errno(), &error.to_string()));
            return Conduct::Close;
        }
    };
    let reply = Header { flags: Flags::REPLY, errno: 0, generation: router.view().generation(), ..asked };
    if asked.flags.has(Flags::ATOMIC) {
        replies.extend(batched(&asked, member(&asked, body, session), router, session));
        return Conduct::Keep;
    }
    let mut pages = Pages { reply, replies, body: Vec::new() };
    let outcome = answer(&asked, body, router, session, &mut pages);
    match outcome {
        Ok(()) if session.is_at_work() => {}
        Ok(()) => pages.finish(),
        Err(Refusal { errno, text }) => replies.push(refusal(&reply, errno, &text)),
    }
    Conduct::Keep
}

/// The next page of the dump that a session is at work on, or the reply to a change that has ended, to be made when what was
/// made before and all events have left; `None` if there is none.
pub fn next_page(view: &dyn View, session: &mut Session) -> Option<Vec<u8>> {
    let (page, more) = session.work.as_mut()?.page(view)?;
    if !more {
        session.work = None;
    }
    Some(page)
}

pub(super) fn refusal(asked: &Header, errno: u32, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, kind::TEXT, |out| out.extend(text.as_bytes()));
    Header { flags: Flags::REPLY, errno, ..*asked }.message(&body)
}

/// Why a request was not done.
pub(super) struct Refusal {
    pub(super) errno: u32,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(errno: u32, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::new(refused.errno(), refused.to_string())
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Self::new(error.errno(), error.to_string())
    }
}

/// Replies being filled: groups of TLVs that stay together.
struct Pages<'a> {
    reply: Header,
    replies: &'a mut Vec<Vec<u8>>,
    body: Vec<u8>,
}

impl Pages<'_> {
    /// Adds a group of at most [`MESSAGE_MAX`] − [`HEADER`] octets.
    fn add(&mut self, group: &[u8]) {
        if HEADER + self.body.len() + group.len() > MESSAGE_MAX {
            let more = Header { flags: self.reply.flags.with(Flags::MORE), ..self.reply };
            self.replies.push(more.message(&self.body));
            self.body.clear();
        }
        self.body.extend(group);
    }

    fn finish(self) {
        self.replies.push(self.reply.message(&self.body));
    }
}

fn answer(
    asked: &Header,
    body: &[u8],
    router: &mut dyn Router,
    session: &mut Session,
    pages: &mut Pages<'_>,
) -> Result<(), Refusal> {
    if asked.flags.has(Flags::REPLY) || asked.flags.has(Flags::EVENT) {
        return Err(Refusal::new(errno::INVALID, "a request is neither a reply nor an event"));
    }
    let changes = matches!(
        asked.op,
        Op::ADD | Op::DELETE | Op::CHANGE | Op::REACH | Op::BADREACH | Op::FLUSH | Op::RELOAD | Op::CLEAR
    );
    if (changes || asked.op == Op::TRACE) && session.rights() == Rights::Read {
        return Err(Refused::Denied.into());
    }
    if asked.op == Op::TRACE {
        return Ok(router.trace(session.asker(), TraceAsk::read(body)?)?);
    }
    let request = Request::read(body)?;
    if request.trial.is_some() {
        return Err(Refusal::new(errno::INVALID, "TRIAL is of batches: set ATOMIC"));
    }
    let view = router.view();
    match asked.op {
        Op::HELLO => {
            let text = concat!("altitude ", env!("CARGO_PKG_VERSION"));
            put(&mut pages.body, kind::TEXT, |out| out.extend(text.as_bytes()));
            Ok(())
        }
        Op::GET if asked.flags.has(Flags::DUMP) => dump(&request, session, pages.reply),
        Op::GET => get(&request, view, pages),
        Op::STATS => {
            stats(&request, view, pages);
            Ok(())
        }
        Op::SUBSCRIBE => subscribe(asked, request, view.generation(), session),
        _ if changes => {
            let operation = write::operation(asked, request)?;
            session.long = operation.is_long();
            match router.perform(session.asker(), operation)? {
                Outcome::Done(done) => put_done(&mut pages.body, asked.op, &done),
                Outcome::Later => session.work = Some(Work::Change(pages.reply)),
            }
            pages.reply.generation = router.view().generation();
            Ok(())
        }
        Op(other) => Err(Refusal::new(errno::UNSUPPORTED, format!("operation {other} is not offered"))),
    }
}

fn subscribe(asked: &Header, request: Request, generation: u64, session: &mut Session) -> Result<(), Refusal> {
    if request.filters.len() > FILTERS_MAX {
        return Err(Refusal::new(errno::INVALID, format!("a subscriber has at most {FILTERS_MAX} FILTERs")));
    }
    if session.rights() == Rights::Read && request.filters.iter().any(|filter| filter.detail == MissDetail::Packet) {
        return Err(Refused::Denied.into());
    }
    session.subscribe(request.filters, asked.flags.has(Flags::ECHO_ME), generation);
    Ok(())
}

/// Appends what a change did.
pub(super) fn put_done(out: &mut Vec<u8>, op: Op, done: &Done) {
    if let Some(entry) = &done.entry {
        entry::put_entry(out, entry);
    }
    if matches!(op, Op::FLUSH | Op::REACH | Op::BADREACH | Op::RELOAD | Op::CLEAR) {
        status::put_stats(out, &[Stat::new("touched", done.count)], &mut Ids::default());
    }
}

fn dump(request: &Request, session: &mut Session, reply: Header) -> Result<(), Refusal> {
    if request.prefix.is_some() {
        return Err(Refusal::new(errno::INVALID, "a dump has no EID: leave it out, or leave DUMP out"));
    }
    session.work = Some(Work::Dump(Dump::new(reply, request.tables(), request.instance)));
    Ok(())
}

fn get(request: &Request, view: &dyn View, pages: &mut Pages<'_>) -> Result<(), Refusal> {
    let prefix = request.prefix.ok_or_else(|| Refusal::new(errno::INVALID, "GET needs an EID, or DUMP"))?;
    let eid = EidPrefix { instance: request.instance.unwrap_or_default(), prefix };
    let host = Eid { instance: eid.instance, address: prefix.address() };
    let found = request
        .tables()
        .iter()
        .filter_map(|&table| if prefix.is_host() { view.longest(table, host) } else { view.exact(table, &eid) });
    let entry = found
        .max_by_key(|entry| entry.eid.prefix.length())
        .ok_or_else(|| Refusal::new(errno::NOT_FOUND, format!("no entry for {eid}")))?;
    entry::put_entry(&mut pages.body, &entry);
    Ok(())
}

fn stats(request: &Request, view: &dyn View, pages: &mut Pages<'_>) {
    let ids = &mut Ids::default();
    let mut groups: Vec<Vec<u8>> = Vec::new();
    let mut group = |put: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut octets = Vec::new();
        put(&mut octets);
        groups.push(octets);
    };
    match request.detail {
        None => group(&mut |out| status::put_stats(out, &totals(&view.counts()), ids)),
        Some(Detail::Counters) => {
            view.counts().iter().for_each(|counts| group(&mut |out| status::put_counts(out, counts, ids)));
        }
        Some(Detail::Ports) => {
            view.ports().iter().for_each(|port| group(&mut |out| status::put_port(out, port, ids)));
        }
        Some(Detail::Alt) => {
            let alt = view.alt();
            alt.tunnels.iter().for_each(|tunnel| group(&mut |out| status::put_tunnel(out, tunnel, ids)));
            alt.sources.iter().for_each(|source| group(&mut |out| status::put_source(out, source)));
            alt.routes.iter().for_each(|route| group(&mut |out| status::put_route(out, route)));
        }
        Some(Detail::Locators) => put_locators(request, view, &mut group),
        Some(Detail::Bgp) => {
            let status = view.bgp();
            if let Some(speaker) = &status.speaker {
                group(&mut |out| bgp::put_speaker(out, speaker));
            }
            status.neighbors.iter().for_each(|neighbor| group(&mut |out| bgp::put_neighbor(out, neighbor, ids)));
        }
        Some(Detail::Registrations) => {
            view.registrations().iter().for_each(|status| registration::put_status(status, &mut group));
        }
        Some(Detail::Subscriptions) => {
            subscriptions::put_page(&view.subscriptions(request.subscriptions, PAGE), &mut group);
        }
        Some(Detail::Bindings) => {
            nat::put_page(&view.bindings(request.bindings, PAGE), &mut group);
        }
        Some(Detail::Sites) => {
            let page = view.sites(request.next.unwrap_or(0), PAGE);
            page.sites.iter().for_each(|site| sites::put_site(site, &mut group));
            if let Some(next) = page.next {
                group(&mut |out| sites::put_next(out, next));
            }
        }
        Some(Detail::Routes) => put_routes(request, view, &mut group),
    }
    for group in groups {
        pages.add(&group);
    }
}

fn put_locators(request: &Request, view: &dyn View, group: &mut sites::Group<'_>) {
    let page = view.locators(request.after, PAGE);
    for locator in &page {
        group(&mut |out| locators::put_locator(out, locator));
    }
    if let Some(last) = page.get(PAGE - 1) {
        group(&mut |out| locators::put_after(out, last.address));
    }
}

fn put_routes(request: &Request, view: &dyn View, group: &mut sites::Group<'_>) {
    let exact = request.prefix.map(|prefix| EidPrefix { instance: request.instance.unwrap_or_default(), prefix });
    let (routes, next) = page(view, RoutesAsked { exact, after: request.cursor });
    for route in &routes {
        group(&mut |out| bgp::put_route(out, route));
    }
    if let Some(next) = &next {
        group(&mut |out| bgp::put_cursor(out, next));
    }
}

/// One page of routes, all routes of its prefixes, and where the next one starts.
fn page(view: &dyn View, asked: RoutesAsked) -> (Vec<BgpRoute>, Option<EidPrefix>) {
    let mut routes = view.bgp_routes(asked, PAGE);
    let last = routes.last().map(|route| route.eid);
    if routes.len() < PAGE || asked.exact.is_some() {
        return (routes, None);
    }
    // The last prefix may be cut: its routes come with the next page.
    let whole = routes.iter().rposition(|route| Some(route.eid) != last).map_or(routes.len(), |at| at + 1);
    routes.truncate(whole);
    let next = routes.last().map(|route| route.eid);
    (routes, next)
}

/// Counters of the same name added up, in the order of their first appearance.
fn totals(counts: &[Counts]) -> Vec<Stat> {
    let mut totals: Vec<Stat> = Vec::new();
    let mut places = hashbrown::HashMap::new();
    for stat in counts.iter().flat_map(|counts| &counts.stats) {
        let place = *places.entry(&stat.name).or_insert_with(|| {
            totals.push(Stat { name: stat.name.clone(), value: 0 });
            totals.len() - 1
        });
        totals[place].value = totals[place].value.wrapping_add(stat.value);
    }
    totals
}
