//! Requests and what is expected of them, as tables. Curl makes all requests of a table in one go, on this host or in a pod;
//! what answers is the echo of the samples, which says what arrived.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::{Kubectl, eventually};

/// How long what was applied may take to be in force everywhere (the Gateway API's suite grants 30 s).
const SOON: Duration = Duration::from_secs(30);
const END: &str = "==end ";

/// Name and value of a header.
pub type Pair = (&'static str, &'static str);

/// One request, and its answer as it should be.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    feature: &'static str,
    scheme: &'static str,
    host: &'static str,
    port: u16,
    path: &'static str,
    headers: &'static [Pair],
    options: &'static [&'static str],
    grpc: bool,
    fails: bool,
    status: u16,
    grpc_status: &'static str,
    backend: &'static str,
    arrived: &'static [Pair],
    kept_back: &'static [&'static str],
    answered: &'static [Pair],
    unanswered: &'static [&'static str],
}

/// GET of a path at a host; 200 is expected.
pub const fn get(host: &'static str, path: &'static str) -> Row {
    Row {
        feature: "",
        scheme: "http",
        host,
        port: 80,
        path,
        headers: &[],
        options: &[],
        grpc: false,
        fails: false,
        status: 200,
        grpc_status: "",
        backend: "",
        arrived: &[],
        kept_back: &[],
        answered: &[],
        unanswered: &[],
    }
}

/// The same in TLS.
pub const fn secure(host: &'static str, path: &'static str) -> Row {
    Row {
        scheme: "https",
        port: 443,
        ..get(host, path)
    }
}

/// A call of a gRPC method (`/package.Service/Method`) over HTTP/2 in clear.
pub const fn call(host: &'static str, method: &'static str) -> Row {
    Row {
        grpc: true,
        grpc_status: "0",
        ..get(host, method)
    }
}

impl Row {
    /// On another port.
    pub const fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// With these headers.
    pub const fn with(self, headers: &'static [Pair]) -> Self {
        Self { headers, ..self }
    }

    /// With more options of curl.
    pub const fn options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    /// Answered by the backend of this name.
    pub const fn to(self, backend: &'static str) -> Self {
        Self { backend, ..self }
    }

    /// Answered with this status.
    pub const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Ends with this status of gRPC.
    pub const fn grpc_status(self, grpc_status: &'static str) -> Self {
        Self {
            grpc_status,
            ..self
        }
    }

    /// Not answered at all: refused, reset, or TLS that does not come about.
    pub const fn fails(self) -> Self {
        Self {
            fails: true,
            ..self
        }
    }

    /// What the backend saw: `path`, `host`, `method`, `protocol`, `query`; in TLS `sni` and the `client`'s name; else a header.
    pub const fn arrived(self, arrived: &'static [Pair]) -> Self {
        Self { arrived, ..self }
    }

    /// Headers that the backend did not see.
    pub const fn kept_back(self, kept_back: &'static [&'static str]) -> Self {
        Self { kept_back, ..self }
    }

    /// Headers of the answer.
    pub const fn answered(self, answered: &'static [Pair]) -> Self {
        Self { answered, ..self }
    }

    /// Headers that the answer does not have.
    pub const fn unanswered(self, unanswered: &'static [&'static str]) -> Self {
        Self { unanswered, ..self }
    }

    /// A redirect to this place.
    pub const fn redirected(self, status: u16, location: &'static [Pair]) -> Self {
        self.status(status).answered(location)
    }

    fn of(self, feature: &'static str) -> Self {
        Self { feature, ..self }
    }

    fn authority(&self) -> String {
        match (self.scheme, self.port) {
            ("http", 80) | ("https", 443) => self.host.to_owned(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// For a shell.
    fn command(&self, asker: &Asker<'_>) -> String {
        static UNIQUE: AtomicU64 = AtomicU64::new(0);
        let unique = UNIQUE.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.path.replace("UNIQUE", &unique);
        let mut words = vec!["curl".to_owned()];
        words.extend(
            "-s -i -g --path-as-is --max-time 8"
                .split(' ')
                .map(str::to_owned),
        );
        if let Some(address) = &asker.address {
            words.extend(["--connect-to".to_owned(), format!("::{address}:")]);
        }
        if let Some(roots) = asker.roots.as_ref().filter(|_| self.scheme == "https") {
            words.extend(["--cacert".to_owned(), roots.clone()]);
        }
        let mut headers: Vec<Pair> = self.headers.to_vec();
        if self.grpc {
            headers.extend([("content-type", "application/grpc"), ("te", "trailers")]);
            // Also where the proxy answers without reading the message: curl 7.88 then waits for ever when the answer comes while it
            // sends, whoever answers (3 of 100 calls of a scripted peer that sends nothing but its answer and reads everything), and
            // ends with 92 where the stream is reset behind the answer. So proxies read what is small before they answer.
            words.extend(["--http2-prior-knowledge", "--data-binary", "@-"].map(str::to_owned));
        }
        for (name, value) in headers {
            words.extend(["-H".to_owned(), format!("{name}: {value}")]);
        }
        words.extend(
            self.options
                .iter()
                .map(|option| option.replace("DIRECTORY", &asker.directory)),
        );
        words.push(format!("{}://{}{path}", self.scheme, self.authority()));
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        // One empty message.
        let input = if self.grpc {
            "printf '\\0\\0\\0\\0\\0' | "
        } else {
            ""
        };
        format!("{input}{}\nprintf '\\n{END}%s==\\n' $?\n", quoted.join(" "))
    }

    fn name(&self) -> String {
        let headers: String = self
            .headers
            .iter()
            .fold(String::new(), |mut all, (name, value)| {
                let _ = write!(all, " {name}={value}");
                all
            });
        format!(
            "{}: {}://{}{}{headers} {:?}",
            self.feature,
            self.scheme,
            self.authority(),
            self.path,
            self.options
        )
    }

    fn check(&self, answer: &Answer) -> anyhow::Result<()> {
        if self.fails {
            ensure!(answer.exit != 0, "answered with {}", answer.status);
            return Ok(());
        }
        ensure!(answer.exit == 0, "curl ended with {}", answer.exit);
        ensure!(
            answer.status == self.status,
            "status {}, expected {}: {answer:?}",
            answer.status,
            self.status
        );
        if !self.grpc_status.is_empty() {
            let status = answer.header("grpc-status");
            ensure!(
                status == Some(self.grpc_status),
                "grpc-status {status:?}, expected {}: {answer:?}",
                self.grpc_status
            );
        }
        if !self.backend.is_empty() {
            let name = answer.seen["name"].as_str();
            ensure!(
                name == Some(self.backend),
                "answered by {name:?}, expected {}",
                self.backend
            );
        }
        for (what, expected) in self.arrived {
            let seen = answer.arrived(what);
            ensure!(
                seen.as_deref() == Some(*expected),
                "{what} arrived as {seen:?}, expected {expected:?}"
            );
        }
        for header in self.kept_back {
            let seen = answer.arrived(header);
            ensure!(seen.is_none(), "{header} arrived: {seen:?}");
        }
        for (name, expected) in self.answered {
            let seen = answer.header(name);
            ensure!(
                seen == Some(*expected),
                "{name} is {seen:?}, expected {expected:?}"
            );
        }
        for name in self.unanswered {
            let seen = answer.header(name);
            ensure!(seen.is_none(), "{name} is {seen:?}");
        }
        Ok(())
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Of curl.
    pub exit: i32,
    /// Of HTTP; 0 without an answer.
    pub status: u16,
    /// Names in lower case; trailers, too.
    headers: BTreeMap<String, String>,
    /// What the echo saw.
    pub seen: Value,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let mut answer = Self::default();
        let mut rest = text;
        // 100 and 103 come before the answer proper.
        while answer.status < 200 {
            let Some((head, after)) = rest.split_once("\r\n\r\n") else {
                return answer;
            };
            answer.take(head);
            answer.status = head
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .unwrap_or(999);
            rest = after;
        }
        if let Some(start) = rest.find('{') {
            let mut values =
                serde_json::Deserializer::from_str(&rest[start..]).into_iter::<Value>();
            answer.seen = values.next().and_then(Result::ok).unwrap_or_default();
        }
        if let Some(trailers) = rest.rfind("grpc-status:") {
            answer.take(&rest[trailers..]);
        }
        answer
    }

    fn take(&mut self, lines: &str) {
        for (name, value) in lines.lines().filter_map(|line| line.split_once(':')) {
            self.headers
                .insert(name.trim().to_lowercase(), value.trim().to_owned());
        }
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// What the backend saw of a request: `path`, `host`, ..., else a header; several values with commas.
    pub fn arrived(&self, what: &str) -> Option<String> {
        let own = [
            "name", "protocol", "method", "host", "path", "query", "body",
        ];
        if own.contains(&what) {
            return self.seen[what].as_str().map(str::to_owned);
        }
        if what == "sni" {
            return self.seen["tls"]["serverName"].as_str().map(str::to_owned);
        }
        if what == "client" {
            let name = &self.seen["tls"]["client"]["dns"][0];
            return name.as_str().map(str::to_owned);
        }
        let values = self.seen["headers"][what].as_array()?.iter();
        Some(
            values
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(","),
        )
    }
}

/// Who asks.
pub struct Asker<'a> {
    kubectl: &'a Kubectl,
    /// `-n namespace pod`; this host if there is none.
    pod: Option<&'a str>,
    /// Where connections go instead of to the hosts.
    address: Option<String>,
    /// File with the roots of TLS.
    roots: Option<String>,
    /// Stands for `DIRECTORY` in options.
    directory: String,
}

impl<'a> Asker<'a> {
    /// This host, at an address of a gateway; certificates are in a directory.
    pub fn host(kubectl: &'a Kubectl, address: &str, directory: &str) -> Self {
        Self {
            kubectl,
            pod: None,
            address: Some(address.to_owned()),
            roots: Some(format!("{directory}/root.crt")),
            directory: directory.to_owned(),
        }
    }

    /// A pod, wherever the hosts' names lead.
    pub fn pod(kubectl: &'a Kubectl, pod: &'a str) -> Self {
        Self {
            kubectl,
            pod: Some(pod),
            address: None,
            roots: None,
            directory: String::new(),
        }
    }

    /// Makes requests, one after the other.
    pub fn ask(&self, rows: &[Row]) -> anyhow::Result<Vec<Answer>> {
        let script: String = rows.iter().map(|row| row.command(self)).collect();
        let output = self.shell(&script)?;
        let answers: Vec<Answer> = output
            .split(&format!("\n{END}"))
            .collect::<Vec<_>>()
            .windows(2)
            .map(|pair| {
                // Before the mark is the answer, with the rest of the mark before it.
                let text = match pair[0].split_once("==\n") {
                    Some((code, text)) if code.len() <= 3 => text,
                    _ => pair[0],
                };
                let code = pair[1]
                    .split("==")
                    .next()
                    .and_then(|code| code.parse().ok());
                Answer {
                    exit: code.unwrap_or(-1),
                    ..Answer::parse(text)
                }
            })
            .collect();
        ensure!(
            answers.len() == rows.len(),
            "{} answers to {} requests:\n{output}",
            answers.len(),
            rows.len()
        );
        Ok(answers)
    }

    /// All rows of all features become true, and are then true together.
    pub fn expect(&self, features: &[(&'static str, &[Row])]) -> anyhow::Result<()> {
        let rows: Vec<Row> = features
            .iter()
            .flat_map(|(feature, rows)| rows.iter().map(|row| row.of(feature)))
            .collect();
        let mut open = rows.clone();
        eventually("every row", SOON, || {
            let wrong = self.wrong(&open)?;
            open = wrong.iter().map(|(row, _)| *row).collect();
            told(&wrong)
        })?;
        told(&self.wrong(&rows)?)
    }

    fn wrong(&self, rows: &[Row]) -> anyhow::Result<Vec<(Row, String)>> {
        let answers = self.ask(rows)?;
        let pairs = rows.iter().zip(&answers);
        Ok(pairs
            .filter_map(|(row, answer)| Some((*row, row.check(answer).err()?.to_string())))
            .collect())
    }

    /// How often each backend answers `count` requests of a row.
    pub fn shares(&self, row: Row, count: usize) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut shares = BTreeMap::new();
        for answer in self.ask(&vec![row; count])? {
            row.check(&answer)?;
            let name = answer.arrived("name").context("no name in the answer")?;
            *shares.entry(name).or_default() += 1;
        }
        Ok(shares)
    }

    fn shell(&self, script: &str) -> anyhow::Result<String> {
        let mut command = match self.pod {
            None => self.kubectl.program("sh"),
            Some(pod) => {
                let mut command = self.kubectl.program("kubectl");
                command
                    .args(["exec", "-i"])
                    .args(pod.split_whitespace())
                    .args(["--", "sh"]);
                command
            }
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, script) = (child.stdin.take(), script.to_owned());
        // Apart: a shell whose answers nobody reads yet does not read on.
        let writing =
            std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(script.as_bytes())));
        let output = child.wait_with_output()?;
        if let Ok(Some(written)) = writing.join() {
            written.context("the shell did not take its script")?;
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn told(wrong: &[(Row, String)]) -> anyhow::Result<()> {
    let lines: Vec<String> = wrong
        .iter()
        .map(|(row, why)| format!("\n  {}: {why}", row.name()))
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} rows are not as they should be:{}",
        wrong.len(),
        lines.concat()
    );
    Ok(())
}
