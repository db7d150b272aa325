//! Words for the service manager, where one started us (sd_notify(3)): ready, alive, stopping.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager's end of the line; silent where there is none.
#[derive(Debug)]
pub(crate) struct Service {
    /// How often it wants to hear that the control thread is alive: twice in the time it waits.
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Service {
    pub(crate) fn new() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|patience| patience / 2), next: None }
    }

    /// All is set up: packets pass.
    pub(crate) fn ready(&mut self, now: Instant, summary: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(summary)]);
        self.next = self.every.map(|every| now + every);
    }

    /// A new configuration is being applied, until [`ready`](Self::ready).
    pub(crate) fn reloading(&self) {
        let mut words = vec![NotifyState::Reloading];
        words.extend(NotifyState::monotonic_usec_now().ok());
        tell(&words);
    }

    pub(crate) fn stopping(&mut self) {
        tell(&[NotifyState::Stopping]);
    }

    /// When it is to be told again that we are alive.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Tells that we are alive.
    pub(crate) fn wake(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            tell(&[NotifyState::Watchdog]);
            self.next = self.every.map(|every| now + every);
        }
    }
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
