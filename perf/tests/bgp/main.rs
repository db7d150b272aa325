//! Altitude's BGP speaker against FRR, BIRD and GoBGP, over GRE: each story with each daemon.
//!
//! Nothing is waited for by the clock: each step waits for what it is about, at one side or the other.

mod collision;
mod exchange;
mod limits;
mod pair;
mod refusals;
mod restarts;

/// The stories as tests with one daemon.
macro_rules! stories {
    ($module:ident, $software:ident) => {
        mod $module {
            use altitude_perf::lab::Software::$software as DAEMON;

            use crate::{collision, exchange, limits, pair::told_with, refusals, restarts};

            /// ALT-17.
            #[test]
            fn both_families_are_exchanged_both_ways() {
                told_with(DAEMON, exchange::both_families_both_ways);
            }

            /// ALT-15.
            #[test]
            fn md5_and_ttl_security() {
                told_with(DAEMON, exchange::secured);
            }

            #[test]
            fn both_sides_dial_and_one_connection_stays() {
                told_with(DAEMON, collision::both_dial);
            }

            #[test]
            fn a_neighbour_of_another_as_is_refused() {
                told_with(DAEMON, refusals::another_as);
            }

            #[test]
            fn a_neighbour_that_expects_another_as_refuses() {
                told_with(DAEMON, refusals::other_as_expected);
            }

            /// ALT-15.
            #[test]
            fn a_wrong_password_is_refused() {
                told_with(DAEMON, refusals::wrong_password);
            }

            /// ALT-15.
            #[test]
            fn our_limit_of_prefixes_ends_the_session() {
                told_with(DAEMON, limits::ours);
            }

            #[test]
            fn their_limit_of_prefixes_ends_the_session() {
                told_with(DAEMON, limits::theirs);
            }

            #[test]
            fn silence_ends_the_session_at_either_side() {
                told_with(DAEMON, restarts::hold_time);
            }

            #[test]
            fn their_graceful_restart_keeps_routes() {
                told_with(DAEMON, restarts::theirs);
            }

            #[test]
            fn our_graceful_restart_keeps_routes() {
                told_with(DAEMON, restarts::ours);
            }
        }
    };
}

stories!(frr, Frr);
stories!(bird, Bird);
stories!(gobgp, GoBgp);
