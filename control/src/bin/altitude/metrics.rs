//! Metrics for Prometheus: a thread of their own that answers scrapers over HTTP with what the mapping API says.
//!
//! It is a client of the API as any other: a scraper that is slow, or one too many, waits for another scraper and never for
//! the control thread, nor that for it.

mod families;
mod http;

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use altitude_control::api::client::{Client, ClientError};
use prometheus::{TextEncoder, core::Collector, process_collector::ProcessCollector};

use self::{families::Scrape, http::Asked};

/// How long a scraper may take to ask, and to take what it asked for.
const PATIENCE: Duration = Duration::from_secs(5);

const PAGE: &str = "<!doctype html><title>Altitude</title><h1>Altitude</h1><p><a href=\"/metrics\">Metrics</a>\n";

/// Where scrapers connect.
pub(crate) struct Endpoint {
    listener: TcpListener,
}

impl Endpoint {
    /// Listens.
    ///
    /// # Errors
    /// With what to do about it.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let explain = |error: io::Error| {
            let text = format!("cannot serve metrics at {address}: {error}; correct --metrics");
            io::Error::new(error.kind(), text)
        };
        TcpListener::bind(address).map_err(explain).map(|listener| Self { listener })
    }

    /// Answers, one scraper after the other, until the program ends.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(crate) fn serve(self, api: &Path) -> io::Result<()> {
        let mut scraped = Scraped { api: api.to_owned(), client: None, process: ProcessCollector::for_self() };
        let serve = move || {
            loop {
                match self.listener.accept() {
                    // A scraper that went away has nobody to tell.
                    Ok((stream, _)) => drop(answer(&stream, &mut scraped)),
                    Err(error) => {
                        tracing::debug!(%error, "a scraper was not accepted");
                        // Out of file descriptors, as like as not: they come back with time.
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        };
        std::thread::Builder::new().name("metrics".to_owned()).spawn(serve).map(drop)
    }
}

fn answer(stream: &TcpStream, scraped: &mut Scraped) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    match http::asked(stream, PATIENCE)? {
        Asked::Metrics { head } => match scraped.text() {
            Ok(text) => http::reply(stream, "200 OK", prometheus::TEXT_FORMAT, &text, head),
            Err(why) => http::reply(stream, "503 Service Unavailable", http::PLAIN, &format!("{why}\n"), head),
        },
        Asked::Front { head } => http::reply(stream, "200 OK", "text/html; charset=utf-8", PAGE, head),
        Asked::Other => http::reply(stream, "404 Not Found", http::PLAIN, "metrics are at /metrics\n", false),
        Asked::Wrong => http::reply(stream, "400 Bad Request", http::PLAIN, "only GET and HEAD are answered\n", false),
    }
}

/// The connection to the control thread, kept from scrape to scrape.
struct Scraped {
    api: PathBuf,
    client: Option<Client>,
    process: ProcessCollector,
}

impl Scraped {
    fn text(&mut self) -> Result<String, String> {
        let scrape = self.scrape().map_err(|error| {
            // What is half read would answer the next question.
            self.client = None;
            error.to_string()
        })?;
        let mut families = families::families(&scrape);
        families.extend(self.process.collect());
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&families).map_err(|error| error.to_string())
    }

    fn scrape(&mut self) -> Result<Scrape, ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(&self.api)?),
        };
        Ok(Scrape {
            counts: client.counts()?,
            ports: client.ports()?,
            locators: client.locators()?,
            alt: client.alt()?,
            bgp: client.bgp()?,
            registrations: client.registrations()?,
        })
    }
}
