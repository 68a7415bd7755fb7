//! `tulle ztunnel-config log`: log levels of running proxies.

use super::source::{Scope, choose};
use crate::cli::{Global, LogArguments};
use crate::connect;
use crate::exit::Usage;
use crate::http::ask_pod;
use crate::output::Terminal;

pub(super) async fn log(
    global: &Global,
    arguments: &LogArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let source = &arguments.source;
    if source.file.is_some() {
        return Err(Usage("log levels belong to running proxies; -f has none".to_owned()).into());
    }
    let path = path(arguments)?;
    let client = connect(global).await?;
    let (proxies, _) = choose(&client, source, Scope::All).await?;
    for proxy in &proxies {
        let port = source.proxy_admin_port;
        let answer = ask_pod(&client, &proxy.namespace, &proxy.pod, port, "POST", &path).await?;
        let text = String::from_utf8_lossy(&answer);
        terminal.print(&format!(
            "{}.{}:\n{}\n\n",
            proxy.pod,
            proxy.namespace,
            text.trim_end()
        ))?;
    }
    Ok(())
}

/// The admin page with its query.
fn path(arguments: &LogArguments) -> anyhow::Result<String> {
    if arguments.reset {
        return Ok("/logging?reset".to_owned());
    }
    let Some(level) = &arguments.level else {
        return Ok("/logging".to_owned());
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ":,_=-".contains(c);
    if level.is_empty() || !level.chars().all(plain) {
        let text = format!(
            "--level {level:?}: write <level> or <scope>:<level>, with off, error, warn, info, debug or trace"
        );
        return Err(Usage(text).into());
    }
    Ok(format!("/logging?level={level}"))
}
