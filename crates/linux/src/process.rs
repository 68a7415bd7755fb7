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

/// Gives back the pages of mapped files, program text first of all; what is used again is read again from the page cache, which
/// usually still has it.
///
/// A process of ours runs most of its text once (TLS tables, parsing, manifests), and then a small part of it for months; the tables
/// for relocation and unwinding are read once too. Returns how many bytes are mapped.
///
/// # Errors
/// When `/proc/self/smaps` cannot be read, or the kernel refuses.
pub fn release_files() -> io::Result<usize> {
    let smaps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut released = 0;
    for range in clean_files(&smaps) {
        let start = std::ptr::without_provenance_mut(range.start);
        // SAFETY: the range is a private mapping of a file that cannot be written and has no page of its own, in memory or in swap.
        // Dropping its pages changes no byte that anybody can read: the next access maps the same bytes of the same file again.
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

/// The addresses of what in a `/proc/PID/smaps` maps a file, privately and not for writing, and differs from it in no page. What the
/// loader relocated and made read-only afterwards does differ.
fn clean_files(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    // Pages of its own: in memory, and in swap.
    let mut own = [None, None];
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let kib = |text: Option<&str>| text.and_then(|kib| kib.parse::<u64>().ok());
        match fields.next() {
            Some("Anonymous:") => own[0] = kib(fields.next()),
            Some("Swap:") => own[1] = kib(fields.next()),
            // The last line of each.
            Some("VmFlags:") => {
                found.extend(mapping.take().filter(|_| own == [Some(0), Some(0)]));
                own = [None, None];
            }
            Some(name) if !name.ends_with(':') => mapping = file_range(line),
            _ => {}
        }
    }
    found
}

/// The addresses of a line of `/proc/PID/maps`, when it is a file's that is mapped privately and not for writing (`proc_pid_maps(5)`).
fn file_range(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let path = fields.nth(3)?;
    if !matches!(permissions, "r-xp" | "r--p") || !path.starts_with('/') {
        return None;
    }
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [Range<usize>; 0] = [];

    #[test]
    fn only_unchanged_pages_of_files_are_released() {
        let mapping = |header: &str, anonymous: u32, swap: u32| {
            format!(
                "{header}\nSize: 4 kB\nRss: 4 kB\nAnonymous: {anonymous} kB\nSwap: {swap} kB\nSwapPss: 0 kB\nVmFlags: rd mr\n"
            )
        };
        let text = "55d0a000-55d0b000 r-xp 00001000 fd:01 1234   /usr/local/bin/tulle";
        let tables = "55d09000-55d0a000 r--p 00000000 fd:01 1234   /usr/local/bin/tulle";
        let both = mapping(tables, 0, 0) + &mapping(text, 0, 0);
        assert_eq!(
            clean_files(&both),
            [0x55d0_9000..0x55d0_a000, 0x55d0_a000..0x55d0_b000]
        );
        assert_eq!(clean_files(&mapping(tables, 4, 0)), NONE, "relocated");
        assert_eq!(
            clean_files(&mapping(tables, 0, 4)),
            NONE,
            "relocated, swapped out"
        );
        let unknown = mapping(text, 0, 0).replace("Swap:", "Else:");
        assert_eq!(clean_files(&unknown), NONE);
        let after = mapping(tables, 0, 0) + &unknown;
        assert_eq!(clean_files(&after).len(), 1);
        for other in [
            "55d0a000-55d0b000 rw-p 00001000 fd:01 1234   /usr/local/bin/tulle",
            "55d0a000-55d0b000 rwxp 00001000 fd:01 1234   /usr/local/bin/tulle",
            "55d0a000-55d0b000 r--s 00001000 fd:01 1234   /usr/local/bin/tulle",
            "7ffc0000-7ffc1000 r-xp 00000000 00:00 0      [vdso]",
            "7ffc0000-7ffc1000 r-xp 00000000 00:00 0",
            "nonsense",
        ] {
            assert_eq!(clean_files(&mapping(other, 0, 0)), NONE, "{other}");
        }
    }

    #[test]
    fn what_was_released_runs_on() {
        let resident = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let clean = clean_files(&smaps);
            let mut counts = false;
            let mut sum = 0;
            for line in smaps.lines() {
                if let Some(range) = file_range(line) {
                    counts = clean.contains(&range);
                } else if line.split(' ').count() > 4 {
                    counts = false;
                } else if let (true, Some(rss)) = (counts, line.strip_prefix("Rss:")) {
                    sum += rss.trim_end_matches("kB").trim().parse::<usize>().unwrap();
                }
            }
            sum
        };
        let before = resident();
        assert!(release_files().unwrap() > before << 10);
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
