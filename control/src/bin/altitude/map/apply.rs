//! `altitude map apply`: changes from a file, made all or none as far as one batch takes them, else batch by batch.

use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    io::{self, Read},
    path::Path,
};

use altitude_control::api::{
    BATCH_MAX, Operation, Table,
    client::{Client, ClientError},
};
use altitude_dataplane::mapping::EidPrefix;
use serde_json::json;

use super::{MapError, print};
use crate::cli;

/// What the file is called in messages.
fn name(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// Octets of a file.
const OCTETS_MAX: u64 = 64 << 20;

fn read(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(OCTETS_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {} MiB", OCTETS_MAX >> 20)));
    }
    Ok(text)
}

/// Changes that the router takes at once.
#[derive(Debug, Default, PartialEq)]
struct Group {
    /// The numbers of their lines,
    lines: Vec<usize>,
    /// and what these say.
    operations: Vec<Operation>,
}

/// Where and why a file was not done.
type Wrong = (usize, String);

/// Makes batches of a file's changes. All of one prefix are in one batch, in their order, so that each batch can be verified
/// without those before it; their place is that of the last one. Else the order is the file's.
fn groups(changes: Vec<(usize, Operation)>) -> Result<Vec<Group>, Wrong> {
    let place = |operation: &Operation| match operation {
        Operation::Add(offer) | Operation::Change { offer, .. } => (offer.table, offer.mapping.eid),
        Operation::Delete { table, eid, .. } => (*table, *eid),
        Operation::Flush { .. } | Operation::Judge { .. } | Operation::Clear { .. } | Operation::Reload => {
            unreachable!("a line is none of these")
        }
    };
    let mut table: Option<Table> = None;
    let mut last: HashMap<EidPrefix, usize> = HashMap::new();
    for (at, (line, operation)) in changes.iter().enumerate() {
        let (of, eid) = place(operation);
        if *table.get_or_insert(of) != of {
            return Err((*line, "a file is about one table: make one for each".to_owned()));
        }
        last.insert(eid, at);
    }
    if changes.len() <= BATCH_MAX {
        let (lines, operations) = changes.into_iter().unzip();
        return Ok(vec![Group { lines, operations }]);
    }
    let mut waiting: HashMap<EidPrefix, Group> = HashMap::new();
    let mut groups = vec![Group::default()];
    for (at, (line, operation)) in changes.into_iter().enumerate() {
        let (_, eid) = place(&operation);
        let mut of_eid = waiting.remove(&eid).unwrap_or_default();
        of_eid.lines.push(line);
        of_eid.operations.push(operation);
        if of_eid.lines.len() > BATCH_MAX {
            return Err((line, format!("at most {BATCH_MAX} changes of one EID-prefix are made, and {eid} has more")));
        }
        if last[&eid] != at {
            waiting.insert(eid, of_eid);
            continue;
        }
        let group = groups.last_mut().expect("there is one");
        if group.lines.len() + of_eid.lines.len() <= BATCH_MAX {
            group.lines.append(&mut of_eid.lines);
            group.operations.append(&mut of_eid.operations);
        } else {
            groups.push(of_eid);
        }
    }
    Ok(groups)
}

/// What a file had done.
#[derive(Debug, Default)]
struct Made {
    generation: u64,
    changes: usize,
    batches: usize,
}

/// Makes the changes, or as a trial asks whether they could be made, and says so.
pub(super) fn apply(api: &Path, file: &Path, trial: bool, json: bool) -> Result<(), MapError> {
    let named = name(file);
    let text = if file == Path::new("-") { read(io::stdin().lock()) } else { fs::File::open(file).and_then(read) };
    let text = text.map_err(|error| MapError::File(format!("{named} cannot be read: {error}")))?;
    let changes = cli::changes(&text).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(|(number, why)| format!("{named}:{number}: {why}")).collect();
        MapError::File(lines.join("\n"))
    })?;
    let wrong = |(line, why): Wrong| MapError::File(format!("{named}:{line}: {why}; nothing was changed"));
    let groups = groups(changes).map_err(wrong)?;
    // Whoever types changes in must not hold one of the router's connections meanwhile.
    let mut client = Client::connect(api)?;
    // One batch is verified as it is made.
    if trial || groups.len() > 1 {
        let mut ahead = 0;
        for (at, group) in groups.iter().enumerate() {
            ahead = client.try_all(&group.operations, ahead).map_err(|error| untried(&named, &groups[at], error))?;
        }
    }
    let made = if trial {
        Made { generation: client.generation(), changes: count(&groups), batches: groups.len() }
    } else {
        make(&mut client, &groups).map_err(|(made, error)| unmade(&named, &groups, made, error))?
    };
    print(&said(&made, trial, json))
}

/// Makes all batches; when one fails, says how many were made before it.
fn make(client: &mut Client, groups: &[Group]) -> Result<Made, (usize, ClientError)> {
    let mut made = Made::default();
    for group in groups {
        let performed = client.perform_all(&group.operations).map_err(|error| (made.batches, error))?;
        made.generation = performed.generation;
        made.changes += group.lines.len();
        made.batches += 1;
    }
    Ok(made)
}

fn count(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.lines.len()).sum()
}

/// Why a batch could not be made, before any was.
fn untried(named: &str, group: &Group, error: ClientError) -> MapError {
    match error {
        ClientError::BatchRefused { at, text, .. } => {
            MapError::File(format!("{named}:{}: {text}; nothing was changed", group.lines[at]))
        }
        other => other.into(),
    }
}

/// Why a batch was not made once `made` others were, and what there is of the file now.
fn unmade(named: &str, groups: &[Group], made: usize, error: ClientError) -> MapError {
    let (before, rest) = groups.split_at(made);
    let refused = matches!(error, ClientError::BatchRefused { .. } | ClientError::Refused { .. });
    if before.is_empty() && refused {
        return untried(named, &rest[0], error);
    }
    let mut text = match error {
        ClientError::BatchRefused { at, text, .. } => format!("{named}:{}: {text}", rest[0].lines[at]),
        other => format!("{named}: {other}"),
    };
    // Without an answer nobody knows.
    let (open, rest) = if refused { rest.split_at(0) } else { rest.split_at(1) };
    for (what, part) in [("made", before), ("perhaps made, perhaps not", open), ("not made", rest)] {
        if !part.is_empty() {
            let _ = write!(text, "; {what}: {} of {}", many(count(part)), lines(part, groups));
        }
    }
    MapError::File(text)
}

fn many(count: usize) -> String {
    format!("{count} change{}", if count == 1 { "" } else { "s" })
}

/// The lines of a part of the batches: the first and last ones of runs that only lines without changes interrupt.
fn lines(part: &[Group], all: &[Group]) -> String {
    let sorted = |groups: &[Group]| {
        let mut lines: Vec<usize> = groups.iter().flat_map(|group| &group.lines).copied().collect();
        lines.sort_unstable();
        lines
    };
    let part = sorted(part);
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut running = false;
    for line in sorted(all) {
        let is_in = part.binary_search(&line).is_ok();
        match runs.last_mut() {
            Some((_, last)) if is_in && running => *last = line,
            _ if is_in => runs.push((line, line)),
            _ => {}
        }
        running = is_in;
    }
    let one =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let named: Vec<String> = runs.iter().map(one).collect();
    format!("line{} {}", if part.len() == 1 { "" } else { "s" }, named.join(", "))
}

/// What is printed when it went well.
fn said(made: &Made, trial: bool, json: bool) -> String {
    let Made { generation, changes, batches } = made;
    let done = if trial { "dry-run" } else { "apply" };
    if json {
        let document = json!({ "done": done, "generation": generation, "count": changes, "batches": batches });
        return format!("{document}\n");
    }
    let parts = if *batches > 1 { format!(" in {batches} batches") } else { String::new() };
    if trial {
        format!("{} can be made{parts}; nothing was changed\n", many(*changes))
    } else {
        format!("{} made{parts}\n", many(*changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(changes: usize, batches: usize) -> Made {
        Made { generation: 17, changes, batches }
    }

    #[test]
    fn what_was_done_and_what_could_be_are_told_apart() {
        assert_eq!(said(&made(3, 1), false, false), "3 changes made\n");
        assert_eq!(said(&made(600, 3), false, false), "600 changes made in 3 batches\n");
        assert_eq!(said(&made(1, 1), true, false), "1 change can be made; nothing was changed\n");
        assert_eq!(said(&made(600, 3), true, false), "600 changes can be made in 3 batches; nothing was changed\n");
        let document = "{\"batches\":1,\"count\":3,\"done\":\"apply\",\"generation\":17}\n";
        assert_eq!(said(&made(3, 1), false, true), document);
        assert_eq!(said(&made(3, 1), true, true), document.replace("apply", "dry-run"));
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let error = read(io::repeat(b' ')).unwrap_err();
        assert!(error.to_string().contains("more than 64 MiB"), "{error}");
        assert_eq!(read(&b"del 2.2.0.0/16\n"[..]).unwrap(), "del 2.2.0.0/16\n");
    }

    fn grouped(text: &str) -> Result<Vec<Group>, Wrong> {
        groups(cli::changes(text).unwrap())
    }

    /// `count` deletions of different prefixes.
    fn dels(count: usize) -> String {
        (0..count).map(|number| format!("del 10.{}.{}.0/24\n", number >> 8, number & 255)).collect()
    }

    #[test]
    fn what_one_batch_takes_is_one_as_it_stands() {
        let again = "del 1.0.0.0/8\nadd 1.0.0.0/8 240.0.254.20\n".repeat(BATCH_MAX / 2);
        let [only] = &grouped(&again).unwrap()[..] else { panic!() };
        assert_eq!(only.lines, (1..=BATCH_MAX).collect::<Vec<_>>());
        assert_eq!(grouped("").unwrap(), [Group::default()]);
    }

    #[test]
    fn batches_keep_the_order_and_the_changes_of_one_prefix_together() {
        let groups = grouped(&dels(2 * BATCH_MAX + 1)).unwrap();
        assert_eq!(groups.iter().map(|group| group.lines.len()).collect::<Vec<_>>(), [BATCH_MAX, BATCH_MAX, 1]);
        assert_eq!(groups[1].lines, (BATCH_MAX + 1..=2 * BATCH_MAX).collect::<Vec<_>>());
        // What cuts a prefix up takes it out at the end, and so it stays; three of one prefix are never parted.
        let cut = |middle: usize| {
            format!("change 1.0.0.0/8 240.0.254.20\n{}del 1.0.0.0/8\nadd 1.0.0.0/8 240.0.254.21\n", dels(middle))
        };
        for middle in BATCH_MAX - 2..BATCH_MAX + 2 {
            let groups = grouped(&cut(middle)).unwrap();
            assert!(groups.iter().all(|group| group.lines.len() <= BATCH_MAX));
            let last = groups.last().unwrap();
            assert!(last.lines.ends_with(&[1, middle + 2, middle + 3]), "{middle}: {:?}", last.lines);
            assert_eq!(count(&groups), middle + 3);
        }
    }

    #[test]
    fn what_no_batches_can_be_made_of_is_named() {
        let mixed = format!("{}del 1.0.0.0/8 --database\n", dels(300));
        assert_eq!(grouped(&mixed).unwrap_err().0, 301);
        let many = "del 1.0.0.0/8\nadd 1.0.0.0/8 240.0.254.20\n".repeat(BATCH_MAX / 2 + 1);
        let (line, why) = grouped(&many).unwrap_err();
        assert_eq!(line, BATCH_MAX + 1);
        assert!(why.contains("1.0.0.0/8"), "{why}");
    }

    #[test]
    fn a_failure_says_what_was_made_and_what_was_not() {
        let text = format!("# sites\ndel 1.0.0.0/8\n{}\n# more\nadd 1.0.0.0/8 240.0.254.20\n", dels(BATCH_MAX + 9));
        let groups = grouped(&text).unwrap();
        let refused = |at| ClientError::BatchRefused { at, errno: 2, text: "no entry".to_owned() };
        assert_eq!(unmade("f", &groups, 0, refused(3)).to_string(), "f:6: no entry; nothing was changed");
        assert_eq!(
            unmade("f", &groups, 1, refused(10)).to_string(),
            "f:270: no entry; made: 256 changes of lines 3-258; not made: 11 changes of lines 2, 259-270"
        );
        let lost = || ClientError::Answer(altitude_control::api::ProtocolError::Value("cut off"));
        assert_eq!(
            unmade("f", &groups, 0, lost()).to_string(),
            "f: the router's answer cannot be read: cut off; perhaps made, perhaps not: 256 changes of lines 3-258; not \
             made: 11 changes of lines 2, 259-270"
        );
    }
}
