//! The CNI plugin that the container runtime calls for every pod of the node, last in the chain.
//!
//! It asks the node agent to take the pod into the mesh before its first packet and passes the result of the plugins
//! before it on unchanged. When the node agent cannot be asked or refuses, the pod must not start: outside the mesh its
//! traffic would be in clear.

mod agent;
mod call;
mod failure;
mod limits;

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use agent::{Agent, Request};
use call::{Call, Configuration};
use failure::Failure;
use serde_json::{Value, json};

/// CNI versions whose results have addresses where we look for them.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const NEWEST: &str = "1.1.0";

fn main() -> ExitCode {
    let mut text = String::new();
    let read = std::io::stdin()
        .take(limits::CONFIGURATION)
        .read_to_string(&mut text);
    let outcome = match read {
        Ok(_) => run(&Call::from_lookup(|name| std::env::var(name).ok()), &text),
        Err(error) => Err(Failure::unreadable(&error)),
    };
    let (answer, code) = match outcome {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(answer)) => (answer, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(&text), ExitCode::FAILURE),
    };
    // The runtime has closed its end: it no longer wants to know.
    let _unwanted = writeln!(std::io::stdout(), "{answer}");
    code
}

/// One call; what to print, if anything.
fn run(call: &Call, text: &str) -> Result<Option<Value>, Failure> {
    match call.command.as_str() {
        "VERSION" => Ok(Some(
            json!({ "cniVersion": NEWEST, "supportedVersions": VERSIONS }),
        )),
        "ADD" => add(call, &Configuration::parse(text)?).map(Some),
        "DEL" => {
            del(call, &Configuration::parse(text)?);
            Ok(None)
        }
        // Nothing of ours is in the runtime's hands: rules are checked and repaired by the node agent, and what it
        // holds of a pod ends with the pod. STATUS must not fail while the agent is away: the agent's own pod could
        // not start then.
        "CHECK" | "GC" | "STATUS" => Ok(None),
        other => Err(Failure::unknown_command(other)),
    }
}

fn add(call: &Call, configuration: &Configuration) -> Result<Value, Failure> {
    let result = configuration
        .previous
        .clone()
        .ok_or_else(Failure::not_chained)?;
    let Some(pod) = call
        .pod
        .as_ref()
        .filter(|pod| !configuration.excludes(&pod.namespace))
    else {
        return Ok(result);
    };
    let deadline = Instant::now() + limits::ADD_DEADLINE;
    let request = Request {
        command: "ADD",
        call,
        pod,
        ips: call::addresses(&result),
    };
    let mut agent = Agent::connect(&configuration.socket, limits::CONNECT_PATIENCE)
        .map_err(|error| Failure::no_agent(&configuration.socket, &error))?;
    let answer = agent
        .ask(&request, deadline)
        .map_err(|error| Failure::lost_agent(pod, &error))?;
    match answer.error {
        None => Ok(result),
        Some(why) => Err(Failure::refused(pod, &why)),
    }
}

/// Lets the node agent give up what it holds of the pod. The agent learns of the pod's end by other ways too.
fn del(call: &Call, configuration: &Configuration) {
    let Some(pod) = call
        .pod
        .as_ref()
        .filter(|pod| !configuration.excludes(&pod.namespace))
    else {
        return;
    };
    let deadline = Instant::now() + limits::DEL_DEADLINE;
    let request = Request {
        command: "DEL",
        call,
        pod,
        ips: Vec::new(),
    };
    if let Ok(mut agent) = Agent::connect(&configuration.socket, std::time::Duration::ZERO) {
        let _best_effort = agent.ask(&request, deadline);
    }
}
