//! The screen: ports, workers, locators, the ALT, events. Made for 80 × 24; more room shows more locators and events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table},
};

use super::model::{Model, Snapshot, Tone};

const HEAD: Style = Style::new().add_modifier(Modifier::REVERSED);
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// Lines of tunnels, neighbours and Map-Servers at most.
const PEERS_MAX: usize = 4;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let peers = model.now.as_ref().map_or_else(Vec::new, peers);
    let rows = |lines: usize| Constraint::Length(1 + lines.max(1) as u16);
    let [title, ports, workers, locators, alt, events, keys] = Layout::vertical([
        Constraint::Length(2),
        rows(model.ports.len().min(4)),
        rows(model.workers.len().min(4)),
        Constraint::Fill(1),
        rows(peers.len().min(PEERS_MAX)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_title(frame, title, model);
    draw_ports(frame, ports, model);
    draw_workers(frame, workers, model);
    draw_locators(frame, locators, model);
    let head = ["ALT AND MAP-SERVERS", "STATE", ""];
    let widths = [Constraint::Length(34), Constraint::Length(14), Constraint::Fill(1)];
    let lines = peers.into_iter().take(PEERS_MAX).map(|(name, state, up, more)| {
        Row::new([Span::raw(name), Span::styled(state, if up { GOOD } else { BAD }), Span::styled(more, FAINT)])
    });
    frame.render_widget(Table::new(lines, widths).header(Row::new(head).style(HEAD)), alt);
    draw_events(frame, events, model);
    let text = "q quit  p pause  + faster  - slower  ↑ ↓ locators";
    frame.render_widget(Paragraph::new(text).style(FAINT), keys);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let state = match (&model.lost, model.paused) {
        (Some(why), _) => Span::styled(format!("no answer: {why}"), BAD),
        (None, true) => Span::styled("paused".to_owned(), Style::new().fg(Color::Yellow)),
        (None, false) => Span::raw(format!("every {:?}", model.every)),
    };
    let first = Line::from(vec![Span::raw(format!("altitude {}  {}  ", env!("CARGO_PKG_VERSION"), model.api)), state]);
    let hits = model.hits().map_or("-".to_owned(), |share| format!("{:.2} %", share * 100.0));
    let missed = model.workers.iter().fold(0.0, |sum, worker| sum + worker.missed);
    let second = Line::raw(format!(
        "map-cache {} entries  hits {hits}  misses {}/s  asking {}",
        model.control("map-cache-entries"),
        short(missed),
        model.control("map-requests-pending"),
    ));
    frame.render_widget(Paragraph::new(vec![first, second]), area);
}

fn draw_ports(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let head = ["PORT", "ROLE", "LINK", "IN pps", "IN bit/s", "OUT pps", "OUT bit/s", "LOST/s"];
    let rows = model.ports.iter().map(|port| {
        let [packets_in, octets_in, packets_out, octets_out] = port.rates;
        Row::new([
            Span::raw(port.name.clone()),
            Span::raw(port.roles),
            if port.up { Span::styled("up", GOOD) } else { Span::styled("down", BAD) },
            Span::raw(right(short(packets_in), 9)),
            Span::raw(right(short(octets_in * 8.0), 9)),
            Span::raw(right(short(packets_out), 9)),
            Span::raw(right(short(octets_out * 8.0), 9)),
            Span::styled(right(short(port.lost), 7), if port.lost > 0.0 { BAD } else { FAINT }),
        ])
    });
    let widths = [15, 9, 4, 9, 9, 9, 9, 7].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(titles(head, &[3, 4, 5, 6, 7], &widths)), area);
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let head = ["WORKER", "LOAD", "ENCAP/s", "DECAP/s", "MISS/s", "DROP/s", "MOSTLY"];
    let rows = model.workers.iter().map(|worker| {
        let busy = if worker.load > 0.9 { BAD } else { Style::new() };
        let worst = worker.worst.map_or(String::new(), |(reason, rate)| format!("{reason} {}", short(rate)));
        Row::new([
            Span::raw(worker.number.to_string()),
            Span::styled(right(format!("{:.0} %", worker.load * 100.0), 6), busy),
            Span::raw(right(short(worker.encapsulated), 9)),
            Span::raw(right(short(worker.decapsulated), 9)),
            Span::raw(right(short(worker.missed), 8)),
            Span::styled(right(short(worker.dropped), 8), if worker.dropped > 0.0 { BAD } else { FAINT }),
            Span::raw(worst),
        ])
    });
    let widths = [6, 6, 9, 9, 8, 8, 28].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(titles(head, &[1, 2, 3, 4, 5], &widths)), area);
}

fn draw_locators(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let locators = model.now.as_ref().map_or(&[][..], |now| &now.locators);
    let room = usize::from(area.height.saturating_sub(1));
    let down = locators.iter().filter(|locator| !locator.up).count();
    let many = format!("LOCATOR ({} of {} down)", down, locators.len());
    let rows = locators.iter().skip(model.first).take(room).map(|locator| {
        let rtt = locator.probing.and_then(|probing| probing.rtt);
        Row::new([
            Span::raw(locator.address.to_string()),
            if locator.up { Span::styled("up", GOOD) } else { Span::styled("down", BAD) },
            Span::raw(right(rtt.map_or("-".to_owned(), |(smoothed, _)| milliseconds(smoothed)), 9)),
            Span::raw(right(locator.mappings.to_string(), 8)),
            Span::raw(right(locator.carrying.to_string(), 8)),
            Span::raw(locator.why.clone()),
        ])
    });
    let widths = [
        Constraint::Length(26),
        Constraint::Length(5),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let head = [many.as_str(), "STATE", "RTT", "MAPPINGS", "CARRYING", "WHY"];
    frame.render_widget(Table::new(rows, widths).header(titles(head, &[2, 3, 4], &widths)), area);
    if locators.is_empty() && room > 0 {
        let below = Rect { y: area.y + 1, height: 1, ..area };
        frame.render_widget(Paragraph::new("no mapping of another site is known yet").style(FAINT), below);
    }
}

/// Tunnels, neighbours and Map-Servers, what is wrong first: name, state, whether that is good, more about it.
fn peers(now: &Snapshot) -> Vec<(String, String, bool, String)> {
    let state = |up: bool| if up { "up" } else { "down" }.to_owned();
    let tunnels = now.alt.tunnels.iter().map(|tunnel| {
        (format!("tunnel {} to {}", tunnel.name, tunnel.remote), state(tunnel.up), tunnel.up, String::new())
    });
    let neighbors = now.bgp.neighbors.iter().map(|neighbor| {
        let (up, prefixes) = (neighbor.session.is_some(), format!("{} prefixes", neighbor.received));
        (format!("BGP {} AS {}", neighbor.name, neighbor.asn), neighbor.state.to_owned(), up, prefixes)
    });
    let servers = now.registrations.iter().map(|status| {
        let why = status.reason.as_ref().map_or(String::new(), |(what, _)| what.clone());
        let good = status.standing == "registered";
        (format!("Map-Server {}", status.server), status.standing.to_owned(), good, why)
    });
    let mut peers: Vec<_> = tunnels.chain(neighbors).chain(servers).collect();
    peers.sort_by_key(|(_, _, good, _)| *good);
    peers
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let mut lines = vec![Line::styled(format!("{:<width$}", "EVENTS", width = usize::from(area.width)), HEAD)];
    for event in &model.events {
        let tone = match event.tone {
            Tone::Good => GOOD,
            Tone::Bad => BAD,
            Tone::Plain => Style::new(),
        };
        lines.push(Line::from(vec![Span::styled(clock(event.at), FAINT), Span::styled(event.text.clone(), tone)]));
    }
    if model.events.is_empty() {
        lines.push(Line::styled("nothing changed since you look", FAINT));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// A header whose numbers stand above theirs.
fn titles<'a, const N: usize>(titles: [&'a str; N], numbers: &[usize], widths: &[Constraint; N]) -> Row<'a> {
    let cells = titles.into_iter().enumerate().map(|(index, title)| match widths[index] {
        Constraint::Length(width) if numbers.contains(&index) => right(title, usize::from(width)),
        _ => title.to_owned(),
    });
    Row::new(cells.collect::<Vec<_>>()).style(HEAD)
}

fn right(text: impl std::fmt::Display, width: usize) -> String {
    format!("{:>width$}", text.to_string())
}

/// A number in at most six letters.
fn short(value: f64) -> String {
    match value {
        value if value < 10.0 && value.fract() != 0.0 => format!("{value:.1}"),
        value if value < 10_000.0 => format!("{value:.0}"),
        value if value < 1e6 => format!("{:.1}k", value / 1e3),
        value if value < 1e9 => format!("{:.2}M", value / 1e6),
        value => format!("{:.2}G", value / 1e9),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Time of day, UTC as in the log.
fn clock(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{:02}:{:02}:{:02}  ", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests;
