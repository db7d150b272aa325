use ratatui::{Terminal, backend::TestBackend};

use super::{super::model::tests, *};

/// What stands on a terminal of this size.
fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |row| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn on_80_by_24_a_locator_that_fails_is_seen_with_its_reason() {
    let (mut model, start) = tests::model();
    model.take(tests::snapshot(start, 10, 123_456));
    let mut broken = tests::snapshot(start, 11, 123_456);
    broken.locators[1].up = false;
    broken.locators[1].why = "no answer to RLOC-probes".to_owned();
    model.take(broken);
    let screen = screen(&model, 80, 24);
    let shown = screen.join("\n");
    for said in [
        "altitude 0.1.0  /run/altitude/map.sock  every 1s",
        "map-cache 12 entries  hits 99.01 %",
        "eth1            site      up",
        "123.5k",
        "0        75 %    123.5k     61.7k     1235    18.5k",
        "LOCATOR (1 of 2 down)",
        "240.0.254.21               down          -        3        2 no answer to RLOC-",
        "tunnel alt0 to 240.0.254.30        up",
        "locator 240.0.254.21 is down: no answer to RLOC-probes",
        "q quit  p pause",
    ] {
        assert!(shown.contains(said), "{said} is missing on\n{shown}");
    }
    assert!(
        screen.iter().position(|line| line.contains("254.21")) < screen.iter().position(|line| line.contains("254.20"))
    );
}

#[test]
fn without_a_site_and_without_an_answer_it_says_so() {
    let (mut model, start) = tests::model();
    let mut bare = tests::snapshot(start, 1, 0);
    (bare.ports, bare.locators) = (Vec::new(), Vec::new());
    bare.counts.remove(0);
    model.take(bare);
    model.lost("no router answers at /run/altitude/map.sock".to_owned());
    let shown = screen(&model, 80, 24).join("\n");
    assert!(shown.contains("no answer: no router answers") && shown.contains("no mapping of another site"), "{shown}");
    assert!(shown.contains("hits -"), "{shown}");
    // Smaller than it is made for: less is shown, and nothing panics.
    for (width, height) in [(40, 10), (1, 1), (200, 60)] {
        screen(&model, width, height);
    }
}

#[test]
fn numbers_stay_short() {
    let shorts = [0.0, 0.5, 12.3, 9999.0, 10_000.0, 1.5e6, 2.0e10].map(short);
    assert_eq!(shorts, ["0", "0.5", "12", "9999", "10.0k", "1.50M", "20.00G"]);
}
