//! RULES.md, written from the list and the citations.

use std::fmt::Write as _;

use super::{
    citations::Citation,
    list::{List, Rule, Section},
};

const HEAD: &str = "\
# Rules

What the RFCs ask of each role, and which test shows that Altitude does it. Level M is a must, S a should, O a may; E is
our own where no RFC says anything. *Partly* says what is missing, *no* says why. The lists of two roles that are not
built are not broken down.

This page is written by the test `rules` in [control/tests/rules](control/tests/rules/main.rs) from its list and from the
tests that cite a rule in the first words of their doc comments; the test fails while the page says anything else.

";

pub(crate) fn page(list: &List, citations: &[Citation]) -> String {
    let mut page = HEAD.to_owned();
    page += &counts(list, citations);
    for section in &list.sections {
        write_section(&mut page, section, citations);
    }
    page
}

/// How many rules of each section are kept, by level.
pub(crate) fn counts(list: &List, citations: &[Citation]) -> String {
    let mut text = "| role | M kept | partly | of | S kept | partly | of | O, E kept | partly | of |\n".to_owned();
    text += "|---|---|---|---|---|---|---|---|---|---|\n";
    let mut sums = [[0; 3]; 3];
    for section in list.sections.iter().filter(|section| section.unlisted.is_none()) {
        let counts = [["M"].as_slice(), &["S"], &["O", "E", ""]].map(|levels| {
            let rules = || section.rules.iter().filter(|rule| levels.contains(&rule.level.as_str()));
            let kept = rules().filter(|rule| rule.why.is_none() && tests(rule, citations).next().is_some()).count();
            [kept, rules().filter(|rule| rule.partly).count(), rules().count()]
        });
        for (sum, count) in sums.as_flattened_mut().iter_mut().zip(counts.as_flattened()) {
            *sum += count;
        }
        write_counts(&mut text, &section.title, counts);
    }
    write_counts(&mut text, "**all**", sums);
    text
}

/// The musts and shoulds in a few lines: how many are kept, and which are not.
pub(crate) fn summary(list: &List, citations: &[Citation]) -> String {
    let mut text = String::new();
    for (level, name) in [("M", "musts"), ("S", "shoulds")] {
        let rules: Vec<_> = list.rules().filter(|rule| rule.level == level).collect();
        let (shown, bare): (Vec<_>, Vec<_>) =
            rules.iter().partition::<Vec<&Rule>, _>(|rule| tests(rule, citations).next().is_some());
        let partly = shown.iter().filter(|rule| rule.partly).count();
        let bare: Vec<&str> = bare.iter().map(|rule| rule.id.as_str()).collect();
        let kept = shown.len() - partly;
        let _ = writeln!(
            text,
            "{name}: {kept} of {} kept, {partly} partly, {} not: {}",
            rules.len(),
            bare.len(),
            bare.join(" ")
        );
    }
    text
}

fn write_counts(text: &mut String, title: &str, counts: [[usize; 3]; 3]) {
    let cells = counts.as_flattened().iter().map(usize::to_string).collect::<Vec<_>>();
    let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
}

fn write_section(page: &mut String, section: &Section, citations: &[Citation]) {
    let _ = writeln!(page, "\n## {}\n", section.title);
    if let Some(words) = &section.unlisted {
        let _ = writeln!(page, "{words}.");
        return;
    }
    *page += "| rule | level | what | source | kept |\n|---|---|---|---|---|\n";
    for rule in &section.rules {
        let Rule { id, level, what, source, .. } = rule;
        let _ = writeln!(page, "| {id} | {level} | {what} | {source} | {} |", kept(rule, citations));
    }
}

fn tests<'a>(rule: &'a Rule, citations: &'a [Citation]) -> impl Iterator<Item = &'a Citation> {
    citations.iter().filter(|citation| citation.rule == rule.id)
}

/// The last cell: by which tests, or why not.
fn kept(rule: &Rule, citations: &[Citation]) -> String {
    let links: Vec<_> = tests(rule, citations).map(|Citation { test, file, .. }| format!("[{test}]({file})")).collect();
    match &rule.why {
        None => links.join("<br>"),
        Some(why) if rule.partly => format!("*partly*: {why}<br>{}", links.join("<br>")),
        Some(why) => format!("*no*: {why}"),
    }
}
