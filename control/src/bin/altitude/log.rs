//! Log lines on stderr, for people or as JSON, at a limited rate of each kind.

mod pace;

use std::{
    io,
    sync::{LazyLock, OnceLock},
    time::Instant,
};

use altitude_control::config::{LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, Registry, filter::FilterExt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use self::pace::{Limiter, Shared};

/// What sets another level.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// What keeps the pace.
static LIMITER: LazyLock<Limiter<fn() -> Instant>> = LazyLock::new(|| Limiter::new(Instant::now));

/// Starts logging; the first call of a process counts.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_writer(io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(level));
    // A second subscriber is refused; the one there is does the same.
    if tracing_subscriber::registry().with(lines.with_filter(filter.and(Shared(&LIMITER)))).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Says of lines that were left out how many there were, some seconds after.
pub(crate) fn settle() {
    for pace::LeftOut { message, lines } in LIMITER.left_out() {
        tracing::warn!(lines, of = message, "log lines left out: there were too many of their kind");
    }
}

/// Lines from this level on are written from now on.
pub(crate) fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // It fails only when the subscriber is gone, and with it the log.
        let _ = handle.modify(|current| *current = filter(level));
    }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
