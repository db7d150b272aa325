//! A mark in the file system that tells the next start that this router ran until just before.
//!
//! Neighbours keep the routes of a router that comes back in time and says that it restarted (RFC 4724 §4). The mark is
//! there while the speaker runs and is touched now and then; an orderly end takes it away, a restart or a crash leaves it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How often the mark is touched.
pub(super) const TOUCH_EVERY: Duration = Duration::from_secs(10);

/// The mark of one router, beside the socket of its API.
#[derive(Debug)]
pub(super) struct Mark(PathBuf);

impl Mark {
    pub(super) fn beside(api: &Path) -> Self {
        let mut name = OsString::from(api);
        name.push(".running");
        Self(name.into())
    }

    /// Whether a router that ran here ended no longer than `time` ago without taking its mark away.
    pub(super) fn is_fresh(&self, time: Duration) -> bool {
        let touched = fs::metadata(&self.0).and_then(|metadata| metadata.modified());
        let age = touched.map(|touched| SystemTime::now().duration_since(touched).unwrap_or_default());
        age.is_ok_and(|age| age <= time + TOUCH_EVERY)
    }

    /// Makes it, or makes it young again.
    ///
    /// # Errors
    /// Those of the file system. Without the mark the next start is like a first one.
    pub(super) fn touch(&self) -> io::Result<()> {
        fs::write(&self.0, "")
    }

    pub(super) fn remove(&self) {
        // A mark that stays makes the next start a restart; its neighbours know better.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_fresh_for_a_while_and_gone_when_removed() {
        let api = std::env::temp_dir().join(format!("altitude-mark-{}.sock", std::process::id()));
        let mark = Mark::beside(&api);
        assert!(!mark.is_fresh(Duration::from_secs(100)));
        mark.touch().unwrap();
        assert!(mark.is_fresh(Duration::from_secs(100)));
        let old = SystemTime::now() - Duration::from_secs(120);
        fs::File::options().write(true).open(&mark.0).unwrap().set_modified(old).unwrap();
        assert!(!mark.is_fresh(Duration::from_secs(100)) && mark.is_fresh(Duration::from_secs(115)));
        mark.remove();
        assert!(!mark.is_fresh(Duration::from_secs(1000)));
    }
}
