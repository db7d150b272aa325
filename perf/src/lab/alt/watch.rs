//! What look-ups live through while a link is cut.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Asker, Cut, Stand};
use crate::lab::LabError;

/// Time between two look-ups.
const PACE: Duration = Duration::from_millis(5);
/// Look-ups in a row whose answers say that all is well.
const ENOUGH: usize = 100;
/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of the look-ups from the cut on.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Look-ups sent.
    pub asked: usize,
    /// Of them without an answer.
    pub lost: usize,
    /// From the cut to the first look-up after which none was lost.
    pub recovery: Duration,
    /// Answers that say something else than the site itself, for people.
    pub wrong: Vec<String>,
}

/// Asks for `eid`, which the xTR with `etr` answers, two hundred times a second; cuts `cable` meanwhile, and goes on
/// until every answer comes again.
///
/// # Errors
/// [`LabError::Late`] if they do not come again within `limit`, and what the asker and `ip` said.
pub fn watch_cut(
    stand: &Stand,
    asker: &mut Asker,
    (eid, etr): (IpAddr, IpAddr),
    (cable, how): ((&str, &str), Cut),
    limit: Duration,
) -> Result<Watched, LabError> {
    asker.look_up(eid, limit)?;
    let cut = Instant::now();
    stand.cut(cable.0, cable.1, how)?;
    let mut sent: Vec<(u64, Instant)> = Vec::new();
    let mut answered: HashMap<u64, Instant> = HashMap::new();
    let mut wrong = Vec::new();
    loop {
        let now = Instant::now();
        sent.push((asker.ask(eid)?, now));
        for answer in asker.answers(now + PACE)? {
            let from_site = answer.mapping.locators.iter().any(|locator| locator.address == etr);
            if answer.from != etr || !from_site {
                let after = answer.at.saturating_duration_since(cut).as_millis();
                wrong.push(format!("{after} ms after the cut {} said {:?}", answer.from, answer.mapping));
            }
            answered.insert(answer.nonce, answer.at);
        }
        // The end is paced by answers; without them the loop would run ahead of the clock.
        std::thread::sleep(PACE.saturating_sub(now.elapsed()));
        let kept = |(nonce, at): &(u64, Instant)| answered.get(nonce).is_some_and(|came| *came - *at < PATIENCE);
        // The last ones may still be on their way.
        let settled = sent.iter().rev().skip(1);
        if settled.take_while(|&look_up| kept(look_up)).count() >= ENOUGH {
            let last_lost = sent.iter().rev().skip(1).position(|look_up| !kept(look_up));
            let first_kept = last_lost.map_or(0, |back| sent.len() - 1 - back);
            let recovery = sent[first_kept].1.saturating_duration_since(cut);
            let lost = sent.iter().rev().skip(1).filter(|&look_up| !kept(look_up)).count();
            return Ok(Watched { asked: sent.len(), lost, recovery, wrong });
        }
        if cut.elapsed() > limit {
            return Err(LabError::Late { what: "answers after the cut".into(), limit, log: format!(": {wrong:?}") });
        }
    }
}
