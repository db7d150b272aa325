//! Changes and events, as a client sees them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Client, ClientError, PATIENCE};
use crate::api::{
    Entry, Event, Filter, Flags, Operation,
    entry::Entries,
    message::{Op, kind},
    session, write,
};

/// How long the answer to a FLUSH may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

/// An event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its number: one more than the last; a gap means that MISS, STALE or LSBITS events are missing.
    pub number: u64,
    /// Events before it were lost: what was learned from events is to be read again.
    pub overrun: bool,
    /// What happened.
    pub event: Event,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq)]
pub struct Performed {
    /// Generation of the tables after it.
    pub generation: u64,
    /// What DELETE took out.
    pub entry: Option<Entry>,
    /// Entries that FLUSH took out, locators that REACH and BADREACH spoke of.
    pub count: u64,
}

impl Client {
    /// Has the router do something.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello); [`ClientError::Refused`] says why not, and nothing has changed then.
    pub fn perform(&mut self, operation: &Operation) -> Result<Performed, ClientError> {
        let (op, flags, body) = write::request(operation);
        // A large table takes a while to empty.
        let slow = matches!(operation, Operation::Flush { .. });
        let patience = |client: &Self, time| client.socket.set_read_timeout(Some(time));
        if slow {
            patience(self, FLUSH_PATIENCE).map_err(|error| Self::explain(&self.path, error))?;
        }
        let (mut entries, mut count) = (Entries::default(), 0);
        let asked = self.ask(op, flags, &body, |kind, mut fields| {
            if kind == kind::STAT {
                let (_id, value) = (fields.u16()?, fields.u64()?);
                count = value;
                return Ok(());
            }
            entries.take(kind, fields)
        });
        if slow {
            patience(self, PATIENCE).map_err(|error| Self::explain(&self.path, error))?;
        }
        asked?;
        Ok(Performed { generation: self.generation, entry: entries.finish().pop(), count })
    }

    /// Has events told from now on, those of own changes only if `echo`; no filter ends that.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn subscribe(&mut self, filters: &[Filter], echo: bool) -> Result<(), ClientError> {
        let mut body = Vec::new();
        for filter in filters {
            filter.put(&mut body);
        }
        let flags = if echo { Flags::ECHO_ME } else { Flags::default() };
        self.ask(Op::SUBSCRIBE, flags, &body, |_, _| Ok(()))
    }

    /// The next event, waiting for it at most so long; `None`: there was none. Without a limit it waits for ever.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn next_event(&mut self, limit: Option<Duration>) -> Result<Option<Told>, ClientError> {
        if let Some(told) = self.events.pop_front() {
            return Ok(Some(told));
        }
        let until = limit.map(|limit| Instant::now() + limit);
        if !self.readable(until).map_err(|error| Self::explain(&self.path, error))? {
            return Ok(None);
        }
        let message = self.receive()?;
        let (header, event) = session::event(&message)?;
        Ok(Some(Told { number: header.generation, overrun: header.flags.has(Flags::OVERRUN), event }))
    }

    /// Waits until there is something to read.
    pub(super) fn readable(&self, until: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // To the next millisecond, so that the last part of one is not spent asking again and again.
            let millis = left.map(|left| i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
            let timeout =
                millis.map_or(PollTimeout::NONE, |millis| PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
            let mut asked = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut asked, timeout) {
                Ok(0) if until.is_some_and(|until| until <= Instant::now()) => return Ok(false),
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Keeps an event that comes between a question and its answer.
    pub(super) fn keep(&mut self, message: &[u8]) -> Result<(), ClientError> {
        let (header, event) = session::event(message)?;
        let mut told = Told { number: header.generation, overrun: header.flags.has(Flags::OVERRUN), event };
        if self.events.len() >= self.keep_max {
            self.events.clear();
            told.overrun = true;
        }
        self.events.push_back(told);
        Ok(())
    }

    /// Whether an event waits that was read already, so that the socket does not tell of it.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
