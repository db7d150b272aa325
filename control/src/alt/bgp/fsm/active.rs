//! Active: the neighbour is waited for, or the time to dial it again.

use super::{Action, Direction, Env, Event, Fsm};

pub(super) fn on(fsm: &mut Fsm, event: &Event, env: &mut Env<'_>, todo: &mut Vec<Action>) {
    match event {
        Event::Accepted(connection) if fsm.direction == Direction::Incoming => fsm.open(*connection, env, todo),
        Event::ConnectRetryExpired if fsm.direction == Direction::Outgoing => fsm.dial(env, todo),
        Event::Stop(_) | Event::Abort(_) | Event::Collision => fsm.give_up(todo),
        // None of these comes without a connection.
        Event::Start
        | Event::Accepted(_)
        | Event::ConnectRetryExpired
        | Event::HoldExpired
        | Event::KeepaliveExpired
        | Event::Connected
        | Event::Lost
        | Event::Open(_)
        | Event::Bad(..)
        | Event::Notification(_)
        | Event::Keepalive
        | Event::Routes(_) => {}
    }
}
