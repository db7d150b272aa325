//! A trace, as a client sees it.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{Client, ClientError, refused};
use crate::api::{Flags, Header, Op, TraceAsk, TraceNews, trace::news};

impl Client {
    /// Has packets shown from now on; [`next_traced`](Self::next_traced) gives them.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello); [`ClientError::Refused`] also if somebody else's trace runs.
    pub fn trace(&mut self, ask: &TraceAsk) -> Result<(), ClientError> {
        let mut body = Vec::new();
        ask.put(&mut body);
        self.ask(Op::TRACE, Flags::default(), &body, |_, _| Ok(()))
    }

    /// Has the trace ended; packets on their way and its end come yet.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn end_trace(&mut self) -> Result<(), ClientError> {
        self.sequence += 1;
        let mut body = Vec::new();
        TraceAsk { count: 0, ..TraceAsk::default() }.put(&mut body);
        let request =
            Header { op: Op::TRACE, flags: Flags::default(), errno: 0, sequence: self.sequence, generation: 0 };
        self.send(&request.message(&body)).map_err(|error: io::Error| Self::explain(&self.path, error))
    }

    /// What comes next of the trace, waiting for it at most so long; `None`: there was nothing.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello).
    pub fn next_traced(&mut self, limit: Duration) -> Result<Option<TraceNews>, ClientError> {
        let until = Instant::now() + limit;
        loop {
            if !self.readable(Some(until)).map_err(|error| Self::explain(&self.path, error))? {
                return Ok(None);
            }
            let message = self.receive()?;
            let (header, body) = Header::split(&message)?;
            if header.errno != 0 {
                return Err(refused(header.errno, body));
            }
            // The answer to a request to end says nothing that the end itself does not.
            if header.op == Op::TRACE && header.flags.has(Flags::EVENT) {
                return Ok(Some(news(body)?));
            }
        }
    }
}
