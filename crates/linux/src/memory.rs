//! Sealed memory: a blob that one process hands to its successor and that nobody can change on the way.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use crate::limits::SEALED_BLOB;

/// An anonymous memory file with what `write` writes, that can no longer be written, grown, shrunk or unsealed.
///
/// # Errors
/// When memory is short, or `write` fails.
pub fn seal(
    name: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut writer = BufWriter::new(File::from(fd));
    write(&mut writer)?;
    let file = writer.into_inner()?;
    fcntl_add_seals(&file, all_seals())?;
    Ok(file.into())
}

/// Reads a blob made by [`seal`].
///
/// # Errors
/// `InvalidData` when the descriptor is not fully sealed (its content could change while it is read) or too large.
pub fn read_sealed(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let seals = fcntl_get_seals(fd).map_err(|_| invalid("the descriptor is not sealed memory"))?;
    if !seals.contains(all_seals()) {
        return Err(invalid("the memory is not sealed against changes"));
    }
    let mut file = File::from(fd.try_clone()?);
    let length = file.metadata()?.len();
    if length > SEALED_BLOB {
        return Err(invalid("the sealed memory is larger than any blob of ours"));
    }
    file.rewind()?;
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn all_seals() -> SealFlags {
    SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_sealed_blob_comes_back_any_number_of_times() {
        let fd = seal("tulle-test", |to| to.write_all(b"snapshot")).unwrap();
        assert_eq!(read_sealed(&fd).unwrap(), b"snapshot");
        assert_eq!(read_sealed(&fd).unwrap(), b"snapshot");
    }

    #[test]
    fn a_sealed_blob_cannot_be_written() {
        let fd = seal("tulle-test", |to| to.write_all(b"snapshot")).unwrap();
        let mut file = File::from(fd);
        file.rewind().unwrap();
        assert!(file.write_all(b"x").is_err());
    }

    #[test]
    fn unsealed_memory_is_refused() {
        let fd = memfd_create("tulle-test", MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(
            read_sealed(&fd).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let plain: OwnedFd = tempfile::tempfile().unwrap().into();
        assert_eq!(
            read_sealed(&plain).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
