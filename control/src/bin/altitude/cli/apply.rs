//! `altitude map apply`: a file of changes, one a line, as `altitude map` takes them.

use altitude_control::api::Operation;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::map::{ChangeArguments, DelArguments, OfferArguments};

/// One line.
#[derive(Debug, Parser)]
#[command(name = "map", no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(OfferArguments),
    Change(ChangeArguments),
    #[command(alias = "delete")]
    Del(DelArguments),
}

/// Things with the numbers of their lines.
type Numbered<T> = Vec<(usize, T)>;

/// Changes of one file: as many as a large map-cache has entries.
const CHANGES_MAX: usize = 1 << 20;
/// Lines that are wrong are named up to so many.
const WRONG_MAX: usize = 100;

/// Reads a file: its changes, each with the number of its line.
///
/// # Errors
/// Lines that are none, by their numbers, with what is wrong; at last the one that is too many.
pub(crate) fn changes(text: &str) -> Result<Numbered<Operation>, Numbered<String>> {
    up_to(CHANGES_MAX, text)
}

fn up_to(max: usize, text: &str) -> Result<Numbered<Operation>, Numbered<String>> {
    // Made once: a file may have a million lines.
    let mut command = Line::command();
    let (mut changes, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        match words(line).and_then(|words| change(&mut command, &words)) {
            Ok(Some(_)) if changes.len() == max => {
                wrong.push((number, format!("a file has at most {max} changes: make several")));
                break;
            }
            Ok(Some(operation)) => changes.push((number, operation)),
            Ok(None) => {}
            Err(why) => wrong.push((number, why)),
        }
        if wrong.len() == WRONG_MAX {
            wrong.push((number, "what comes behind this line was not read".to_owned()));
            break;
        }
    }
    if wrong.is_empty() { Ok(changes) } else { Err(wrong) }
}

fn change(command: &mut Command, words: &[String]) -> Result<Option<Operation>, String> {
    if words.is_empty() {
        return Ok(None);
    }
    let found = command.try_get_matches_from_mut(words).and_then(|found| Line::from_arg_matches(&found));
    let line = found.map_err(|error| reason(&error))?;
    Ok(Some(match line.verb {
        Verb::Add(offer) => Operation::Add(offer.offer()),
        Verb::Change(arguments) => arguments.operation(),
        Verb::Del(arguments) => arguments.operation(),
    }))
}

/// What is wrong, in one line, without the usage below it.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    first.join(" ").trim_start_matches("error: ").to_owned()
}

/// The words of a line: between blanks, or between quotes; what stands behind a # in front of a word is a remark.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = Vec::new();
    let mut letters = line.chars();
    let mut inside = false;
    while let Some(letter) = letters.next() {
        match letter {
            '#' if !inside => break,
            _ if letter.is_whitespace() => inside = false,
            _ => {
                if !inside {
                    words.push(String::new());
                    inside = true;
                }
                let word = words.last_mut().expect("a word has begun");
                if letter == '\'' || letter == '"' {
                    let mut closed = false;
                    for within in letters.by_ref() {
                        closed = within == letter;
                        if closed {
                            break;
                        }
                        word.push(within);
                    }
                    if !closed {
                        return Err(format!("the quote {letter} has no end"));
                    }
                } else {
                    word.push(letter);
                }
            }
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_between_blanks_or_quotes_and_remarks_are_none() {
        for (line, expected) in [
            ("", &[][..]),
            ("  # all of it", &[]),
            ("add 2.2.0.0/16\t240.0.254.20 # why", &["add", "2.2.0.0/16", "240.0.254.20"]),
            ("del '[5]10.0.0.0/8'", &["del", "[5]10.0.0.0/8"]),
            ("a\"b c\"d x#y ''", &["ab cd", "x#y", ""]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert!(words("del '1.0.0.0/8").unwrap_err().contains('\''));
    }

    #[test]
    fn every_line_that_is_wrong_is_named() {
        let text = "# sites\nadd 2.2.0.0/16 240.0.254.20\n\nadd 2.3.0.0/16\nchange 2.2.0.0/16 x\nfrobnicate\nmonitor\n\
                    del 2.2.0.0/16 --api=/tmp/x\n";
        let wrong = changes(text).unwrap_err();
        let said: Vec<(usize, &str)> = wrong.iter().map(|(number, why)| (*number, why.as_str())).collect();
        let [(4, lacks), (5, odd), (6, unknown), (7, no_change), (8, strange)] = said[..] else { panic!("{said:?}") };
        assert!(lacks.contains("RLOC"), "{lacks}");
        assert!(odd.contains("'x' is no IPv4 or IPv6 address"), "{odd}");
        assert!(unknown.contains("frobnicate") && no_change.contains("monitor"), "{unknown}, {no_change}");
        assert!(strange.contains("--api"), "{strange}");
        assert!(said.iter().all(|(_, why)| !why.contains('\n') && !why.starts_with("error")), "{said:?}");
    }

    #[test]
    fn lines_are_what_the_command_line_takes() {
        let text = "add '[5]10.0.0.0/8' 240.0.254.20,2,60 --ttl 90\nadd 1.9.0.0/16 240.0.254.10 --database\n\
                    delete 3.0.0.0/8 --since 7\nchange 8.0.0.0/8 --action drop\n";
        let changes = changes(text).unwrap();
        let [(1, Operation::Add(first)), (2, Operation::Add(own)), (3, delete), (4, Operation::Change { offer, .. })] =
            &changes[..]
        else {
            panic!("{changes:?}")
        };
        assert_eq!(
            (first.mapping.eid.to_string(), first.life.map(|life| life.as_secs())),
            ("[5]10.0.0.0/8".into(), Some(90))
        );
        assert_eq!(own.table, altitude_control::api::Table::Database);
        assert!(matches!(delete, Operation::Delete { unless_after: Some(7), .. }));
        assert!(offer.mapping.locators.is_empty());
    }

    #[test]
    fn reading_ends_with_too_many_changes_or_with_very_many_mistakes() {
        let del = "del 2.2.0.0/16\n";
        assert_eq!(up_to(300, &del.repeat(300)).unwrap().len(), 300);
        let [(301, why)] = &up_to(300, &format!("{}wrong\n", del.repeat(301))).unwrap_err()[..] else { panic!() };
        assert!(why.contains("300"), "{why}");
        let wrong = changes(&"wrong\n".repeat(10 * WRONG_MAX)).unwrap_err();
        assert_eq!((wrong.len(), wrong.last().map(|(line, _)| *line)), (WRONG_MAX + 1, Some(WRONG_MAX)));
    }
}
