//! Which rule of the RFCs is kept, and by which test: the list of rules (`rules.toml`) beside the tests that cite them.
//!
//! A test cites the rules that it would fail for in the first words of its doc comment: `/// ITR-23, ETR-16: …`.
//! RULES.md is written from both, and this test fails while it is not what would be written.

mod citations;
mod list;
mod page;

use std::{env, fs, path::Path};

use citations::Citation;
use list::List;

/// Set to anything, the page is written instead of compared, and the list forgets [`list::PLACEHOLDER`] where a test came.
const WRITE: &str = "ALTITUDE_WRITE_RULES";

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn assert_none(what: &str, mut found: Vec<String>) {
    found.sort();
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// Where the list and the citations do not fit together.
fn misfits(list: &List, citations: &[Citation]) -> Vec<String> {
    let mut found = list.mistakes();
    for Citation { rule, test, file } in citations {
        if list.rule(rule).is_none() {
            found.push(format!("{rule}: no such rule, cited by {test} in {file}"));
        }
    }
    for rule in list.rules() {
        let tests = citations.iter().filter(|citation| citation.rule == rule.id).count();
        match (tests > 0, rule.why.is_some(), rule.partly) {
            (true, true, false) => {
                let why = "delete its `why`, or add `partly = true`";
                found.push(format!("{}: {tests} tests cite it: {why} ({WRITE}=1 deletes placeholders)", rule.id));
            }
            (true, false, true) => found.push(format!("{}: partly kept, without a `why`", rule.id)),
            (false, _, true) => found.push(format!("{}: partly kept, and cited by no test", rule.id)),
            (false, false, false) => found.push(format!("{}: neither a test nor a `why`", rule.id)),
            (true, false, false) | (true, true, true) | (false, true, false) => {}
        }
    }
    found
}

#[test]
fn the_page_says_which_test_shows_which_rule() {
    let (source, path) = (top().join("control/tests/rules/rules.toml"), top().join("RULES.md"));
    let (mut text, write) = (fs::read_to_string(&source).expect("the list of rules"), env::var_os(WRITE).is_some());
    let citations = citations::all(top());
    if write {
        text = list::without_placeholders(&text, |id| citations.iter().any(|citation| citation.rule == id));
        fs::write(&source, &text).expect("a writable list of rules");
    }
    let list = List::parse(&text);
    assert_none("rules (control/tests/rules/rules.toml) and the tests that cite them", misfits(&list, &citations));

    println!("{}{}", page::counts(&list, &citations), page::summary(&list, &citations).trim_end());
    let wanted = page::page(&list, &citations);
    if write {
        fs::write(&path, wanted).expect("a writable RULES.md");
        return;
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    let differing = wanted.lines().zip(held.lines().chain(std::iter::repeat(""))).find(|(want, have)| want != have);
    assert!(
        held == wanted,
        "RULES.md is not what the tests say; first difference: {differing:?}\n\
         write it anew with: {WRITE}=1 cargo test -p altitude-control --test rules"
    );
}

#[test]
fn misfits_are_told() {
    let list = List::parse(
        r#"
        [[section]]
        title = "One"

        [[section.rule]]
        id = "A-1"
        level = "M"
        what = "kept, and said not to be"
        source = ""
        why = "not built yet"

        [[section.rule]]
        id = "A-2"
        level = "S"
        what = "kept in part"
        source = ""
        why = "the other part"
        partly = true

        [[section.rule]]
        id = "A-3"
        level = "S"
        what = "forgotten"
        source = ""

        [[section.rule]]
        id = "A-3"
        level = "X"
        what = "twice"
        source = ""
        why = "not built yet"
        "#,
    );
    let cite = |rule: &str| Citation { rule: rule.into(), test: "shows_it".into(), file: "tests/it.rs".into() };
    assert_eq!(
        misfits(&list, &[cite("A-1"), cite("B-1")]),
        [
            "A-3: listed twice",
            "A-3: level X",
            "B-1: no such rule, cited by shows_it in tests/it.rs",
            "A-1: 1 tests cite it: delete its `why`, or add `partly = true` (ALTITUDE_WRITE_RULES=1 deletes placeholders)",
            "A-2: partly kept, and cited by no test",
            "A-3: neither a test nor a `why`",
        ]
    );
    let kept = misfits(&list, &[cite("A-2")]);
    assert!(!kept.iter().any(|misfit| misfit.starts_with("A-1") || misfit.starts_with("A-2")), "{kept:?}");
}
