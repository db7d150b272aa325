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

impl List {
    pub(crate) fn read() -> Self {
        Self::parse(include_str!("rules.toml"))
    }

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
