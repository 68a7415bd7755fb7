//! From an environment to a working client.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::timeout;

use crate::error::{Error, Result, transport};
use crate::limits::CONNECT_DEADLINE;

/// Which cluster to talk to.
#[derive(Debug, Clone, Default)]
pub struct Connect {
    /// Kubeconfig file; absent: `KUBECONFIG`, then `~/.kube/config`, then the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; absent: its current one.
    pub context: Option<String>,
}

/// A client for the cluster that the environment or `options` name. The server is asked for its
/// version once, so that an unreachable server or bad credentials show here with a clear error
/// and not somewhere later.
pub async fn connect(options: &Connect) -> Result<Client> {
    let config = configuration(options).await?;
    let server = config.cluster_url.to_string();
    let doing = "read the server's version".to_owned();
    let client = Client::try_from(config).map_err(|error| Error::Configuration {
        why: transport(&error),
    })?;
    match timeout(CONNECT_DEADLINE, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(client),
        Ok(Err(kube::Error::Api(status))) => Err(Error::from_status(doing, &status)),
        Ok(Err(kube::Error::Auth(why))) => Err(Error::Unauthorized {
            doing,
            why: why.to_string(),
        }),
        Ok(Err(error)) => Err(Error::Unreachable {
            server,
            doing,
            why: transport(&error),
        }),
        Err(_) => Err(Error::Unreachable {
            server,
            doing,
            why: format!("no answer within {} s", CONNECT_DEADLINE.as_secs()),
        }),
    }
}

async fn configuration(options: &Connect) -> Result<Config> {
    let choice = KubeConfigOptions {
        context: options.context.clone(),
        ..Default::default()
    };
    let mut config = match &options.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| Error::Configuration {
                why: error.to_string(),
            })?;
            Config::from_custom_kubeconfig(file, &choice)
                .await
                .map_err(|error| Error::Configuration {
                    why: error.to_string(),
                })?
        }
        None if options.context.is_some() || kubeconfig_exists() => {
            Config::from_kubeconfig(&choice)
                .await
                .map_err(|error| Error::Configuration {
                    why: error.to_string(),
                })?
        }
        None => Config::incluster().map_err(|error| Error::NoConfiguration {
            why: format!("there is no kubeconfig, and this is not a pod ({error})"),
        })?,
    };
    config.connect_timeout = Some(CONNECT_DEADLINE);
    Ok(config)
}

/// A kubeconfig that is named or present must be used or complained about, never skipped.
fn kubeconfig_exists() -> bool {
    if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty()) {
        return true;
    }
    std::env::home_dir().is_some_and(|home| home.join(".kube/config").is_file())
}
