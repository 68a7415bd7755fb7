//! `fuzz [--seconds N] [--seed S] [TARGET...]`: new inputs for as long as it takes; `fuzz TARGET --input FILE`: that one.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tulle_fuzz::mutate::{self, Dice};
use tulle_fuzz::{TARGETS, Target, regressions, try_one};

/// Inputs between two looks at the clock.
const BATCH: u32 = 64;

struct Wanted {
    targets: Vec<&'static Target>,
    seconds: u64,
    seed: u64,
    input: Option<String>,
}

fn main() -> ExitCode {
    let outcome = wanted(std::env::args().skip(1)).and_then(|wanted| {
        wanted
            .targets
            .iter()
            .try_for_each(|target| run(target, &wanted))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wanted(mut arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted {
        targets: Vec::new(),
        seconds: 60,
        seed: 1,
        input: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| {
            text.parse::<u64>()
                .map_err(|_| format!("{text:?} is no number"))
        };
        match argument.as_str() {
            "--seconds" => wanted.seconds = number(value()?)?,
            "--seed" => wanted.seed = number(value()?)?,
            "--input" => wanted.input = Some(value()?),
            name => {
                let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                let target = TARGETS.iter().find(|target| target.name == name);
                let unknown = || format!("no target {name:?}; there are {}", names.join(", "));
                wanted.targets.push(target.ok_or_else(unknown)?);
            }
        }
    }
    if wanted.targets.is_empty() {
        wanted.targets = TARGETS.iter().collect();
    }
    Ok(wanted)
}

fn run(target: &Target, wanted: &Wanted) -> Result<(), String> {
    if let Some(path) = &wanted.input {
        let input = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        return try_one(target, &input);
    }
    let mut known = (target.seeds)();
    known.extend(regressions(target).map_err(|error| format!("regressions: {error}"))?);
    let (end, mut dice) = (
        Instant::now() + Duration::from_secs(wanted.seconds),
        Dice::new(wanted.seed),
    );
    let mut inputs = 0u64;
    while Instant::now() < end {
        for _ in 0..BATCH {
            try_one(target, &mutate::next(&mut dice, &known))?;
        }
        inputs += u64::from(BATCH);
    }
    eprintln!("{}: {inputs} inputs", target.name);
    Ok(())
}
