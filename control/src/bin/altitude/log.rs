//! Log lines on stderr, for people or as JSON.

use std::io;

use altitude_control::config::{LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;

/// Starts logging; the first call of a process counts.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_writer(io::stderr);
    // A second subscriber is refused; the one there is does the same.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
