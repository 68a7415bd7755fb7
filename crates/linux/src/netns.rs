//! Network namespaces as values.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// What tells one network namespace from another while either lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetNsId {
    /// Device of the namespace file.
    pub dev: u64,
    /// Inode of the namespace file.
    pub ino: u64,
}

/// A network namespace, held open by a descriptor. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct NetNs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    id: NetNsId,
}

thread_local! {
    /// The namespace that this thread is in, once known. Only [`NetNs::enter`] moves threads.
    static HERE: RefCell<Option<NetNs>> = const { RefCell::new(None) };
}

impl NetNs {
    /// Takes a descriptor of a namespace file, as received from another process.
    ///
    /// # Errors
    /// `InvalidInput` when the descriptor is not a network namespace.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let kind = rustix::fs::fstatfs(&fd)?;
        // NSFS_MAGIC; the type of namespace is asked next.
        if kind.f_type != 0x6e73_6673 || namespace_type(fd.as_fd())? != libc::CLONE_NEWNET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not a network namespace",
            ));
        }
        let stat = rustix::fs::fstat(&fd)?;
        let id = NetNsId {
            dev: stat.st_dev,
            ino: stat.st_ino,
        };
        Ok(Self {
            inner: Arc::new(Inner { fd, id }),
        })
    }

    /// Opens a namespace by path: `/proc/PID/ns/net`, `/run/netns/NAME`.
    ///
    /// # Errors
    /// As of opening the file and of [`NetNs::from_fd`].
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new, empty namespace with its loopback interface up; it lives as long as something holds it.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn create() -> io::Result<Self> {
        let made = std::thread::Builder::new().name("netns".into()).spawn(|| {
            // SAFETY: only the network namespace of this short-lived thread changes; it shares no
            // descriptor table or address space assumptions with CLONE_NEWNET.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            crate::netlink::loopback_up()?;
            Self::current()
        })?;
        made.join()
            .map_err(|_| io::Error::other("the thread that makes a namespace panicked"))?
    }

    /// Identity of the namespace: equal for two descriptors of the same namespace.
    #[must_use]
    pub fn id(&self) -> NetNsId {
        self.inner.id
    }

    /// The descriptor, for passing it on.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }

    /// Runs `f` with the calling thread inside this namespace and comes back, also when `f` panics. Sockets and child
    /// processes made by `f` belong to this namespace. Calls may nest.
    ///
    /// # Errors
    /// When the namespace cannot be entered (CAP_SYS_ADMIN); `f` did not run then.
    ///
    /// # Panics
    /// Aborts the process when the way back fails: a thread in the wrong network must not go on.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        let before = match HERE.with_borrow(Clone::clone) {
            Some(known) => known,
            None => Self::current()?,
        };
        if before.id() == self.id() {
            return Ok(f());
        }
        move_into_link_name_space(self.fd(), Some(LinkNameSpaceType::Network))?;
        HERE.set(Some(self.clone()));
        let _back = WayBack(before);
        Ok(f())
    }
}

/// Returns the thread to where it was, on every way out.
struct WayBack(NetNs);

impl Drop for WayBack {
    fn drop(&mut self) {
        if move_into_link_name_space(self.0.fd(), Some(LinkNameSpaceType::Network)).is_err() {
            std::process::abort();
        }
        HERE.set(Some(self.0.clone()));
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for NetNs {}

/// Which kind of namespace a descriptor is (a CLONE_NEW* value).
fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    use std::os::fd::AsRawFd;
    /// `_IO(0xb7, 0x3)` of linux/nsfs.h.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(kind)
    }
}

#[cfg(test)]
mod tests;
