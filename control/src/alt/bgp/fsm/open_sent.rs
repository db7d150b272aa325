//! OpenSent: our OPEN is out, the neighbour's is waited for.

use super::{Action, Env, Event, Fsm, State};
use crate::alt::bgp::{message::Message, peer::DownReason};

pub(super) fn on(fsm: &mut Fsm, event: Event, env: &mut Env<'_>, todo: &mut Vec<Action>) {
    let Some(event) = fsm.end_on(event, todo) else { return };
    match event {
        Event::Open(session) => {
            fsm.session = Some(session);
            fsm.state = State::OpenConfirm;
            fsm.send(Message::Keepalive, todo);
            fsm.restart_keepalive(env);
            fsm.restart_hold(env.now);
        }
        // A lost connection is waited for again, or dialled when the retry timer expires (RFC 4271 §8.2.2).
        Event::Lost => {
            todo.extend(fsm.connection.map(Action::Close));
            fsm.wait(env);
            todo.push(Action::End(DownReason::Closed, None));
        }
        Event::Keepalive | Event::Routes(_) => fsm.unexpected(1, todo),
        // Timers that do not run here, and what happens to connections before they are there.
        _ => {}
    }
}
