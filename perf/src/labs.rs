//! `altitude-perf lab`: ALTs and sites to look at, each built by one command.

use std::{
    net::IpAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::lab::{
    self, LabError, Pings,
    alt::{self, Cut, Plan, Stand},
    failover::{Break, Failover, PATHS},
};

/// Until every router knows every site.
const CONVERGE_LIMIT: Duration = Duration::from_secs(30);
/// Until look-ups are answered again after a cut, or a mended cable carries them again.
const CUT_LIMIT: Duration = Duration::from_secs(30);
/// Between two changes of one link: SMRs have a rate of one in 3 s.
const APART: Duration = Duration::from_secs(4);
/// How long the prober remembers that a locator came up.
const HELD_FOR: Duration = Duration::from_secs(61);
/// The lab with two ways through its middle.
const CUTTABLE: &str = "levels";
/// The lab of two sites with two paths between them.
const FAILOVER: &str = "failover";
const FAILOVER_ABOUT: &str = "two sites, two core links each: flows move when a path is cut, and back";
/// Echo requests between each two sites and family.
const PINGS: u16 = 5;

/// All there are.
fn catalogue() -> [Plan; 3] {
    [alt::slides(), alt::levels(), alt::mixed()]
}

/// What `altitude-perf lab` is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Choice {
    /// Which lab
    #[arg(required_unless_present_any = ["list", "remove"])]
    name: Option<String>,
    /// Leave it standing and say how to look around
    #[arg(long)]
    keep: bool,
    /// Cut links in the middle, by timers and with the link seen down, and print how soon look-ups succeed again
    #[arg(long, conflicts_with = "keep")]
    cut: bool,
    /// Names of the labs
    #[arg(long)]
    list: bool,
    /// Only remove what an earlier --keep left standing; of all labs if none is named
    #[arg(long, conflicts_with_all = ["keep", "cut"])]
    remove: bool,
}

/// Does it, printing what happens.
#[must_use]
pub fn show(choice: &Choice) -> ExitCode {
    if choice.name.as_deref() == Some(FAILOVER) {
        return show_failover(choice);
    }
    let plans: Vec<Plan> =
        catalogue().into_iter().filter(|plan| choice.name.as_ref().is_none_or(|name| plan.name == name)).collect();
    if plans.is_empty() {
        let names = catalogue().map(|plan| plan.name).join(", ");
        println!("lab: failed: there is no lab {}: {names}", choice.name.as_deref().unwrap_or_default());
        return ExitCode::from(2);
    }
    if choice.cut && choice.name.as_deref() != Some(CUTTABLE) {
        println!("lab: failed: --cut is for {CUTTABLE} and {FAILOVER}, which have another way");
        return ExitCode::from(2);
    }
    if choice.list {
        plans.iter().for_each(|plan| println!("{:<8} {}", plan.name, plan.about));
        println!("{FAILOVER:<8} {FAILOVER_ABOUT}");
        return ExitCode::SUCCESS;
    }
    if choice.remove {
        let removed: Vec<String> = plans.iter().flat_map(Stand::remove_kept).collect();
        println!("removed: {}", if removed.is_empty() { "nothing was left".into() } else { removed.join(" ") });
        return ExitCode::SUCCESS;
    }
    let start = Instant::now();
    let Some(plan) = plans.into_iter().next() else { return ExitCode::FAILURE };
    match plan.available().map_err(LabError::Wrong).and_then(|()| play(plan, choice)) {
        Ok(result) => {
            println!("lab: ok {result}, {:.1} s in all", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("lab: failed: {why}");
            ExitCode::FAILURE
        }
    }
}

fn play(plan: Plan, choice: &Choice) -> Result<String, LabError> {
    lab::remove_on_signal()?;
    println!("{}: {}", plan.name, plan.about);
    let mut stand = if choice.keep { Stand::to_keep(plan)? } else { Stand::new(plan)? };
    let start = Instant::now();
    stand.start()?;
    let count = stand.routers.iter().flatten().count();
    println!("{count} routers run after {:.1} s", start.elapsed().as_secs_f64());
    stand.wait_converged(CONVERGE_LIMIT)?;
    println!("every router knows every site after {:.1} s", start.elapsed().as_secs_f64());
    let pings = ping_all(&stand)?;
    if choice.cut {
        return cut_all(&mut stand);
    }
    if choice.keep {
        stand.keep();
        explain(&stand)?;
    }
    Ok(pings)
}

/// Every site's host pings every other's.
fn ping_all(stand: &Stand) -> Result<String, LabError> {
    let sites = || stand.plan.routers.iter().filter(|router| router.site.is_some());
    let mut all = Pings { sent: 0, answered: 0 };
    for from in sites() {
        for to in sites().filter(|to| to.name != from.name) {
            let pings = stand.ping(from.name, to.name, PINGS)?;
            println!("ping {} → {}, both families: {} of {} answered", from.name, to.name, pings.answered, pings.sent);
            all = Pings { sent: all.sent + pings.sent, answered: all.answered + pings.answered };
            if pings.answered != pings.sent {
                for name in [from.name, to.name] {
                    println!("{name} counters:\n{}", stand.router(name).show(&["counters"])?.trim_end());
                }
            }
        }
    }
    let result = format!("pings {}/{}", all.answered, all.sent);
    if all.answered != all.sent {
        return Err(LabError::Wrong(result));
    }
    Ok(result)
}

/// Cuts what look-ups go over, near the aggregator that must choose anew and behind the core that it chose, and mends
/// it again.
fn cut_all(stand: &mut Stand) -> Result<String, LabError> {
    let mut results = Vec::new();
    for (asker, chooser, far, xtr) in [("asker1", "agg1", "agg2", "edge3"), ("asker2", "agg2", "agg1", "edge1")] {
        let router = &stand.plan.routers[stand.plan.place(xtr)];
        let Some(site) = &router.site else { continue };
        let (eid, etr): (IpAddr, IpAddr) = (site.host.0.into(), router.rloc.0.into());
        let mut itr = stand.asker(asker)?;
        for how in [Cut::LinkDown, Cut::Silent] {
            for beyond in [false, true] {
                let Some(core) = stand.way(chooser, eid)? else {
                    return Err(LabError::Wrong(format!("{chooser} knows no way to {eid}")));
                };
                let end = if beyond { far } else { chooser };
                let watched = alt::watch_cut(stand, &mut itr, (eid, etr), ((end, &core), how), CUT_LIMIT)?;
                println!(
                    "{asker} asks for {eid} of {xtr}; cut {end}–{core}, {how:?}: answered again after {} ms, {} of {} \
                     look-ups lost, {} wrong answers",
                    watched.recovery.as_millis(),
                    watched.lost,
                    watched.asked,
                    watched.wrong.len()
                );
                watched.wrong.iter().for_each(|wrong| println!("  {wrong}"));
                results.push((how, watched));
                stand.mend(end, &core)?;
                stand.wait_neighbours(CUT_LIMIT)?;
            }
        }
    }
    let worst = |how: Cut| {
        let times = results.iter().filter(|(cut, _)| *cut == how).map(|(_, watched)| watched.recovery.as_millis());
        times.max().unwrap_or_default()
    };
    let wrong: usize = results.iter().map(|(_, watched)| watched.wrong.len()).sum();
    let result = format!(
        "worst recovery {} ms with the link seen down, {} ms by timers, {wrong} wrong answers",
        worst(Cut::LinkDown),
        worst(Cut::Silent)
    );
    if wrong == 0 { Ok(result) } else { Err(LabError::Wrong(result)) }
}

fn show_failover(choice: &Choice) -> ExitCode {
    if choice.keep || choice.remove || choice.list {
        println!("lab: failed: {FAILOVER} stands only while it is watched");
        return ExitCode::from(2);
    }
    let start = Instant::now();
    let ready = lab::available().map_err(LabError::Wrong).and_then(|()| lab::remove_on_signal());
    match ready.and_then(|()| play_failover(choice.cut)) {
        Ok(result) => {
            println!("lab: ok {result}, {:.1} s in all", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("lab: failed: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Cuts one path after the other in every way, default settings throughout, and prints how long flows took to move and to
/// come back: the slowest flow of each direction.
fn play_failover(cut: bool) -> Result<String, LabError> {
    println!("{FAILOVER}: {FAILOVER_ABOUT}");
    let lab = Failover::new()?;
    let homes = lab.homes()?;
    let on_a = homes.values().filter(|path| **path == 0).count();
    println!("{} flows: {on_a} on path a, {} on path b", homes.len(), homes.len() - on_a);
    if !cut {
        return Ok(format!("{} flows on two paths", homes.len()));
    }
    let mut worst = Vec::new();
    let cuts = [(0, Break::LinkDown), (1, Break::Silent), (1, Break::LinkDown), (0, Break::Silent), (0, Break::Told)];
    let mut lately = [None; 2];
    for (path, how) in cuts {
        // A path that goes down twice within a minute is held down.
        if let Some(mended) = lately[path] {
            let left = HELD_FOR.saturating_sub(Instant::elapsed(&mended));
            println!("waiting for {} s: path {} went down lately", left.as_secs(), PATHS[path]);
            std::thread::sleep(left);
        }
        std::thread::sleep(APART);
        let moves = |flow| homes[&flow] == path;
        let start = lab.watch.mark();
        lab.cut(path, how)?;
        let away = lab.wait_moved(start, CUT_LIMIT, |_| 1 - path, moves)?;
        std::thread::sleep(APART);
        let start = lab.watch.mark();
        lab.mend(path, how)?;
        let back = lab.wait_moved(start, CUT_LIMIT, |flow| homes[&flow], moves)?;
        let show = |[there, here]: [Duration; 2]| format!("{} ms out, {} ms in", there.as_millis(), here.as_millis());
        println!("path {} cut, {how:?}: moved after {}; back after {}", PATHS[path], show(away), show(back));
        worst.push((how, away.into_iter().max().unwrap_or_default()));
        lab.wait_locators("every locator up again", CUT_LIMIT, |up, _| up)?;
        lately[path] = Some(Instant::now());
    }
    let of = |wanted: Break| worst.iter().filter(|(how, _)| *how == wanted).map(|(_, time)| time.as_millis()).max();
    let [silent, told, down] = [Break::Silent, Break::Told, Break::LinkDown].map(|how| of(how).unwrap_or_default());
    Ok(format!("slowest flow: {silent} ms silent, {told} ms with ICMP, {down} ms with the link seen down"))
}

/// Says how to look around in what is left standing.
fn explain(stand: &Stand) -> Result<(), LabError> {
    let altitude = lab::altitude_binary()?;
    println!("\nleft standing; look around as root:");
    for (plan, router) in stand.plan.routers.iter().zip(&stand.routers) {
        if let Some(router) = router {
            println!("  {} show alt --api {}", altitude.display(), router.api.display());
        }
        let mut others = stand.plan.routers.iter().filter(|other| other.name != plan.name);
        if let (Some(site), Some(other)) = (&plan.site, others.find_map(|other| other.site.as_ref())) {
            println!("  ip netns exec {}-{} ping {}", stand.owner(), site.name, other.host.0);
        }
    }
    stand.daemons.iter().flatten().for_each(|daemon| println!("  {}", daemon.prompt()));
    println!("  configurations, logs and captures: {}", stand.folder().display());
    println!("  remove it: altitude-perf lab {} --remove\n", stand.plan.name);
    Ok(())
}
