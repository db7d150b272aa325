//! `altitude top`: what a running router does, live, on one screen.
//!
//! Every second the router is asked through the mapping API, as `altitude show` asks it; [`model`] makes rates and events out
//! of what changed since, [`draw`] puts them on the screen.

mod draw;
mod model;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use altitude_control::api::client::{Client, ClientError};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use self::model::{Model, Snapshot};
use crate::cli::Top;

/// Runs until `q`.
pub(crate) fn top(arguments: &Top) -> Result<(), String> {
    if !io::stdout().is_terminal() {
        return Err("altitude: top draws on a terminal; into a pipe, use `altitude show counters --watch`".to_owned());
    }
    // Asked before the screen is taken: a router that is not there is told in a plain line.
    let mut router = Router { api: arguments.api.clone(), client: None };
    let first = router.ask().map_err(|error| format!("altitude: {error}"))?;
    let mut terminal = ratatui::try_init().map_err(|error| format!("altitude: the terminal: {error}"))?;
    let done = run(&mut terminal, &mut router, first, Duration::from_secs(arguments.every));
    ratatui::restore();
    done.map_err(|error| format!("altitude: the terminal: {error}"))
}

fn run(terminal: &mut DefaultTerminal, router: &mut Router, first: Snapshot, every: Duration) -> io::Result<()> {
    let mut model = Model::new(router.api.display().to_string(), every);
    model.take(first);
    let mut next = Instant::now() + model.every;
    loop {
        terminal.draw(|frame| draw::draw(frame, &model))?;
        while event::poll(next.saturating_duration_since(Instant::now()))? {
            if let Event::Key(key) = event::read()? {
                match command(key) {
                    Some(Command::Quit) => return Ok(()),
                    Some(Command::Pause) => model.paused = !model.paused,
                    Some(Command::Faster) => model.change_pace(true),
                    Some(Command::Slower) => model.change_pace(false),
                    Some(Command::Up) => model.scroll(-1),
                    Some(Command::Down) => model.scroll(1),
                    None => continue,
                }
            }
            // Keys, and a terminal of another size, show at once.
            terminal.draw(|frame| draw::draw(frame, &model))?;
        }
        next = Instant::now() + model.every;
        if !model.paused {
            match router.ask() {
                Ok(snapshot) => model.take(snapshot),
                Err(error) => model.lost(error.to_string()),
            }
        }
    }
}

/// What keys do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Quit,
    Pause,
    Faster,
    Slower,
    Up,
    Down,
}

fn command(key: KeyEvent) -> Option<Command> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Command::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Command::Quit),
        KeyCode::Char('p' | ' ') => Some(Command::Pause),
        KeyCode::Char('+') => Some(Command::Faster),
        KeyCode::Char('-') => Some(Command::Slower),
        KeyCode::Up | KeyCode::Char('k') => Some(Command::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Command::Down),
        _ => None,
    }
}

/// The router that is watched; after a failure it is connected to anew.
struct Router {
    api: PathBuf,
    client: Option<Client>,
}

impl Router {
    fn ask(&mut self) -> Result<Snapshot, ClientError> {
        let asked = Self::snapshot(&self.api, &mut self.client);
        if asked.is_err() {
            self.client = None;
        }
        asked
    }

    fn snapshot(api: &Path, client: &mut Option<Client>) -> Result<Snapshot, ClientError> {
        let client = match client {
            Some(client) => client,
            none => none.insert(Client::connect(api)?),
        };
        Ok(Snapshot {
            at: Instant::now(),
            counts: client.counts()?,
            ports: client.ports()?,
            locators: client.locators()?,
            alt: client.alt()?,
            bgp: client.bgp()?,
            registrations: client.registrations()?,
        })
    }
}
