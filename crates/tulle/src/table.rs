//! Columns of text, as istioctl and kubectl print them.

/// Rows under a heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(heading: &[&str]) -> Self {
        Table {
            heading: heading.iter().map(|text| (*text).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; as many cells as the heading has.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The text, with columns one space apart from the longest cell.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.heading.len())
            .map(|column| {
                let cells = self.lines().filter_map(|line| line.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for line in self.lines() {
            let mut written = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                written.push_str(cell);
                let padding = width.saturating_sub(cell.chars().count()) + 1;
                written.extend(std::iter::repeat_n(' ', padding));
            }
            text.push_str(written.trim_end());
            text.push('\n');
        }
        text
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.heading).chain(&self.rows)
    }
}

#[cfg(test)]
mod tests;
