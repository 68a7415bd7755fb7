//! Where output goes and how it looks.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    #[value(alias = "table")]
    Short,
    /// JSON, stable for programs.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A meaning that a colour stands for; never the only sign of it.
#[derive(Clone, Copy)]
pub(crate) enum Style {
    Good,
    Bad,
    Warn,
    Dim,
}

/// Standard output and error, and what they can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Standard error takes colours and rewriting of lines.
    pub(crate) lively: bool,
    /// Remarks are not repeated.
    pub(crate) hushed: bool,
}

impl Terminal {
    /// Colours only on a terminal, and never when `NO_COLOR` is set to anything.
    pub(crate) fn detect() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Terminal {
            lively: std::io::stderr().is_terminal() && !no_color && !dumb,
            hushed: false,
        }
    }

    /// Writes to standard output.
    pub(crate) fn print(self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// The same without remarks on standard error.
    pub(crate) fn quiet(self) -> Self {
        Terminal {
            hushed: true,
            ..self
        }
    }

    /// Writes a line to standard error. There is nobody to tell when that fails.
    pub(crate) fn error_line(self, text: &str) {
        if self.hushed {
            return;
        }
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// `text` in the colour of its meaning, for standard error.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if !self.lively {
            return text.to_owned();
        }
        let code = match style {
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints `value` as JSON or YAML.
    pub(crate) fn print_data(self, format: Format, value: &impl Serialize) -> anyhow::Result<()> {
        let text = match format {
            Format::Yaml => serde_saphyr::to_string(value)?,
            Format::Json | Format::Short => serde_json::to_string_pretty(value)?,
        };
        self.print(&format!("{}\n", text.trim_end()))
    }
}
