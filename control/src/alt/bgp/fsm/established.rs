//! Established: routes are exchanged.

use super::{Action, Env, Event, Fsm};
use crate::alt::bgp::{message::Message, peer::DownReason};

pub(super) fn on(fsm: &mut Fsm, event: Event, env: &mut Env<'_>, todo: &mut Vec<Action>) {
    let Some(event) = fsm.end_on(event, todo) else { return };
    match event {
        Event::Keepalive => fsm.restart_hold(env.now),
        Event::Routes(message) => {
            fsm.restart_hold(env.now);
            todo.push(Action::Deliver(message));
        }
        Event::KeepaliveExpired => {
            fsm.send(Message::Keepalive, todo);
            fsm.restart_keepalive(env);
        }
        Event::Lost => fsm.end(DownReason::Closed, todo),
        Event::Open(_) => fsm.unexpected(3, todo),
        // Timers that do not run here, and what happens to connections before they are there.
        _ => {}
    }
}
