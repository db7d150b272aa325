//! A speaker in a namespace with four neighbours on veth: ours and BIRD, one after the other, with the same load.

use std::{env, fmt::Write as _, fs, path::Path, process::Command, sync::Arc, time::Duration};

use super::feed::{self, Feed};
use crate::{
    bench::meter::{Meter, read_all},
    lab::{self, LabError, Link, Namespace, Process, veth, wait_until},
};

/// How long one exchange may take, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(60);

/// Who stands in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Altitude,
    Bird,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) cpu: Duration,
    /// By the clock, until everybody was told of everything.
    pub(super) elapsed: Duration,
    /// Peak of its resident memory, octets.
    pub(super) peak: u64,
}

/// Whether BIRD is installed.
pub(super) fn has_bird() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    ["bird", "birdc"].iter().all(|program| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Runs the load through `subject`.
///
/// # Errors
/// [`LabError`].
pub(super) fn run(subject: Subject, feeds: &Arc<Vec<Feed>>, perf: &Path) -> Result<Cost, LabError> {
    let owner = format!("alt{}", std::process::id());
    let folder = lab::work_folder(&owner)?;
    let (device, world) = (Namespace::create(&owner, "speaker")?, Namespace::create(&owner, "world")?);
    for index in 0..feed::NEIGHBORS {
        let name = format!("n{index}");
        let near = Link { namespace: &device, name: &name };
        let far = Link { namespace: &world, name: &name };
        veth(near, far, 1500)?;
        near.address(feed::local(index).into(), 24)?;
        near.address(feed::address6(index, 1).into(), 64)?;
        far.address(feed::remote(index).into(), 24)?;
        far.address(feed::address6(index, 2).into(), 64)?;
    }
    let process = match subject {
        Subject::Altitude => Process::start("altitude", device.command(perf).args(["inside", "alt-speaker"]), &folder)?,
        Subject::Bird => {
            let configuration = folder.join("bird.conf");
            fs::write(&configuration, bird()).map_err(LabError::os("bird.conf"))?;
            let control = folder.join("bird.ctl");
            let mut command = device.command("bird");
            Process::start("bird", command.arg("-f").arg("-c").arg(&configuration).arg("-s").arg(&control), &folder)?
        }
    };
    let ready = || match subject {
        Subject::Altitude => Ok(process.output().contains("ready").then_some(())),
        Subject::Bird => Ok(bird_waits(&folder.join("bird.ctl")).then_some(())),
    };
    wait_until("speaker that waits for neighbours", READY, ready)?;
    let meters = [Meter::Process(process.id())];
    let before = read_all(&meters)?;
    let of_world = feeds.clone();
    let elapsed = world.inside(move || super::world::exchange(&of_world, LIMIT))?.map_err(LabError::Wrong)?;
    let cpu = read_all(&meters)? - before;
    let peak = peak(process.id()).ok_or_else(|| LabError::Wrong("no peak of memory".to_owned()))?;
    drop(process);
    let _ = fs::remove_dir_all(&folder);
    Ok(Cost { cpu, elapsed, peak })
}

/// Whether BIRD knows its interfaces and waits for all its neighbours; one that comes before that finds next hops unknown.
fn bird_waits(control: &Path) -> bool {
    let said = lab::run(Command::new("birdc").arg("-s").arg(control).args(["show", "protocols"])).unwrap_or_default();
    said.matches("Passive").count() == feed::NEIGHBORS
}

/// VmHWM, octets.
pub(super) fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The same speaker in BIRD's words: routes in, chosen, and out again; nothing goes into a kernel table.
fn bird() -> String {
    let mut text = String::from("router id 10.42.0.1;\nprotocol device {}\n");
    for index in 0..feed::NEIGHBORS {
        let (local, remote, asn) = (feed::local(index), feed::remote(index), feed::asn(index));
        let own6 = feed::address6(index, 1);
        let _ = writeln!(
            text,
            "protocol bgp n{index} {{\n  local {local} as {};\n  neighbor {remote} as {asn};\n  passive on;\n  hold time 600;\n  \
             ipv4 {{ import all; export all; next hop self; }};\n  \
             ipv6 {{ import all; export all; next hop address {own6}; }};\n}}",
            feed::ASN,
        );
    }
    text
}
