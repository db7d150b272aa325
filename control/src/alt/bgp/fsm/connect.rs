//! Connect: the dial is under way.

use super::{Action, Env, Event, Fsm};
use crate::alt::bgp::peer::DownReason;

pub(super) fn on(fsm: &mut Fsm, event: &Event, env: &mut Env<'_>, todo: &mut Vec<Action>) {
    match event {
        Event::Connected => {
            if let Some(connection) = fsm.connection {
                fsm.open(connection, env, todo);
            }
        }
        Event::ConnectRetryExpired => {
            todo.extend(fsm.connection.take().map(Action::Close));
            todo.push(Action::End(DownReason::Refused, None));
            fsm.dial(env, todo);
        }
        Event::Lost => {
            fsm.wait(env);
            todo.push(Action::End(DownReason::Refused, None));
        }
        Event::Stop(_) | Event::Abort(_) | Event::Collision => fsm.give_up(todo),
        // None of these comes of a connection that is not there yet.
        Event::Start
        | Event::HoldExpired
        | Event::KeepaliveExpired
        | Event::Accepted(_)
        | Event::Open(_)
        | Event::Bad(..)
        | Event::Notification(_)
        | Event::Keepalive
        | Event::Routes(_) => {}
    }
}
