//! The proxies of Gateways, asked by this host at the addresses of their pods.

use std::process::Command;

use tulle_testing::kubectl::Kubectl;

/// One page of metrics of all pods of a Gateway.
pub fn metrics(kubectl: &Kubectl, namespace: &str, gateway: &str) -> anyhow::Result<String> {
    let mut all = String::new();
    for address in pods(kubectl, namespace, gateway)?.split_whitespace() {
        let page = Command::new("curl")
            .args(["-sf", "--max-time", "5"])
            .arg(format!("http://{address}:15020/stats/prometheus"))
            .output()?;
        all.push_str(&String::from_utf8_lossy(&page.stdout));
    }
    Ok(all)
}

/// The status that a Gateway's first pod answers on port 80 with: from the host, to what is behind the Service.
pub fn status(
    kubectl: &Kubectl,
    namespace: &str,
    gateway: &str,
    host: &str,
    path: &str,
) -> anyhow::Result<String> {
    let pods = pods(kubectl, namespace, gateway)?;
    let address = pods.split_whitespace().next().unwrap_or_default();
    let output = Command::new("curl")
        .args("-s -o /dev/null --max-time 5 -w %{http_code}".split(' '))
        .args(["-H", &format!("Host: {host}")])
        .arg(format!("http://{address}:80{path}"))
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The addresses of a Gateway's pods, with spaces between them.
fn pods(kubectl: &Kubectl, namespace: &str, gateway: &str) -> anyhow::Result<String> {
    kubectl.run(&format!(
        "get pods -n {namespace} -l gateway.networking.k8s.io/gateway-name={gateway} -o=jsonpath={{.items[*].status.podIP}}"
    ))
}
