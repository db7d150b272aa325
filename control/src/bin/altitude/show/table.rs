//! Aligned columns for a terminal or a pipe.

/// A table: titles, and rows of as many cells.
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
    /// Numbers stand at the right.
    right: Vec<bool>,
}

impl Columns {
    /// A table with these titles; those that start with `>` head a column of numbers.
    pub(crate) fn new<T: AsRef<str>>(titles: impl IntoIterator<Item = T>) -> Self {
        let (right, titles) = titles
            .into_iter()
            .map(|title| match title.as_ref().strip_prefix('>') {
                Some(title) => (true, title.to_owned()),
                None => (false, title.as_ref().to_owned()),
            })
            .unzip();
        Self { rows: vec![titles], right }
    }

    /// Adds a row; cells that are missing at its end are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().collect();
        row.resize(self.right.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there is nothing but titles.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The text, a line for each row; lines do not end in blanks.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                line += &if right { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}
