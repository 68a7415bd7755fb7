//! The keeper with real processes: this test program plays the keeper and the worker too, by an environment variable.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use tulle_daemon::keeper::{Client, Start, run};

const ROLE: &str = "TULLE_TEST_ROLE";
const DIRECTORY: &str = "TULLE_TEST_DIRECTORY";

/// Not a test: the keeper process and its workers come in here.
#[test]
fn role() {
    match std::env::var(ROLE).as_deref() {
        Ok("keeper") => {
            let start = Start {
                program: "/usr/bin/env".into(),
                arguments: [
                    &format!("{ROLE}=worker"),
                    current().as_str(),
                    "--exact",
                    "role",
                    "--nocapture",
                ]
                .map(Into::into)
                .to_vec(),
            };
            exit(i32::from(run(&start).unwrap()));
        }
        Ok("worker") => exit(worker()),
        _ => {}
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the code of these processes is what is tested"
)]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn current() -> String {
    std::env::current_exe()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// Answers each connection with its process id, after it has read one byte that says what to do.
fn worker() -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let directory = std::env::var(DIRECTORY).unwrap();
        let (client, mut restored) = Client::connect().await.unwrap().unwrap();
        if Path::new(&directory).join("exit-at-once").exists() {
            return 9;
        }
        let listener = match restored.remove("listener") {
            Some(mut fds) => TcpListener::from(fds.remove(0)),
            None => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                client.put("listener", &[listener.as_fd()]).await.unwrap();
                client.put("gone", &[listener.as_fd()]).await.unwrap();
                client.delete("gone").await.unwrap();
                let port = listener.local_addr().unwrap().port().to_string();
                std::fs::write(Path::new(&directory).join("port"), port).unwrap();
                listener
            }
        };
        assert!(restored.is_empty());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut order = [0];
                if stream.read_exact(&mut order).is_err() {
                    continue;
                }
                match order[0] {
                    b'd' => std::process::abort(),
                    b'e' => exit(0),
                    _ => write!(stream, "{}", std::process::id()).unwrap(),
                }
            }
        });
        client.terminated().await.unwrap();
        7
    })
}

struct Keeper {
    process: Child,
    directory: tempfile::TempDir,
}

impl Keeper {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(directory)
    }

    fn start_in(directory: tempfile::TempDir) -> Self {
        let process = Command::new(current())
            .args(["--exact", "role", "--nocapture"])
            .env(ROLE, "keeper")
            .env(DIRECTORY, directory.path())
            .spawn()
            .unwrap();
        Self { process, directory }
    }

    fn connect(&self) -> TcpStream {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let port =
                std::fs::read_to_string(self.directory.path().join("port")).unwrap_or_default();
            if let Ok(stream) = port
                .parse()
                .map_err(drop)
                .and_then(|port: u16| TcpStream::connect(("127.0.0.1", port)).map_err(drop))
            {
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                return stream;
            }
            assert!(Instant::now() < deadline, "no worker came");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self) -> String {
        let mut stream = self.connect();
        stream.write_all(b"p").unwrap();
        let mut pid = String::new();
        stream.read_to_string(&mut pid).unwrap();
        pid
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the keeper does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Its worker dies with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn who_waits_in_the_queue_is_served_by_the_successor() {
    let mut keeper = Keeper::start();
    let mut last = keeper.ask();
    for _ in 0..3 {
        keeper.connect().write_all(b"d").unwrap();
        let began = Instant::now();
        // Connects at once: the kernel queues it while no worker lives.
        let next = keeper.ask();
        assert_ne!(next, last);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "took {:?}",
            began.elapsed()
        );
        last = next;
    }
    keeper.connect().write_all(b"e").unwrap();
    assert_eq!(keeper.ended().code(), Some(0));
}

#[test]
fn a_request_to_end_reaches_the_worker_and_its_code_comes_back() {
    let mut keeper = Keeper::start();
    keeper.ask();
    let killed = Command::new("kill")
        .arg("-TERM")
        .arg(keeper.process.id().to_string())
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(keeper.ended().code(), Some(7));
}

#[test]
fn a_worker_that_gives_up_before_it_has_anything_is_final() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("exit-at-once"), "").unwrap();
    let mut keeper = Keeper::start_in(directory);
    assert_eq!(keeper.ended().code(), Some(9));
}

#[test]
fn the_worker_dies_with_its_keeper() {
    let mut keeper = Keeper::start();
    let pid = keeper.ask();
    keeper.process.kill().unwrap();
    keeper.process.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|s| !s.contains(") Z "))
    };
    while alive() {
        assert!(
            Instant::now() < deadline,
            "worker {pid} outlives its keeper"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
