//! `tulle uninstall`.

use tulle_install::{UninstallOptions, uninstall as engine};

use crate::cli::{Global, UninstallArguments};
use crate::connect;
use crate::exit::Usage;
use crate::output::{Style, Terminal};
use crate::progress::Steps;

pub(crate) async fn uninstall(
    global: &Global,
    arguments: &UninstallArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    if !arguments.purge {
        let text = "this removes the mesh from the whole cluster: say so with --purge. Pods go on, outside the mesh; \
                    Istio's resource definitions and your policies are kept unless you add --delete-crds";
        return Err(Usage(text.to_owned()).into());
    }
    let client = connect(global).await?;
    let options = UninstallOptions {
        force: arguments.force,
        delete_crds: arguments.delete_crds,
        deadline: arguments.timeout,
    };
    let steps = Steps::new(*terminal);
    let report = engine(&client, &options, &steps).await?;
    drop(steps);
    terminal.error_line(&format!(
        "{}: {} pods taken out of the mesh, {} objects deleted.",
        terminal.paint(Style::Good, "Removed"),
        report.unenrolled,
        report.deleted
    ));
    for kept in &report.kept {
        terminal.error_line(&format!("- {kept}"));
    }
    Ok(())
}
