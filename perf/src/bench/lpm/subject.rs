//! What is measured, seen from the measurement.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use super::{LpmError, traffic::Queries};

/// Look-ups between two glances at the clock; all counts of queries are multiples of it.
pub(super) const STRETCH: usize = 4096;

/// Most look-ups together.
pub(super) const BATCH_MAX: usize = 64;

/// Something that finds the longest prefix, filled with one table.
pub(super) trait Subject {
    /// `altitude`, or the reference's name.
    fn name(&self) -> &'static str;

    /// What the look-up structure occupies.
    fn octets(&self) -> u64;

    /// Takes the addresses that are looked up from now on.
    ///
    /// # Errors
    /// [`LpmError::Dpdk`].
    fn take(&mut self, queries: &Arc<Queries>) -> Result<(), LpmError>;

    /// Looks the first addresses up in batches of `batch` and compares with the indices of the prefixes expected.
    ///
    /// # Errors
    /// [`LpmError::Mismatch`].
    fn verify(&mut self, batch: usize, expected: &[u32]) -> Result<(), LpmError>;

    /// Looks up in batches of `batch` (1: one by one) for about `length`, from where the last round stopped.
    /// Nanoseconds per look-up.
    ///
    /// # Errors
    /// [`LpmError::Dpdk`].
    fn round(&mut self, batch: usize, length: Duration) -> Result<f64, LpmError>;
}

/// The first address whose answer is not the one expected, if there is one.
pub(super) fn compare(
    subject: &'static str,
    queries: &Queries,
    expected: &[u32],
    answers: &[u32],
) -> Result<(), LpmError> {
    let wrong = expected.iter().zip(answers).position(|(expected, answer)| expected != answer);
    let Some(wrong) = wrong else { return Ok(()) };
    let address = queries.addresses(wrong + 1)[wrong];
    Err(LpmError::Mismatch { subject, address, expected: expected[wrong], found: Some(answers[wrong]) })
}

/// Calls `stretch` with the start of one stretch of [`STRETCH`] queries after another, round and round, until
/// `length` is over. Nanoseconds of this thread's CPU time per look-up: what others do on the core is not counted.
pub(super) fn timed(position: &mut usize, total: usize, length: Duration, mut stretch: impl FnMut(usize)) -> f64 {
    let (start, spent) = (Instant::now(), cpu_time());
    let mut done = 0_u64;
    while done == 0 || start.elapsed() < length {
        stretch(*position);
        *position = (*position + STRETCH) % total;
        done += STRETCH as u64;
    }
    (cpu_time() - spent).as_nanos() as f64 / done as f64
}

/// Of this thread, from its start.
fn cpu_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock"))
}
