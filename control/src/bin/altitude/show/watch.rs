//! `--watch`: the same again and again, in place on a terminal, one after the other into a pipe.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use ratatui::crossterm::{
    cursor::MoveTo,
    queue,
    style::Print,
    terminal::{Clear, ClearType, size},
};

use super::{ShowError, print};
use crate::cli::Show;

/// Shows until the reader is gone. A router that does not answer, such as one that is being started again, is waited for.
pub(super) fn watch(arguments: &Show, every: Duration) -> Result<(), ShowError> {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    loop {
        let mut text = Vec::new();
        match print(arguments, &mut text) {
            Ok(()) => {}
            Err(ShowError::Ask(error)) if terminal => text = format!("altitude: {error}\n").into_bytes(),
            Err(error) => return Err(error),
        }
        let mut out = stdout.lock();
        if terminal {
            let (width, height) = size().map_or((80, 24), |(width, height)| (usize::from(width), usize::from(height)));
            draw(&mut out, &String::from_utf8_lossy(&text), width, height)?;
        } else {
            out.write_all(&text)?;
        }
        out.flush()?;
        drop(out);
        std::thread::sleep(every);
    }
}

/// Writes over what is there, so that nothing flickers, and leaves out what has no room.
fn draw(out: &mut impl Write, text: &str, width: usize, height: usize) -> io::Result<()> {
    let lines: Vec<&str> = text.lines().collect();
    // The last line of the terminal stays free: text in its corner would have it scroll.
    let room = height.saturating_sub(1);
    let shown = if lines.len() > room { room.saturating_sub(1) } else { lines.len() };
    queue!(out, MoveTo(0, 0))?;
    for line in &lines[..shown] {
        let cut: String = line.chars().take(width).collect();
        queue!(out, Print(cut), Clear(ClearType::UntilNewLine), Print("\r\n"))?;
    }
    if shown < lines.len() {
        let more = format!("… {} more lines: without --watch all are shown", lines.len() - shown);
        queue!(out, Print(more.chars().take(width).collect::<String>()), Clear(ClearType::UntilNewLine))?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))
}

#[cfg(test)]
mod tests {
    use super::draw;

    /// What a terminal would show: the text without its control sequences.
    fn shown(text: &str, width: usize, height: usize) -> Vec<String> {
        let mut out = Vec::new();
        draw(&mut out, text, width, height).unwrap();
        let mut plain = String::new();
        let mut sequence = false;
        for letter in String::from_utf8(out).unwrap().chars() {
            match (sequence, letter) {
                (false, '\x1b') => sequence = true,
                (true, letter) => sequence = !letter.is_ascii_alphabetic(),
                (false, letter) => plain.push(letter),
            }
        }
        plain.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_fits_is_shown_whole_and_the_rest_is_counted() {
        assert_eq!(shown("one\ntwo\n", 80, 24), ["one", "two"]);
        assert_eq!(shown("a long line\n", 6, 24), ["a long"]);
        let many: String = (0..30).map(|line| format!("{line}\n")).collect();
        let few = shown(&many, 80, 10);
        assert_eq!((few.len(), few[7].as_str()), (9, "7"));
        assert_eq!(few[8], "… 22 more lines: without --watch all are shown");
    }
}
