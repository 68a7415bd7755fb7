//! The program as a container runtime calls it, with a scripted node agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};

const ARGUMENTS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a-1;K8S_POD_UID=0aa1b2c3-1111-2222-3333-444455556666";

fn previous() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "sandbox": "/var/run/netns/cni-1" }],
        "ips": [{ "interface": 0, "address": "10.1.2.3/24", "gateway": "10.1.2.1" }, { "address": "fd00::3/64" }],
        "routes": [{ "dst": "0.0.0.0/0" }], "dns": { "nameservers": ["10.96.0.10"] }, "odd": { "z": 1, "a": [2] },
    })
}

fn configuration(socket: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "istio-cni", "socket": socket,
        "excludeNamespaces": ["istio-system", "kube-system"], "prevResult": previous(),
    })
}

fn call(command: &str, arguments: &str, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tulle-cni"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_ARGS", arguments),
            ("CNI_NETNS", "/var/run/netns/cni-1"),
        ])
        .envs([
            ("CNI_CONTAINERID", "sandbox1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Answers one call with these bytes; hands over what was asked.
fn agent(answer: Vec<u8>) -> (tempfile::TempDir, PathBuf, mpsc::Receiver<Value>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (asked, questions) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut text).unwrap();
        asked.send(serde_json::from_slice(&text).unwrap()).unwrap();
        stream.write_all(&answer).unwrap();
    });
    (dir, path, questions)
}

fn framed(answer: &Value) -> Vec<u8> {
    let text = answer.to_string().into_bytes();
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], &text].concat()
}

#[test]
fn add_asks_the_agent_and_passes_the_result_on() {
    let (_dir, socket, questions) = agent(framed(&json!({ "enrolled": true })));
    let output = call("ADD", ARGUMENTS, &configuration(&socket).to_string());
    assert!(output.status.success());
    assert_eq!(printed(&output), previous());
    // The node agent's tests read the same words.
    let expected: Value = serde_json::from_str(include_str!("protocol.json")).unwrap();
    assert_eq!(questions.recv().unwrap(), expected);
}

#[test]
fn a_refusal_fails_the_pod_with_the_reason() {
    let why = "no ztunnel is connected on this node";
    let (_dir, socket, _questions) = agent(framed(&json!({ "enrolled": false, "error": why })));
    let output = call("ADD", ARGUMENTS, &configuration(&socket).to_string());
    assert_eq!(output.status.code(), Some(1));
    let error = printed(&output);
    assert_eq!(
        (&error["cniVersion"], &error["code"]),
        (&json!("1.0.0"), &json!(11))
    );
    let message = error["msg"].as_str().unwrap();
    assert!(
        message.contains("shop/a-1") && message.contains(why) && message.contains("istio-cni-node"),
        "{message}"
    );
}

#[test]
fn without_the_agent_pods_do_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let output = call(
        "ADD",
        ARGUMENTS,
        &configuration(&dir.path().join("none.sock")).to_string(),
    );
    assert_eq!(output.status.code(), Some(1));
    let message = printed(&output)["msg"].as_str().unwrap().to_owned();
    assert!(
        message.contains("none.sock") && message.contains("DaemonSet istio-cni-node"),
        "{message}"
    );
}

#[test]
fn an_agent_that_appears_in_time_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let input = configuration(&path).to_string();
    let plugin = std::thread::spawn(move || call("ADD", ARGUMENTS, &input));
    std::thread::sleep(std::time::Duration::from_millis(400));
    let listener = UnixListener::bind(&path).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .write_all(&framed(&json!({ "enrolled": false })))
        .unwrap();
    assert!(plugin.join().unwrap().status.success());
}

#[test]
fn an_agent_that_answers_rubbish_fails_the_pod() {
    for answer in [
        b"".to_vec(),
        b"\x00\x00\x00\x03not".to_vec(),
        b"\xff\xff\xff\xff".to_vec(),
    ] {
        let (_dir, socket, _questions) = agent(answer.clone());
        let output = call("ADD", ARGUMENTS, &configuration(&socket).to_string());
        assert_eq!(output.status.code(), Some(1), "{answer:?}");
        assert!(
            printed(&output)["msg"]
                .as_str()
                .unwrap()
                .contains("did not answer for pod shop/a-1")
        );
    }
}

#[test]
fn the_mesh_itself_and_excluded_namespaces_never_ask() {
    let nowhere = configuration(Path::new("/nonexistent/s.sock"));
    for namespace in ["istio-system", "kube-system"] {
        let output = call(
            "ADD",
            &ARGUMENTS.replace("=shop", &format!("={namespace}")),
            &nowhere.to_string(),
        );
        assert!(output.status.success(), "{namespace}");
        assert_eq!(printed(&output), previous());
    }
    let mut bare = nowhere.clone();
    bare.as_object_mut().unwrap().remove("excludeNamespaces");
    assert!(
        call(
            "ADD",
            &ARGUMENTS.replace("=shop", "=istio-system"),
            &bare.to_string()
        )
        .status
        .success()
    );
    assert!(
        call("ADD", "", &nowhere.to_string()).status.success(),
        "not a pod"
    );
}

#[test]
fn deletion_tells_the_agent_and_never_fails() {
    let (_dir, socket, questions) = agent(framed(&json!({ "enrolled": false })));
    let output = call("DEL", ARGUMENTS, &configuration(&socket).to_string());
    assert!(output.status.success() && output.stdout.is_empty());
    let asked = questions.recv().unwrap();
    assert_eq!(
        (&asked["command"], &asked["podName"]),
        (&json!("DEL"), &json!("a-1"))
    );
    let nowhere = configuration(Path::new("/nonexistent/s.sock")).to_string();
    assert!(call("DEL", ARGUMENTS, &nowhere).status.success());
}

#[test]
fn the_other_commands_answer_at_once() {
    let nowhere = configuration(Path::new("/nonexistent/s.sock")).to_string();
    for command in ["CHECK", "GC", "STATUS"] {
        let output = call(command, ARGUMENTS, &nowhere);
        assert!(
            output.status.success() && output.stdout.is_empty(),
            "{command}"
        );
    }
    let version = printed(&call(
        "VERSION",
        "",
        &json!({ "cniVersion": "1.1.0" }).to_string(),
    ));
    assert_eq!(
        version["supportedVersions"],
        json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
}

#[test]
fn misuse_is_told_in_the_runtimes_words() {
    let nowhere = configuration(Path::new("/nonexistent/s.sock"));
    let mut unchained = nowhere.clone();
    unchained.as_object_mut().unwrap().remove("prevResult");
    for (command, input, code) in [
        ("ADD", unchained.to_string(), 7),
        ("ADD", "{".into(), 6),
        ("FLY", nowhere.to_string(), 4),
        ("", nowhere.to_string(), 4),
    ] {
        let output = call(command, ARGUMENTS, &input);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(printed(&output)["code"], json!(code), "{command}");
    }
}
