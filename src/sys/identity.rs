//! Who a process runs as: looked up while still privileged, taken on for good.

use nix::unistd::{Gid, Uid, User, getgrouplist, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::{Error, Result};

/// A user with its groups, by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, with `gid` among them.
    pub groups: Vec<u32>,
    pub name: String,
    /// Home directory.
    pub home: String,
}

/// Whether this process may take on identities at all.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The user as whom this process acts.
pub fn own_uid() -> u32 {
    Uid::effective().as_raw()
}

impl Identity {
    /// The user of this name, else of this number, in the system's database (passwd(5)); `None`
    /// when there is none.
    pub fn named(name: &str) -> Result<Option<Self>> {
        let numbered = || match name.parse() {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => Ok(None),
        };
        let Some(user) = User::from_name(name)?.map_or_else(numbered, |user| Ok(Some(user)))?
        else {
            return Ok(None);
        };
        let text = CString::new(user.name.as_str())?;
        let groups = getgrouplist(&text, user.gid)?;
        Ok(Some(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: user.name,
            home: user.dir.to_str().unwrap_or("/").to_owned(),
        }))
    }

    /// Takes the identity on: real, effective and saved, so that there is no way back. The kernel
    /// empties all capability sets when the last uid that was 0 changes (capabilities(7)).
    /// Makes system calls only, so it may run between fork and exec.
    pub(super) fn take_on(&self, groups: &[Gid]) -> nix::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(groups)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)
    }

    pub(super) fn group_ids(&self) -> Vec<Gid> {
        self.groups.iter().map(|group| Gid::from_raw(*group)).collect()
    }

    /// Takes the identity on in this process and makes sure that it cannot be undone.
    pub fn assume(&self) -> Result<()> {
        self.take_on(&self.group_ids())?;
        if self.uid != 0 && Uid::from_raw(0) != Uid::effective() {
            let back = setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0));
            if back.is_ok() {
                return Err(Error::other("the way back to root is still open"));
            }
        }
        Ok(())
    }
}

/// Neither this process nor its children can gain privileges by executing a file (prctl(2)).
pub fn renounce_privileges() -> Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = Identity::named("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!((root.name.as_str(), root.home.as_str()), ("root", "/root"));
        assert_eq!(Identity::named("0").unwrap(), Some(root));
        assert_eq!(Identity::named("4123456789").unwrap(), None);
        assert_eq!(Identity::named("no-such-user-of-lychgate").unwrap(), None);
        assert!(!matches!(Identity::named("root\0x"), Ok(Some(_))));
    }
}
