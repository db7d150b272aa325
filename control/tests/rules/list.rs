//! The list of rules.

use serde::Deserialize;

/// `rules.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    #[serde(rename = "section")]
    pub(crate) sections: Vec<Section>,
}

/// The rules of one role.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// What stands for rules that are not listed one by one.
    #[serde(default)]
    pub(crate) unlisted: Option<String>,
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<Rule>,
}

/// One rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) level: String,
    pub(crate) what: String,
    pub(crate) source: String,
    /// Why it is not kept, or what of it is not.
    #[serde(default)]
    pub(crate) why: Option<String>,
    #[serde(default)]
    pub(crate) partly: bool,
}

/// The `why` of a rule that nobody has looked at yet.
pub(crate) const PLACEHOLDER: &str = "no test cites it yet";

/// The list without the placeholders of rules that are cited by now.
pub(crate) fn without_placeholders(text: &str, is_cited: impl Fn(&str) -> bool) -> String {
    let line = format!("\nwhy = \"{PLACEHOLDER}\"");
    let block = |block: &str| {
        let id = block.split_once("id = \"").and_then(|(_, rest)| rest.split_once('"')).map_or("", |(id, _)| id);
        if is_cited(id) { block.replace(&line, "") } else { block.to_owned() }
    };
    text.split("\n\n").map(block).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn placeholders_give_way_to_tests() {
    let text = |one: &str| {
        format!("id = \"A-1\"{one}\n\nid = \"A-2\"\nwhy = \"{PLACEHOLDER}\"\n\nid = \"A-3\"\nwhy = \"x\"\n")
    };
    let before = text(&format!("\nwhy = \"{PLACEHOLDER}\""));
    assert_eq!(without_placeholders(&before, |id| id != "A-2"), text(""));
}

impl List {
    pub(crate) fn parse(text: &str) -> Self {
        toml::from_str(text).expect("a readable list of rules")
    }

    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.sections.iter().flat_map(|section| &section.rules)
    }

    pub(crate) fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules().find(|rule| rule.id == id)
    }

    /// What is wrong with the list itself.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        let all: Vec<_> = self.rules().collect();
        for (index, rule) in all.iter().enumerate() {
            if all[..index].iter().any(|earlier| earlier.id == rule.id) {
                found.push(format!("{}: listed twice", rule.id));
            }
            if !["M", "S", "O", "E", ""].contains(&rule.level.as_str()) {
                found.push(format!("{}: level {}", rule.id, rule.level));
            }
        }
        found
    }
}
