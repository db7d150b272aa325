//! Idle: nothing is tried, and nothing but a start is heard.

use super::{Action, Direction, Env, Event, Fsm};

pub(super) fn on(fsm: &mut Fsm, event: &Event, env: &mut Env<'_>, todo: &mut Vec<Action>) {
    match (event, fsm.direction) {
        (Event::Start, Direction::Outgoing) => fsm.dial(env, todo),
        (Event::Start, Direction::Incoming) => fsm.wait(env),
        _ => {}
    }
}
