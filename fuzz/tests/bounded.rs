//! A bounded, seeded run of every target: the same inputs each time, in seconds.

use tulle_fuzz::mutate::{Dice, next};
use tulle_fuzz::{TARGETS, Target, regressions, try_one};

fn run(target: &Target) -> Result<(), String> {
    let mut known = (target.seeds)();
    assert!(!known.is_empty(), "{}: no seeds", target.name);
    known.extend(regressions(target).map_err(|error| error.to_string())?);
    for input in &known {
        try_one(target, input)?;
    }
    try_one(target, &[])?;
    let mut dice = Dice::new(20);
    for _ in 0..target.rounds {
        try_one(target, &next(&mut dice, &known))?;
    }
    Ok(())
}

#[test]
fn every_target_keeps_its_promises() {
    let broken: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = TARGETS
            .iter()
            .map(|target| scope.spawn(move || run(target)))
            .collect();
        let ended = running.into_iter().map(|thread| thread.join().unwrap());
        ended.filter_map(Result::err).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn names_are_told_apart_and_every_regression_belongs_to_one() {
    let names: std::collections::BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    // None there yet is fine.
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&*name), "regressions of no target: {name}");
    }
}

#[test]
fn a_broken_promise_is_reported_with_its_input() {
    let target = Target {
        run: |input| assert!(!input.starts_with(b"ab"), "it begins with ab"),
        ..TARGETS[0]
    };
    assert_eq!(try_one(&target, b"ba"), Ok(()));
    let said = try_one(&target, b"abc").unwrap_err();
    assert!(said.contains("it begins with ab") && said.contains("input: 616263"));
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    let known = vec![b"hello, world".to_vec(), b"GET / HTTP/1.1".to_vec()];
    let run = |seed| {
        let mut dice = Dice::new(seed);
        (0..50).map(|_| next(&mut dice, &known)).collect::<Vec<_>>()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
