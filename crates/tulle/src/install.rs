//! `tulle install`, `tulle manifest`.

use tulle_install::{InstallOptions, install as engine, render, to_yaml};

use crate::cli::{Global, InstallArguments, ManifestArguments};
use crate::connect;
use crate::output::{Format, Style, Terminal};
use crate::progress::{Steps, seconds};
use crate::values::values;

pub(crate) async fn install(
    global: &Global,
    arguments: &InstallArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let values = values(&arguments.values)?;
    if arguments.dry_run {
        return terminal.print(&to_yaml(&render(&values)?)?);
    }
    let client = connect(global).await?;
    let wait = (!arguments.no_wait).then_some(arguments.timeout);
    let steps = Steps::new(*terminal);
    let installed = engine(&client, &values, &InstallOptions { wait }, &steps).await?;
    drop(steps);
    let took = seconds(installed.took);
    if arguments.no_wait {
        terminal.error_line(&format!(
            "{} objects applied in {took}; not waited for: `tulle status` shows when all is ready",
            installed.applied
        ));
        return Ok(());
    }
    terminal.error_line(&format!(
        "{} in {took}: {} objects, everything ready. Next:\n  \
         kubectl label namespace default istio.io/dataplane-mode=ambient\n  tulle status",
        terminal.paint(Style::Good, "Installed"),
        installed.applied
    ));
    Ok(())
}

/// `tulle manifest generate`.
pub(crate) fn generate(arguments: &ManifestArguments, terminal: &Terminal) -> anyhow::Result<()> {
    terminal.print(&to_yaml(&render(&values(&arguments.values)?)?)?)
}

/// `tulle manifest values`.
pub(crate) fn show_values(
    arguments: &ManifestArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    terminal.print_data(Format::Yaml, &values(&arguments.values)?)
}
