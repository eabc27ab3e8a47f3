//! The page: sections of numbers, plots and a table in one HTML text.

use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// A key figure and its label.
pub(super) type Tile = (String, &'static str);

/// A plot.
#[derive(Debug)]
pub(super) struct Figure {
    title: String,
    svg: String,
    caption: String,
    /// Names and colours of the series.
    legend: Vec<(String, String)>,
    /// Over the whole width of the page.
    wide: bool,
}

impl Figure {
    pub(super) fn new(title: impl Into<String>, svg: String, caption: impl Into<String>) -> Self {
        Self { title: title.into(), svg, caption: caption.into(), legend: Vec::new(), wide: false }
    }

    /// With a legend of names and colours, as HTML writes them.
    pub(super) fn legend(self, legend: Vec<(String, String)>) -> Self {
        Self { legend, ..self }
    }

    /// Over the whole width of the page.
    pub(super) fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    fn write(&self, html: &mut String) {
        let class = if self.wide { " class=\"wide\"" } else { "" };
        // Writing into a String cannot fail.
        let _ = write!(html, "<figure{class}>\n<h2>{}</h2>\n", escape(&self.title));
        if !self.legend.is_empty() {
            html.push_str("<p class=\"legend\">");
            for (name, colour) in &self.legend {
                let _ = write!(html, "<span style=\"--c:{colour}\">{}</span>", escape(name));
            }
            html.push_str("</p>\n");
        }
        let _ = write!(html, "{}\n<figcaption>{}</figcaption>\n</figure>\n", self.svg, escape(&self.caption));
    }
}

/// The section of one file.
#[derive(Debug)]
pub(crate) struct Section {
    pub(super) intro: String,
    pub(super) tiles: Vec<Tile>,
    pub(super) figures: Vec<Figure>,
    /// HTML.
    pub(super) table: String,
}

/// The whole page: sections, each with its heading.
pub(crate) fn page(sections: &[(String, Section)]) -> String {
    let title = sections.first().map(|(heading, _)| escape(heading)).unwrap_or_default();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · Residua</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    for (heading, section) in sections {
        section.write(heading, &mut html);
    }
    let version = env!("CARGO_PKG_VERSION");
    // Writing into a String cannot fail.
    let _ =
        write!(html, "<footer>residua {version} · no scripts, nothing loaded</footer>\n</body>\n</html>\n");
    html
}

impl Section {
    fn write(&self, heading: &str, html: &mut String) {
        let (heading, intro) = (escape(heading), escape(&self.intro));
        let _ = writeln!(html, "<header><h1>{heading}</h1>\n<p>{intro}</p></header>");
        html.push_str("<section class=\"tiles\">\n");
        for (number, label) in &self.tiles {
            let _ = writeln!(html, "<div><b>{}</b><span>{label}</span></div>", escape(number));
        }
        html.push_str("</section>\n<main>\n");
        self.figures.iter().for_each(|figure| figure.write(html));
        let _ = write!(html, "</main>\n<section class=\"table\">{}</section>\n", self.table);
    }
}

/// Escapes a text for HTML, and makes all of it visible: names come from files.
pub(super) fn escape(text: &str) -> String {
    crate::escape::lines(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
