use std::{
    io,
    sync::{Arc, atomic::AtomicU64},
};

use tracing_subscriber::{Layer, layer::SubscriberExt};

use super::*;

const ONE: Rate = Rate { burst: 3, every: Duration::from_secs(1) };

#[test]
fn a_kind_is_limited_by_itself_and_what_was_left_out_is_said_later() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut pace = Pace::default();
    let written = |pace: &mut Pace<char>, ms, kind: char, count: u32| {
        (0..count).filter(|n| pace.admit(at(ms), kind, ONE, || format!("{kind}{n}"))).count()
    };
    assert_eq!(written(&mut pace, 0, 'a', 1000), 3);
    assert_eq!(written(&mut pace, 0, 'b', 2), 2, "another kind has its own");
    assert_eq!(written(&mut pace, 1_000, 'a', 1000), 1);
    assert_eq!(pace.take(at(9_999)), (vec![], true), "not yet");
    let told = LeftOut { message: "a3".to_owned(), lines: 997 + 999 };
    assert_eq!(pace.take(at(10_000)), (vec![told], false));
    assert_eq!(pace.take(at(60_000)), (vec![], false), "it is said once");
    assert_eq!(written(&mut pace, 60_000, 'a', 4), 3);
    assert_eq!(pace.take(at(70_000)).0[0].lines, 1);
}

/// A writer that keeps the octets.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// G-9: ten thousand lines a second of one kind, as a flood of messages causes, and the log grows at its own pace, at every
/// level; other kinds are written as ever, and what was left out is said.
#[test]
fn a_flood_of_messages_does_not_flood_the_log() {
    let (start, page) = (Instant::now(), Page::default());
    let millis: &'static AtomicU64 = Box::leak(Box::default());
    let clock = move || start + Duration::from_millis(millis.load(Ordering::Relaxed));
    let limiter: &'static Limiter<_> = Box::leak(Box::new(Limiter::new(clock)));
    let writer = page.clone();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(Shared(limiter)));
    let seconds = 20;
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..seconds * 10_000_u64 {
            millis.store(n / 10, Ordering::Relaxed);
            tracing::warn!(from = n, "a message is refused");
            tracing::debug!(from = n, "of a message");
            if n % 20_000 == 0 {
                tracing::warn!("something else");
            }
        }
    });
    let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count() as u64;
    assert_eq!(count("a message is refused"), 100 + 5 * seconds - 1, "a burst, and then at the rate");
    assert_eq!(count("of a message"), 1000 + 100 * seconds - 1);
    assert_eq!(count("something else"), 10);
    let mut left_out = limiter.left_out();
    left_out.sort_by_key(|left_out| left_out.lines);
    let said: Vec<_> = left_out.iter().map(|left_out| (left_out.message.as_str(), left_out.lines)).collect();
    let all = seconds * 10_000;
    assert_eq!(said, [("of a message", all - 2999), ("a message is refused", all - 199)]);
    assert_eq!(limiter.left_out(), []);
}
