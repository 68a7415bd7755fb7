use super::*;

#[test]
fn a_component_that_dies_is_reported_with_the_end_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let components = Components::default();
    let mut command = Command::new("sh");
    command.args(["-c", "echo first; sleep 0.1; echo cannot bind >&2; exit 4"]);
    components
        .spawn("etcd", dir.path().join("etcd.log"), &command)
        .unwrap();
    let second = Duration::from_secs(20);
    let never = components.wait(
        "never",
        second,
        Duration::from_millis(5),
        || -> Result<()> { bail!("not yet") },
    );
    let error = never.unwrap_err().to_string();
    assert!(
        error.contains("etcd ended") && error.contains("cannot bind") && error.contains("first"),
        "{error}"
    );
}

#[test]
fn a_deadline_says_what_was_seen_last() {
    let components = Components::default();
    let wait = components.wait(
        "two nodes",
        Duration::ZERO,
        Duration::ZERO,
        || -> Result<()> { bail!("node2 is not there") },
    );
    let error = wait.unwrap_err().to_string();
    assert!(
        error.contains("two nodes") && error.contains("node2 is not there"),
        "{error}"
    );
}

#[test]
fn giving_up_ends_the_waits_of_others() {
    let components = Components::default();
    components.give_up();
    let wait = components.wait(
        "x",
        Duration::from_secs(60),
        Duration::ZERO,
        || -> Result<()> { bail!("no") },
    );
    assert!(wait.unwrap_err().to_string().contains("another part"));
}
