//! What watches a mesh in tests: the OpenTelemetry collector's receiver, built from its Go modules, and Prometheus, from Debian's
//! package. Both are made once, when a test first asks for them, and kept in the playground's cache.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tulle_playground::image::Image;
use tulle_playground::{cache, go, images};

use crate::kubectl::{Kubectl, eventually};

/// Image of the collector: OTLP over gRPC on 4317; what comes is written to its log, one line of OTLP's JSON each.
pub const COLLECTOR_IMAGE: &str = "docker.io/tulle/collector:test";

const SOURCES: [(&str, &str); 3] = [
    ("go.mod", include_str!("../collector/go.mod")),
    ("go.sum", include_str!("../collector/go.sum")),
    ("main.go", include_str!("../collector/main.go")),
];
const SOON: Duration = Duration::from_secs(60);

/// The collector, as an image.
pub fn collector() -> Result<Image> {
    images::program(COLLECTOR_IMAGE, &collector_program()?, "/collector")
}

fn collector_program() -> Result<PathBuf> {
    let dir = cache()?.join("collector");
    let program = dir.join("collector");
    let same = |(name, text): &(&str, &str)| {
        fs::read_to_string(dir.join(name)).is_ok_and(|old| old == *text)
    };
    if program.exists() && SOURCES.iter().all(same) {
        return Ok(program);
    }
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    // What is there may belong to other sources: it goes before they do.
    let _ = fs::remove_file(&program);
    for (name, text) in SOURCES {
        fs::write(dir.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    let go = go().context("building the collector needs Go; `make prerequisites` installs it")?;
    let mut build = Command::new(go);
    build
        .current_dir(&dir)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .args(["build", "-ldflags=-s -w", "-o", "collector.new", "."]);
    run(&mut build)?;
    fs::rename(dir.join("collector.new"), &program).context("finishing the collector")?;
    Ok(program)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The installed Prometheus; else the one in Debian's package, which is fetched by its name and unpacked, not installed: no
/// service is started on this machine.
fn prometheus_program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|dir| dir.join("prometheus"));
    let dir = cache()?.join("prometheus");
    let cached = dir.join("usr/bin/prometheus");
    let mut there = installed.chain([cached.clone()]);
    if let Some(program) = there.find(|program| program.is_file()) {
        return Ok(program);
    }
    let new = dir.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).with_context(|| format!("creating {}", new.display()))?;
    let fetch = || {
        let mut apt = Command::new("apt-get");
        run(apt.current_dir(&new).args(["-q", "download", "prometheus"]))
    };
    if fetch().is_err() {
        // The lists may be old, or not there yet.
        run(Command::new("apt-get").args(["-q", "update"]))?;
        fetch().context("the test needs Prometheus: install the package prometheus")?;
    }
    let listed = fs::read_dir(&new).context("listing what apt-get fetched")?;
    let package = listed.flatten().map(|entry| entry.path());
    let package = package
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .context("apt-get fetched no package")?;
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&new))?;
    fs::remove_file(&package).context("removing the package")?;
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&new, &dir).context("finishing Prometheus")?;
    Ok(cached)
}

/// A running Prometheus that scrapes the pods of a cluster that ask for it. Ends when it is dropped.
pub struct Prometheus {
    child: Child,
    port: u16,
    data: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it on this host.
    pub fn start(kubectl: &Kubectl) -> Result<Self> {
        let program = prometheus_program()?;
        let data = tempfile::tempdir().context("a directory for Prometheus")?;
        let file = data.path().join("prometheus.yaml");
        let configuration = configuration(kubectl)?.to_string();
        fs::write(&file, configuration).context("configuring Prometheus")?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new(&program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(data.path().join("log"))?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let this = Self { child, port, data };
        let answers = eventually("Prometheus answers", SOON, || this.query("up").map(drop));
        answers.with_context(|| {
            let log = fs::read_to_string(this.data.path().join("log"));
            format!("Prometheus says: {}", log.unwrap_or_default())
        })?;
        Ok(this)
    }

    /// An instant query: labels and value of each series.
    pub fn query(&self, text: &str) -> Result<Vec<(Value, f64)>> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let output = Command::new("curl")
            .args(["-sf", "--max-time", "10", "--get", "--data-urlencode"])
            .arg(format!("query={text}"))
            .arg(url)
            .output()?;
        let answer: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("Prometheus does not answer to {text}"))?;
        let found = answer["data"]["result"].as_array();
        let found = found.with_context(|| format!("{text}: {answer}"))?;
        let series = found.iter().map(|series| {
            let value = series["value"][1].as_str().and_then(|v| v.parse().ok());
            Ok((series["metric"].clone(), value.context("no value")?))
        });
        series.collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pods that ask for it by Istio's annotations, with their labels, as Istio's sample configuration finds them. (Debian's Prometheus is
/// built without the discovery of Kubernetes: it is told of those that are there when it starts.)
fn configuration(kubectl: &Kubectl) -> Result<Value> {
    let pods = kubectl.json("get pods -A --field-selector=status.phase=Running")?;
    let pods = pods["items"].as_array().context("no pods")?;
    let targets: Vec<Value> = pods.iter().filter_map(target).collect();
    Ok(json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "kubernetes-pods", "static_configs": targets}],
    }))
}

fn target(pod: &Value) -> Option<Value> {
    let metadata = &pod["metadata"];
    let annotation = |name: &str| metadata["annotations"][format!("prometheus.io/{name}")].as_str();
    if annotation("scrape") != Some("true") {
        return None;
    }
    let address = pod["status"]["podIP"].as_str()?;
    let own = metadata["labels"].as_object().into_iter().flatten();
    let plain = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut labels: Map<String, Value> = own
        .map(|(name, value)| (plain(name), value.clone()))
        .collect();
    labels.insert("namespace".to_owned(), metadata["namespace"].clone());
    labels.insert("pod".to_owned(), metadata["name"].clone());
    let path = annotation("path").unwrap_or("/metrics");
    labels.insert("__metrics_path__".to_owned(), path.into());
    Some(json!({"targets": [format!("{address}:{}", annotation("port")?)], "labels": labels}))
}
