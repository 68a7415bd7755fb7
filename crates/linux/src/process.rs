//! What a long-running process asks of the kernel for itself.

use std::io;
use std::ops::Range;

use rustix::mm::{Advice, madvise};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Raises the soft limit of open files to the hard one and returns it.
///
/// # Errors
/// When the kernel refuses (it should not: the hard limit is ours to use).
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Asks for SIGKILL when the thread that started this process ends. Call it first thing in the child, then compare
/// the parent's id: a parent that died before this call sends nothing.
///
/// # Errors
/// Never on Linux in practice.
pub fn die_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// `InvalidInput` when this process may not run on that CPU.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such CPU"));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)?;
    Ok(())
}

/// The effective user of this process.
#[must_use]
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Gives back the memory of program text; what runs again is read again from the page cache, which usually still has it.
///
/// A process of ours runs most of its text once, at its start (TLS tables, parsing, manifests), and then a small part of it for
/// months. Returns how many bytes of text are mapped.
///
/// # Errors
/// When `/proc/self/maps` cannot be read, or the kernel refuses.
pub fn release_text() -> io::Result<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut released = 0;
    for range in maps.lines().filter_map(text_range) {
        let start = std::ptr::without_provenance_mut(range.start);
        // SAFETY: the range is a private, executable, never writable mapping of a file. Dropping its pages changes no byte that
        // anybody can read: the next access maps the same bytes of the same file again.
        unsafe { madvise(start, range.len(), Advice::LinuxDontNeed)? };
        released += range.len();
    }
    Ok(released)
}

/// Gives what was freed back to the kernel. The allocator keeps it otherwise: after a burst of updates, as much again as is used.
pub fn release_heap() {
    // SAFETY: takes no pointer, may be called at any time by any thread (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The addresses of a line of `/proc/PID/maps`, when it is program text of a file (`proc_pid_maps(5)`).
fn text_range(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let path = fields.nth(3)?;
    if permissions != "r-xp" || !path.starts_with('/') {
        return None;
    }
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_files_is_released() {
        let file = "55d0a000-55d0b000 r-xp 00001000 fd:01 1234   /usr/local/bin/tulle";
        assert_eq!(text_range(file), Some(0x55d0_a000..0x55d0_b000));
        for other in [
            "55d0a000-55d0b000 r--p 00001000 fd:01 1234   /usr/local/bin/tulle",
            "55d0a000-55d0b000 rwxp 00001000 fd:01 1234   /usr/local/bin/tulle",
            "7ffc0000-7ffc1000 r-xp 00000000 00:00 0      [vdso]",
            "7ffc0000-7ffc1000 r-xp 00000000 00:00 0",
            "nonsense",
        ] {
            assert_eq!(text_range(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_released_runs_on() {
        let resident = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut text = false;
            let mut sum = 0;
            for line in smaps.lines() {
                if line.contains('-') && line.split(' ').count() > 4 {
                    text = text_range(line).is_some();
                } else if let (true, Some(rss)) = (text, line.strip_prefix("Rss:")) {
                    sum += rss.trim_end_matches("kB").trim().parse::<usize>().unwrap();
                }
            }
            sum
        };
        let before = resident();
        assert!(release_text().unwrap() > before << 10);
        assert!(resident() <= before);
    }

    #[test]
    fn open_files_reach_the_hard_limit() {
        let hard = raise_open_files().unwrap();
        assert_eq!(
            getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            hard
        );
    }

    #[test]
    fn a_thread_stays_where_it_is_pinned() {
        std::thread::spawn(|| {
            let allowed = rustix::thread::sched_getaffinity(None).unwrap();
            let cpu = (0..CpuSet::MAX_CPU).find(|c| allowed.is_set(*c)).unwrap();
            pin_to_cpu(cpu).unwrap();
            let now = rustix::thread::sched_getaffinity(None).unwrap();
            assert_eq!(now.count(), 1);
            assert!(now.is_set(cpu));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_impossible_cpu_is_refused() {
        assert!(pin_to_cpu(usize::MAX).is_err());
    }
}
