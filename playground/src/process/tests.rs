use super::*;

#[test]
fn start_time_is_read_behind_an_awkward_name() {
    let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
    assert_eq!(
        parse_started(&format!("12 (a) b (c)) S {tail}")),
        Some(4711)
    );
    assert_eq!(parse_started(&format!("12 (gone) Z {tail}")), None);
    assert_eq!(parse_started("12"), None);
}

#[test]
fn a_process_is_recognised_until_it_ends() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
    assert!(id.alive());
    let reborn = ProcessId {
        started: id.started + 1,
        ..id
    };
    reborn.kill();
    assert!(id.alive() && !reborn.alive());
    id.kill();
    child.wait().unwrap();
    assert!(!id.alive());
}

#[test]
fn a_failing_command_is_quoted_with_what_it_said() {
    let error = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sh -c") && error.contains("no such thing") && error.contains('3'),
        "{error}"
    );
    assert_eq!(
        run_with_input(&mut Command::new("cat"), b"text").unwrap(),
        b"text"
    );
}
