//! What a client was promised and has not got yet: the pages of a dump, the outcome of a change that takes a while.
//!
//! A dump is read from the table page by page, each when the one before it and all events have left. Nothing is copied
//! beforehand, so that a connection holds one page whatever the table's size. An entry that is there all the while comes
//! exactly once, as a cursor goes over the table in order; what changes meanwhile is told by events, which stand between the
//! pages where they happened.

#![forbid(unsafe_code)]

use std::ops::Bound;

use altitude_dataplane::mapping::{EidPrefix, InstanceId, Prefix};

use super::{
    Done, Refused, Table,
    entry::put_entry,
    message::{Flags, HEADER, Header, MESSAGE_MAX},
    server::{View, put_done, refusal},
};

/// Entries that one page has at most; with 32 RLOCs each a message has room for 25.
const PAGE: usize = 512;
/// Places of a table that one page looks at: while a FLUSH goes on most may have nothing to show.
const LOOKS: usize = 4 * PAGE;

/// See the module's text.
#[derive(Debug)]
pub(super) enum Work {
    Dump(Dump),
    /// The request, with the flags of its reply.
    Change(Header),
    /// The reply to a change that came to its end; events older than it leave first.
    Ended(Vec<u8>),
}

/// A dump, as far as it got.
#[derive(Debug)]
pub(super) struct Dump {
    /// As all pages have it. Their generation is that of the moment when the dump began: what changed since then has to count
    /// as changed for a compare-and-set.
    reply: Header,
    /// Tables that are not read to their end.
    tables: &'static [Table],
    instance: Option<InstanceId>,
    /// Where to go on in the first of them.
    start: Bound<EidPrefix>,
}

impl Dump {
    pub(super) fn new(reply: Header, tables: &'static [Table], instance: Option<InstanceId>) -> Self {
        Self { reply, tables, instance, start: beginning(instance) }
    }

    /// The next page, and whether there are more.
    fn page(&mut self, view: &dyn View) -> (Vec<u8>, bool) {
        let (mut body, mut group, mut count, mut looks) = (Vec::new(), Vec::new(), 0, 0);
        while let Some((table, rest)) = self.tables.split_first() {
            for (eid, entry) in view.places_from(*table, self.start) {
                if self.instance.is_some_and(|instance| eid.instance != instance) {
                    break;
                }
                group.clear();
                entry.iter().for_each(|entry| put_entry(&mut group, entry));
                if count == PAGE || looks == LOOKS || HEADER + body.len() + group.len() > MESSAGE_MAX {
                    let more = Header { flags: self.reply.flags.with(Flags::MORE), ..self.reply };
                    return (more.message(&body), true);
                }
                body.extend_from_slice(&group);
                self.start = Bound::Excluded(eid);
                (count, looks) = (count + usize::from(entry.is_some()), looks + 1);
            }
            (self.tables, self.start) = (rest, beginning(self.instance));
        }
        (self.reply.message(&body), false)
    }
}

/// In front of all that a dump has.
fn beginning(instance: Option<InstanceId>) -> Bound<EidPrefix> {
    let all = Prefix::new([0; 4].into(), 0).expect("a length of 0 suits every family");
    instance.map_or(Bound::Unbounded, |instance| Bound::Included(EidPrefix { instance, prefix: all }))
}

impl Work {
    /// The next message and whether there are more; `None` if it is the end of a change that is waited for.
    pub(super) fn page(&mut self, view: &dyn View) -> Option<(Vec<u8>, bool)> {
        match self {
            Self::Dump(dump) => Some(dump.page(view)),
            Self::Change(_) => None,
            Self::Ended(reply) => Some((std::mem::take(reply), false)),
        }
    }

    /// The reply to a change that came to its end.
    pub(super) fn outcome(&self, outcome: &Result<Done, Refused>, generation: u64) -> Option<Vec<u8>> {
        let Self::Change(reply) = self else { return None };
        let reply = Header { generation, ..*reply };
        Some(match outcome {
            Ok(done) => {
                let mut body = Vec::new();
                put_done(&mut body, reply.op, done);
                reply.message(&body)
            }
            Err(refused) => refusal(&reply, refused.errno(), &refused.to_string()),
        })
    }
}
