//! A table of texts, as Markdown or as HTML.

/// Headings and rows; columns after the first `left` are numbers.
pub struct Table {
    /// Columns that hold words.
    pub left: usize,
    /// The headings.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet.
    pub fn new(left: usize, head: &[&str]) -> Self {
        Self { left, head: head.iter().map(|text| (*text).to_string()).collect(), rows: Vec::new() }
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> =
                cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = (0..self.head.len()).map(|at| if at < self.left { "---|" } else { "---:|" });
        let rule: String = rule.collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}|{rule}\n{rows}", line(&self.head))
    }

    /// As HTML.
    pub fn html(&self) -> String {
        let line = |cells: &[String], tag: &str| {
            let cells = cells.iter().enumerate().map(|(at, cell)| {
                let class = if at < self.left { "" } else { " class=\"n\"" };
                format!("<{tag}{class}>{}</{tag}>", escaped(cell))
            });
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(|row| line(row, "td")).collect();
        format!("<table>\n{}{rows}</table>\n", line(&self.head, "th"))
    }
}

/// Text that HTML shows as it is.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
