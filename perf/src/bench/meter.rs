//! CPU time of a device under test, read from outside as the kernel accounts it.
//!
//! A figure of the veth bench is frames that reached the sink, per second of CPU time that the device used for them,
//! both counted from idle to idle: the device sleeps when counting starts, and again when it ends, so the kernel's
//! books are closed both times. Another program on the machine makes the device slower but takes no CPU time in its
//! name.
//!
//! What is counted is what runs on the device's core, which is the same one for every device:
//!
//! * A program: all its threads. With AF_XDP and raw sockets, the kernel sends within the program's own system calls,
//!   and a veth pair's far end receives in there too, so this is part of the figure of every device. Frames reach the
//!   program from the generator's core, which runs the receiving interface's NAPI; that is not counted here.
//! * A path of the kernel has no thread of its own. The receiving interface gets one (threaded NAPI), which is pinned
//!   to the device's core and does all the work, receiving included.
//! * So that a program can be compared with the kernel, its receiving interface gets such a thread too, on the
//!   generator's core, and its share is counted as well: see [`super::veth`].

use std::{fs, path::Path, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

use crate::lab::LabError;

/// Where CPU time is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meter {
    /// All threads of a process.
    Process(u32),
    /// One thread, also of the kernel.
    Thread(u32),
}

impl Meter {
    /// CPU time so far.
    ///
    /// # Errors
    /// [`LabError::Wrong`] if it is gone, or the kernel does not tell.
    pub(super) fn read(self) -> Result<Duration, LabError> {
        let wrong = || LabError::Wrong(format!("no CPU time of {self:?}"));
        match self {
            Self::Thread(id) => thread(Path::new(&format!("/proc/{id}"))).ok_or_else(wrong),
            Self::Process(id) => {
                let threads = fs::read_dir(format!("/proc/{id}/task")).map_err(|_| wrong())?;
                let times: Vec<_> = threads.flatten().filter_map(|entry| thread(&entry.path())).collect();
                if times.is_empty() { Err(wrong()) } else { Ok(times.into_iter().sum()) }
            }
        }
    }
}

/// The sum of all.
///
/// # Errors
/// As [`Meter::read`].
pub(super) fn read_all(meters: &[Meter]) -> Result<Duration, LabError> {
    meters.iter().map(|meter| meter.read()).sum()
}

/// Nanoseconds if the kernel counts them, ticks otherwise.
fn thread(folder: &Path) -> Option<Duration> {
    let read = |name| fs::read_to_string(folder.join(name)).ok();
    read("schedstat").as_deref().and_then(schedstat).or_else(|| {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
        stat(&read("stat")?, u32::try_from(ticks).ok()?)
    })
}

/// The first number of /proc/…/schedstat: time on a core, nanoseconds; nothing if the kernel leaves it zero.
fn schedstat(text: &str) -> Option<Duration> {
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

/// Fields 14 and 15 of /proc/…/stat: user and system time in ticks. The name, field 2, may hold anything.
fn stat(text: &str, ticks_per_second: u32) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(Duration::from_secs(1) * (next()? + next()?) / ticks_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_a_core_is_the_first_of_three() {
        for (text, time) in [
            ("388191903 9171149 64\n", Some(Duration::from_nanos(388_191_903))),
            ("0 0 0\n", None),
            ("", None),
            ("many 1 2", None),
        ] {
            assert_eq!(schedstat(text), time, "{text}");
        }
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let fields = "S 2 0 0 0 -1 69238880 0 0 0 0 150 25 0 0 20 0 1 0 38 0 0";
        for name in ["napi/near-8193", "a b", "odd) S 9 (name"] {
            assert_eq!(stat(&format!("17 ({name}) {fields}"), 100), Some(Duration::from_millis(1750)), "{name}");
        }
        assert_eq!(stat("17 (short) S 2 0", 100), None);
        assert_eq!(stat("17 short", 100), None);
    }

    #[test]
    fn work_done_here_is_seen_from_outside() {
        let this = Meter::Process(std::process::id());
        let before = this.read().unwrap();
        let start = std::time::Instant::now();
        let mut sum = 0_u64;
        // Ends when the kernel has accounted for some of it; its books lag behind by a tick at most.
        while read_all(&[this]).unwrap() < before + Duration::from_millis(20) {
            sum = (0..100_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
            assert!(start.elapsed() < Duration::from_secs(20), "no CPU time for 20 seconds of work");
        }
        assert!(Meter::Thread(u32::MAX).read().is_err() && Meter::Process(u32::MAX).read().is_err());
    }
}
