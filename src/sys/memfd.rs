//! A text that travels to another process by descriptor and can no longer change
//! (memfd_create(2), sealed).

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, Write};
use std::os::fd::OwnedFd;

/// A sealed memory file that holds these bytes.
pub fn sealed(bytes: impl AsRef<[u8]>) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("configuration", flags)?);
    file.write_all(bytes.as_ref())?;
    file.rewind()?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals()))?;
    Ok(file.into())
}

/// The text of a sealed memory file of at most `size_max` bytes.
pub fn read(descriptor: OwnedFd, size_max: u64) -> Result<String> {
    let bytes = read_bytes(descriptor, size_max)?;
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

/// As [`read`], of a page that need not be UTF-8.
pub fn read_bytes(descriptor: OwnedFd, size_max: u64) -> Result<Vec<u8>> {
    let held = fcntl(&descriptor, FcntlArg::F_GET_SEALS)?;
    if !SealFlag::from_bits_retain(held).contains(seals()) {
        return Err(Error::other("the text is not sealed"));
    }
    let mut text = Vec::new();
    let mut file = File::from(descriptor);
    // Sender and receiver share the file's offset, and the text may be sent more than once.
    file.rewind()?;
    if file.metadata()?.len() > size_max {
        return Err(Error::other("the text is too long"));
    }
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_is_read_back_and_cannot_change() {
        let text = "[server]\n";
        let descriptor = sealed(text).unwrap();
        let mut copy = File::from(descriptor.try_clone().unwrap());
        assert!(copy.write_all(b"x").is_err());
        assert!(copy.set_len(0).is_err());
        assert_eq!(read(descriptor.try_clone().unwrap(), 100).unwrap(), text);
        assert!(read(descriptor, 3).is_err());
        let plain = memfd_create("plain", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(read(plain, 100).is_err());
    }
}
