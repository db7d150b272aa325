//! Changes that are made together or not at all: gathered in the session, verified against a table that they are not in yet.

use std::collections::BTreeMap;

use altitude_dataplane::mapping::EidPrefix;

use super::{
    Offer, Operation, Refused, Rights, Router, Session, Stat, Table,
    message::{Fields, Flags, Header, MESSAGE_MAX, Op, ProtocolError, errno, kind, put},
    request::Request,
    server::{Refusal, refusal},
    status::{self, Ids},
    write,
};

/// Operations of one batch. Each has at most [`RLOCS_MAX`](super::RLOCS_MAX) RLOCs, so that a connection holds about half a
/// megabyte of them.
pub const BATCH_MAX: usize = 256;

/// What is asked of a table before a change is made.
pub trait Checks {
    /// Whether a table has a mapping for exactly this prefix.
    fn holds(&self, table: Table, eid: &EidPrefix) -> bool;

    /// Whether a mapping may stand in its table, whatever is there.
    ///
    /// # Errors
    /// [`Refused`], why not.
    fn acceptable(&self, offer: &Offer) -> Result<(), Refused>;

    /// Whether there is an entry, and it has not changed since a client saw it.
    ///
    /// # Errors
    /// [`Refused::Missing`], [`Refused::Changed`].
    fn unchanged(&self, table: Table, eid: &EidPrefix, unless_after: Option<u64>) -> Result<(), Refused>;
}

/// What a batch makes of each prefix that it names.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// Whose prefixes they are; `None` without operations.
    table: Option<Table>,
    /// With the place of the operation that said so last.
    last: BTreeMap<EidPrefix, (usize, Option<Offer>)>,
}

/// Which operation of a batch cannot be done, counted from 0, and why.
pub type Failed = (usize, Refused);

impl Batch {
    /// Verifies operations as if each were done when its turn comes; nothing is.
    ///
    /// # Errors
    /// [`Failed`]: the first that cannot be done.
    pub fn verify(operations: Vec<Operation>, table: &dyn Checks) -> Result<Self, Failed> {
        let mut batch = Self::default();
        for (at, operation) in operations.into_iter().enumerate() {
            batch.meant(&operation).map_err(|refused| (at, refused))?;
            let taken = batch.check(&operation, table).map_err(|refused| (at, refused))?;
            let offer = match operation {
                Operation::Add(offer) | Operation::Change { offer, .. } => Some(offer),
                _ => None,
            };
            batch.last.insert(taken, (at, offer));
        }
        Ok(batch)
    }

    /// A batch is about one table: nobody sees two change at once.
    fn meant(&mut self, operation: &Operation) -> Result<(), Refused> {
        let table = match operation {
            Operation::Add(offer) | Operation::Change { offer, .. } => offer.table,
            Operation::Delete { table, .. } => *table,
            Operation::Flush { .. } | Operation::Judge { .. } | Operation::Clear { .. } | Operation::Reload => {
                return Err(Refused::Invalid("a batch has ADD, CHANGE and DELETE, and nothing else".to_owned()));
            }
        };
        if *self.table.get_or_insert(table) == table {
            return Ok(());
        }
        Err(Refused::Invalid("a batch is about one table: make one for each".to_owned()))
    }

    /// The prefix that an operation is about, if it can be done after those before it.
    fn check(&self, operation: &Operation, table: &dyn Checks) -> Result<EidPrefix, Refused> {
        match operation {
            Operation::Add(offer) => {
                let eid = offer.mapping.eid;
                table.acceptable(offer)?;
                let there =
                    self.last.get(&eid).map_or_else(|| table.holds(offer.table, &eid), |(_, offer)| offer.is_some());
                if there { Err(Refused::Exists(eid)) } else { Ok(eid) }
            }
            Operation::Change { offer, unless_after } => {
                table.acceptable(offer)?;
                self.unchanged(offer.table, offer.mapping.eid, *unless_after, table)
            }
            Operation::Delete { table: of, eid, unless_after } => self.unchanged(*of, *eid, *unless_after, table),
            Operation::Flush { .. } | Operation::Judge { .. } | Operation::Clear { .. } | Operation::Reload => {
                unreachable!("it was asked what the operation is about")
            }
        }
    }

    fn unchanged(
        &self,
        of: Table,
        eid: EidPrefix,
        unless_after: Option<u64>,
        table: &dyn Checks,
    ) -> Result<EidPrefix, Refused> {
        match self.last.get(&eid) {
            Some((_, None)) => Err(Refused::Missing(format!("no entry for exactly {eid}: the batch has taken it out"))),
            // Nobody can have seen what the batch put in.
            Some((_, Some(_))) if unless_after.is_some() => Err(Refused::Changed(eid)),
            Some((_, Some(_))) => Ok(eid),
            None => table.unchanged(of, &eid, unless_after).map(|()| eid),
        }
    }

    /// The table that it is about; the cache if it does nothing.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table.unwrap_or(Table::Cache)
    }

    /// The prefixes that it names, ascending.
    #[must_use]
    pub fn named(&self) -> Vec<EidPrefix> {
        self.last.keys().copied().collect()
    }

    /// What it puts in, with the places of the operations.
    pub fn puts(&self) -> impl Iterator<Item = (usize, &Offer)> {
        self.last.values().filter_map(|(at, offer)| Some((*at, offer.as_ref()?)))
    }

    /// What it takes out. Perhaps it is not there: the batch itself had put it in.
    #[must_use]
    pub fn removes(&self) -> Vec<EidPrefix> {
        self.last.iter().filter(|(_, (_, offer))| offer.is_none()).map(|(eid, _)| *eid).collect()
    }
}

/// A batch that is coming in.
#[derive(Debug)]
pub(super) enum Run {
    /// Operations so far, with the sequence of their messages.
    Open(Vec<(u64, Member)>),
    /// This message has spoilt it: the others up to the end are read and forgotten.
    Spoilt { sequence: u64, errno: u32, text: String },
}

impl Default for Run {
    fn default() -> Self {
        Self::Open(Vec::new())
    }
}

/// What a message adds to a batch.
#[derive(Debug)]
pub(super) struct Member {
    operation: Operation,
    /// The whole batch is a trial, with so many more entries in the table than there are.
    trial: Option<i32>,
}

/// Reads a message of a batch.
pub(super) fn member(asked: &Header, body: &[u8], session: &Session) -> Result<Member, Refusal> {
    if asked.flags.has(Flags::REPLY) || asked.flags.has(Flags::EVENT) {
        return Err(Refusal::new(errno::INVALID, "a request is neither a reply nor an event"));
    }
    if !matches!(asked.op, Op::ADD | Op::CHANGE | Op::DELETE) {
        return Err(Refusal::new(errno::INVALID, "a batch has ADD, CHANGE and DELETE, and nothing else"));
    }
    if session.rights() == Rights::Read {
        return Err(Refused::Denied.into());
    }
    let request = Request::read(body)?;
    if request.ahead.is_some() && request.trial.is_none() {
        return Err(Refusal::new(errno::INVALID, "AHEAD is of trials: set TRIAL"));
    }
    let trial = request.trial.map(|()| request.ahead.unwrap_or(0));
    Ok(Member { operation: write::operation(asked, request)?, trial })
}

/// Takes in a message of a batch; the last one has it carried out, and is answered for all.
pub(super) fn batched(
    asked: &Header,
    member: Result<Member, Refusal>,
    router: &mut dyn Router,
    session: &mut Session,
) -> Option<Vec<u8>> {
    let mut run = session.run.take().unwrap_or_default();
    if let Run::Open(members) = &mut run {
        let full =
            || Refusal::new(errno::NO_SPACE, format!("a batch has at most {BATCH_MAX} operations: make several"));
        let room = members.len() < BATCH_MAX;
        match member.and_then(|member| room.then_some(member).ok_or_else(full)) {
            Ok(member) => members.push((asked.sequence, member)),
            Err(Refusal { errno, text }) => run = Run::Spoilt { sequence: asked.sequence, errno, text },
        }
    }
    if asked.flags.has(Flags::MORE) {
        session.run = Some(run);
        return None;
    }
    let outcome = match run {
        Run::Open(run) => {
            let trial = run.iter().find_map(|(_, member)| member.trial);
            let members = run.into_iter().map(|(sequence, member)| (sequence, member.operation));
            let (sequences, operations): (Vec<u64>, Vec<Operation>) = members.unzip();
            session.long = true;
            let count = operations.len() as u64;
            let done = match trial {
                None => router.perform_all(session.asker(), operations).map(|done| (done.count, None)),
                Some(ahead) => router.try_all(operations, ahead).map(|ahead| (count, Some(ahead))),
            };
            done.map_err(|(at, refused)| (sequences[at], refused.errno(), refused.to_string()))
        }
        Run::Spoilt { sequence, errno, text } => Err((sequence, errno, text)),
    };
    let reply = Header { flags: Flags::REPLY, errno: 0, generation: router.view().generation(), ..*asked };
    let mut body = Vec::new();
    Some(match outcome {
        Ok((count, ahead)) => {
            status::put_stats(&mut body, &[Stat::new("touched", count)], &mut Ids::default());
            ahead.iter().for_each(|ahead| put_ahead(&mut body, *ahead));
            reply.message(&body)
        }
        Err((sequence, errno, text)) => {
            put(&mut body, kind::FAILED, |out| out.extend(sequence.to_le_bytes()));
            put(&mut body, kind::TEXT, |out| out.extend(text.as_bytes()));
            Header { errno, ..reply }.message(&body)
        }
    })
}

/// Appends AHEAD.
pub(super) fn put_ahead(out: &mut Vec<u8>, ahead: i32) {
    put(out, kind::AHEAD, |out| out.extend(ahead.to_le_bytes()));
}

/// Reads AHEAD.
pub(super) fn ahead(mut fields: Fields<'_>) -> Result<i32, ProtocolError> {
    let ahead = fields.u32()?.cast_signed();
    fields.end()?;
    Ok(ahead)
}

/// The reply to a request longer than [`MESSAGE_MAX`], of which this is the beginning. As a part of a batch it spoils that, and
/// is answered with it.
#[must_use]
pub fn too_long(request: &[u8], router: &mut dyn Router, session: &mut Session) -> Option<Vec<u8>> {
    let nobody = Header { op: Op(0), flags: Flags::default(), errno: 0, sequence: 0, generation: 0 };
    let text = format!("a request has at most {MESSAGE_MAX} octets");
    match Header::first(request) {
        Ok(asked) if asked.flags.has(Flags::ATOMIC) => {
            batched(&asked, Err(Refusal::new(errno::TOO_LONG, text)), router, session)
        }
        _ => Some(refusal(&nobody, errno::TOO_LONG, &text)),
    }
}
