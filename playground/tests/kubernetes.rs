//! Real playgrounds: what Kubernetes promises works on them, and nothing of them stays. Needs root.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tulle_playground::{Health, Options, Playground, Progress, images};

/// Image of the client pods.
const CLIENT: &str = "tulle.local/client:1";
/// Image of the server pods: this very test program.
const SERVER: &str = "tulle.local/server:1";
const PATIENCE: Duration = Duration::from_secs(90);

fn options(what: &str, nodes: usize) -> Options {
    Options::named(&format!("{what}-{}", std::process::id())).nodes(nodes)
}

/// Runs kubectl; panics with what it said when it fails.
fn kubectl(playground: &Playground, arguments: &[&str]) -> String {
    try_kubectl(playground, arguments)
        .unwrap_or_else(|said| panic!("kubectl {arguments:?}: {said}"))
}

fn try_kubectl(playground: &Playground, arguments: &[&str]) -> Result<String, String> {
    let output = playground.kubectl().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn apply(playground: &Playground, manifest: &str) {
    let mut child = playground
        .kubectl()
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(manifest.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{manifest}");
}

/// Tries until it works; panics with the last failure.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > PATIENCE => panic!("{what}: {seen}"),
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Whatever bears the name: interfaces, namespaces, mounts, control groups, rules, processes.
fn traces(name: &str, bridge: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut look = |kind: &str, lines: &str, sign: &str| {
        found.extend(
            lines
                .lines()
                .filter(|line| line.contains(sign))
                .map(|line| format!("{kind}: {line}")),
        );
    };
    let list = |dir: &str| {
        let entries = fs::read_dir(dir)
            .map(|entries| entries.flatten().collect())
            .unwrap_or_else(|_| Vec::new());
        entries
            .iter()
            .map(|entry| format!("{}\n", entry.file_name().to_string_lossy()))
            .collect::<String>()
    };
    look("interface", &list("/sys/class/net"), bridge);
    look("namespace", &list("/run/netns"), name);
    look("directory", &list("/var/lib/tulle/playgrounds"), name);
    look(
        "mount",
        &fs::read_to_string("/proc/self/mountinfo").unwrap(),
        name,
    );
    let groups = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", "tulle-*"])
        .output()
        .unwrap();
    look(
        "control group",
        &String::from_utf8_lossy(&groups.stdout),
        name,
    );
    let rules = Command::new("nft")
        .args(["list", "ruleset"])
        .output()
        .unwrap();
    look("rule", &String::from_utf8_lossy(&rules.stdout), bridge);
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let file = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
        let signs = [file("cmdline"), file("cgroup")].concat();
        let text = String::from_utf8_lossy(&signs).replace(['\0', '\n'], " ");
        look("process", &text, &format!("{name}/"));
    }
    found
}

#[test]
fn a_pod_runs_and_nothing_stays() {
    let options = options("one", 1);
    let mut progress = Progress::stderr();
    let playground = Playground::up(&options, &mut progress).unwrap();
    let bridge = playground.bridge();
    assert!(
        !traces(&options.name, &bridge).is_empty(),
        "the test sees what is there"
    );
    apply(
        &playground,
        "{apiVersion: v1, kind: Pod, metadata: {name: pause}, spec: {containers: [{name: pause, image: tulle.local/pause:1}]}}",
    );
    kubectl(
        &playground,
        &[
            "wait",
            "--for=condition=Ready",
            "pod/pause",
            "--timeout=90s",
        ],
    );

    // A second start finds the first, and its value going away does no harm.
    drop(Playground::up(&options, &mut progress).unwrap());
    assert_eq!(
        Playground::health(&options.directory, &options.name).unwrap(),
        Health::Running
    );

    // Half dead: kubelet is killed. It is noticed, and the next start makes it whole.
    let killed = playground
        .node_command(1, "sh")
        .unwrap()
        .args([
            "-c",
            r#"for p in /proc/[0-9]*; do
        if [ "$(cat $p/comm)" = kubelet ]; then kill -9 "${p#/proc/}"; fi; done"#,
        ])
        .status()
        .unwrap();
    assert!(killed.success());
    eventually("the dead kubelet is noticed", || match Playground::health(
        &options.directory,
        &options.name,
    )
    .unwrap()
    {
        Health::Broken(why) if why.contains("kubelet") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let anew = Playground::up(&options, &mut progress).unwrap();
    assert_eq!(
        try_kubectl(&anew, &["get", "pods", "--output=name"]).unwrap(),
        "",
        "a new cluster"
    );
    let _first = playground.keep();

    anew.down().unwrap();
    let left = traces(&options.name, &bridge);
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(
        Playground::health(&options.directory, &options.name).unwrap(),
        Health::Absent
    );
}

#[test]
#[ignore = "this is the server in the pods of the other test"]
fn serve() {
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for stream in listener.incoming() {
        let _ = answer(stream.unwrap(), name.trim());
    }
}

fn answer(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = [0; 4096];
    let _ = stream.read(&mut request)?;
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}\n",
        text.len() + 1
    )
}

const MANIFEST: &str = include_str!("kubernetes.yaml");

#[test]
fn what_kubernetes_promises_works() {
    let playground = Playground::up(&options("two", 2), &mut Progress::stderr()).unwrap();
    let server = images::program(SERVER, &std::env::current_exe().unwrap(), "/serve").unwrap();
    let server = server.entrypoint(&["/serve", "--ignored", "--exact", "serve", "--nocapture"]);
    playground
        .load_images(&[
            server,
            images::client(CLIENT)
                .unwrap()
                .host_program("mount", "/bin/mount")
                .unwrap(),
        ])
        .unwrap();
    apply(&playground, MANIFEST);
    for what in [
        "pod/client",
        "pod/client-host",
        "pod/server-1",
        "pod/server-2",
        "pod/web-0",
    ] {
        eventually(what, || {
            try_kubectl(
                &playground,
                &["wait", "--for=condition=Ready", what, "--timeout=60s"],
            )
        });
    }
    let pod_address = |pod: &str| {
        kubectl(
            &playground,
            &["get", "pod", pod, "--output=jsonpath={.status.podIP}"],
        )
    };
    let from = |pod: &str, command: &[&str]| {
        let what = format!("{command:?} from {pod}");
        eventually(&what, || {
            try_kubectl(&playground, &[&["exec", pod, "--"], command].concat())
        })
    };
    let get = |pod: &str, address: &str| from(pod, &["curl", "-sS", "--max-time", "5", address]);

    for client in ["client", "client-host"] {
        for pod in ["server-1", "server-2", "web-0"] {
            assert_eq!(
                get(client, &format!("{}:8080", pod_address(pod))),
                pod,
                "from {client}"
            );
        }
        let service = kubectl(
            &playground,
            &[
                "get",
                "service",
                "server",
                "--output=jsonpath={.spec.clusterIP}",
            ],
        );
        let seen: BTreeSet<_> = (0..30).map(|_| get(client, &service)).collect();
        assert_eq!(
            seen,
            BTreeSet::from(["server-1".to_owned(), "server-2".to_owned()]),
            "from {client}"
        );
    }
    // A pod reaches itself through its Service.
    let own = [
        "exec",
        "web-0",
        "--container=client",
        "--",
        "curl",
        "-sS",
        "--max-time",
        "5",
        "web-self",
    ];
    assert_eq!(
        eventually("a call to itself", || try_kubectl(&playground, &own)),
        "web-0"
    );

    // Names: Services, headless, StatefulSet members, over UDP and TCP; what is outside does not exist.
    assert!(get("client", "server.default.svc.cluster.local").starts_with("server-"));
    assert_eq!(get("client", "web-0.web:8080"), "web-0");
    let by_tcp = from(
        "client",
        &["env", "RES_OPTIONS=use-vc", "getent", "ahostsv4", "web"],
    );
    assert!(by_tcp.starts_with(&pod_address("web-0")), "{by_tcp}");
    let outside = playground
        .kubectl()
        .args(["exec", "client", "--", "getent", "hosts", "example.org"])
        .output()
        .unwrap();
    assert_eq!(outside.status.code(), Some(2), "no such host, at once");

    // From the host, by NodePort on both nodes and by pod address.
    for node in 1..=2 {
        let address = format!("{}:30123", playground.node_address(node));
        let answer = eventually("NodePort", || ask(&address));
        assert!(answer.starts_with("server-"), "{answer}");
    }
    assert_eq!(
        ask(&format!("{}:8080", pod_address("server-2"))).unwrap(),
        "server-2"
    );

    // From the host, and from a pod, by an address that MetalLB gives and announces.
    let path = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}";
    let address = eventually("an address", || {
        let said = try_kubectl(&playground, &["get", "service", "server-balanced", path])?;
        said.parse::<std::net::Ipv4Addr>()
            .map_err(|error| format!("{said:?}: {error}"))
    });
    let (first, last) = playground.subnets().load_balancers();
    assert!((first..=last).contains(&address), "{address}");
    let said = eventually("the address answers", || ask(&format!("{address}:80")));
    assert!(said.starts_with("server-"), "{said}");
    assert!(get("client", &address.to_string()).starts_with("server-"));

    // The API server by its Service, and an address outside the cluster.
    let version = from(
        "client",
        &[
            "curl",
            "-sSk",
            "--max-time",
            "5",
            "https://kubernetes.default/version",
        ],
    );
    assert!(version.contains("v1.36"), "{version}");
    let outside = TcpListener::bind((playground.bridge_address(), 0)).unwrap();
    let address = outside.local_addr().unwrap().to_string();
    thread::spawn(move || {
        outside
            .incoming()
            .for_each(|stream| drop(answer(stream.unwrap(), "outside")))
    });
    assert_eq!(get("client", &address), "outside");

    // A Job ends; logs, exec and port-forward work.
    eventually("the job", || {
        try_kubectl(
            &playground,
            &[
                "wait",
                "--for=condition=Complete",
                "job/once",
                "--timeout=30s",
            ],
        )
    });
    assert_eq!(kubectl(&playground, &["logs", "job/once"]), "done");
    let forwarded = port_forward(&playground);
    assert_eq!(forwarded, "server-2");

    // Mounts made on the node reach a pod, and the node agents' view of namespaces is the node's.
    assert!(
        playground
            .node_command(1, "ip")
            .unwrap()
            .args(["netns", "add", "probe"])
            .status()
            .unwrap()
            .success()
    );
    let mounts = from("client", &["cat", "/proc/mounts"]);
    assert!(mounts.contains("/var/run/netns/probe"), "{mounts}");
    let init = from("client", &["cat", "/host/proc/1/comm"]);
    assert_eq!(init, "machine-init");
    // And mounts that a pod makes reach the node.
    eventually("mount of a pod", || {
        let mounts = playground
            .node_command(1, "cat")
            .unwrap()
            .arg("/proc/mounts")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&mounts.stdout).into_owned();
        if text.contains("/run/shared-by-pod/inner") {
            Ok(())
        } else {
            Err(text)
        }
    });

    let (name, bridge) = (playground.name().to_string(), playground.bridge());
    playground.down().unwrap();
    let left = traces(&name, &bridge);
    assert!(left.is_empty(), "{left:#?}");
}

/// The first line of the body.
fn ask(address: &str) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().last().unwrap_or_default().to_owned())
    };
    ask().map_err(|error| error.to_string())
}

fn port_forward(playground: &Playground) -> String {
    let mut command = playground.kubectl();
    let mut forward = command
        .args(["port-forward", "pod/server-2", ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(forward.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    let address = line.split_ascii_whitespace().nth(2).unwrap().to_owned();
    let answer = ask(&address);
    forward.kill().unwrap();
    forward.wait().unwrap();
    answer.unwrap()
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let mut options = options("bad", 1);
    options.subnet = Some("127.0.0.0/16".parse().unwrap());
    let error = Playground::up(&options, &mut Progress::silent()).unwrap_err();
    assert!(format!("{error:#}").contains("is in use"), "{error:#}");
    let bridge = options
        .name
        .parse::<tulle_playground::Name>()
        .unwrap()
        .bridge();
    let logs = options
        .directory
        .join(format!("{}.failed-logs", options.name));
    assert!(Path::new(&logs).is_dir());
    fs::remove_dir_all(logs).unwrap();
    let left = traces(&options.name, &bridge);
    assert!(left.is_empty(), "{left:#?}");
}
