//! Where a process and its family really listen: the sockets that they hold, found in the kernel's
//! tables of listening sockets (proc(5), /proc/PID/net).

use super::family;
use crate::base::address::Address;
use std::fs;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Looked at of one process; more are not.
const DESCRIPTORS_MAX: usize = 65_536;

/// Who listens at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Family,
    Stranger,
    Nobody,
    /// None of the family that we may look into; some we may not (ptrace(2)).
    Hidden,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ear {
    inode: u64,
    address: Address,
}

/// Where `leader`, its process group and their descendants listen; without duplicates.
pub fn of(leader: i32) -> Vec<Address> {
    let Held { inodes, .. } = held(leader);
    let ears = table(leader).into_iter().filter(|ear| inodes.binary_search(&ear.inode).is_ok());
    let mut addresses: Vec<Address> = ears.map(|ear| ear.address).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Whether it is the family of `leader` that takes connections to `address`.
pub fn whose(address: &Address, leader: i32) -> Whose {
    let ears: Vec<Ear> =
        table(leader).into_iter().filter(|ear| is_reached(&ear.address, address)).collect();
    if ears.is_empty() {
        return Whose::Nobody;
    }
    held(leader).judge(&ears)
}

/// Whether a connection to `target` comes to a socket that listens at `ear`.
fn is_reached(ear: &Address, target: &Address) -> bool {
    match (ear, target) {
        (Address::Tcp(ear), Address::Tcp(target)) => {
            let is_wild = ear.ip().is_unspecified() && (ear.is_ipv6() || target.is_ipv4());
            ear.port() == target.port() && (is_wild || plain(ear.ip()) == plain(target.ip()))
        }
        (Address::Unix(ear), Address::Unix(target)) if ear.starts_with('/') => ear == target,
        // Bound by a path from its working directory.
        (Address::Unix(ear), Address::Unix(target)) => {
            target.rsplit('/').next() == ear.rsplit('/').next()
        }
        _ => false,
    }
}

/// An IPv4 address that an IPv6 socket shows in its own form.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The sockets that a family holds.
#[derive(Debug)]
struct Held {
    /// Sorted.
    inodes: Vec<u64>,
    /// There may be more: root without `CAP_SYS_PTRACE` may not look into processes of other users.
    is_part: bool,
}

impl Held {
    fn judge(&self, ears: &[Ear]) -> Whose {
        let is_held = |ear: &Ear| self.inodes.binary_search(&ear.inode).is_ok();
        match ears.iter().any(is_held) {
            true => Whose::Family,
            false if self.is_part => Whose::Hidden,
            false => Whose::Stranger,
        }
    }
}

fn held(leader: i32) -> Held {
    let mut inodes = Vec::new();
    let mut is_part = false;
    for pid in family::members(leader) {
        // What fails otherwise is gone meanwhile.
        let mut note = |error: &Error| is_part |= error.kind() == ErrorKind::PermissionDenied;
        let listed = fs::read_dir(format!("/proc/{pid}/fd")).inspect_err(&mut note);
        let Ok(entries) = listed else { continue };
        let links = entries.flatten().take(DESCRIPTORS_MAX);
        inodes.extend(links.filter_map(|entry| {
            // Root may list what it may not look at.
            let target = fs::read_link(entry.path()).inspect_err(&mut note).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        }));
    }
    inodes.sort_unstable();
    Held { inodes, is_part }
}

/// All listening sockets of the leader's network namespace.
fn table(leader: i32) -> Vec<Ear> {
    let read = |name| fs::read(format!("/proc/{leader}/net/{name}")).unwrap_or_default();
    let mut ears = Vec::new();
    for name in ["tcp", "tcp6"] {
        ears.extend(lines(&read(name)).filter_map(parse_tcp));
    }
    ears.extend(lines(&read("unix")).filter_map(parse_unix));
    ears
}

/// Without the headline; a path may be no text.
fn lines(table: &[u8]) -> impl Iterator<Item = &str> {
    table.split(|byte| *byte == b'\n').skip(1).filter_map(|line| std::str::from_utf8(line).ok())
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`
fn parse_tcp(line: &str) -> Option<Ear> {
    const LISTENING: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, _, state, _, _, _, _, _, inode] = fields[..] else { return None };
    if state != LISTENING {
        return None;
    }
    let (host, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = SocketAddr::new(parse_host(host)?, port);
    Some(Ear { inode: inode.parse().ok()?, address: Address::Tcp(address) })
}

/// Words of 32 bits as the machine keeps them, in hexadecimal.
fn parse_host(host: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = host.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match host.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// `Num RefCount Protocol Flags Type St Inode Path`
fn parse_unix(line: &str) -> Option<Ear> {
    /// __SO_ACCEPTCON
    const LISTENING: u32 = 0x1_0000;
    let mut rest = line;
    let mut fields = [""; 7];
    for field in &mut fields {
        rest = rest.trim_start_matches(' ');
        (*field, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    }
    let [_, _, _, flags, _, _, inode] = fields;
    if u32::from_str_radix(flags, 16).ok()? & LISTENING == 0 || rest.is_empty() {
        return None;
    }
    Some(Ear { inode: inode.parse().ok()?, address: Address::Unix(rest.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().unwrap())
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let host = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        let four = "   0: HOST:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  \
                    0 12345 1 0000000000000000 100 0 0 10 0"
            .replace("HOST", &host);
        let ear = |inode, address| Some(Ear { inode, address });
        assert_eq!(parse_tcp(&four), ear(12345, tcp("127.0.0.1:8080")));
        let six =
            four.replace(&host, &format!("{:024}{:08X}", 0, u32::from_ne_bytes([0, 0, 0, 1])));
        assert_eq!(parse_tcp(&six), ear(12345, tcp("[::1]:8080")));
        assert_eq!(parse_tcp(&four.replace(" 0A ", " 01 ")), None);
        for broken in ["", "0: x", &four.replace("1F90", "1F90F"), &four.replace(&host, "é000")] {
            assert_eq!(parse_tcp(broken), None, "{broken}");
        }
        let unix = "0000000000000000: 00000002 00000000 00010000 0001 01 54321 /run/a b.sock";
        assert_eq!(parse_unix(unix), ear(54321, Address::Unix("/run/a b.sock".into())));
        assert_eq!(parse_unix(&unix.replace("00010000", "00000000")), None);
        assert_eq!(parse_unix("0000000000000000: 00000002 00000000 00010000 0001 01 54321"), None);
        assert_eq!(parse_unix(""), None);
    }

    #[test]
    fn a_wild_address_is_reached_by_any_and_a_relative_path_by_its_name() {
        for (ear, target, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.2:80", "127.0.0.1:80", false),
        ] {
            assert_eq!(is_reached(&tcp(ear), &tcp(target)), expected, "{ear} {target}");
        }
        let unix = |path: &str| Address::Unix(path.to_owned());
        assert!(is_reached(&unix("a.sock"), &unix("/run/a.sock")));
        assert!(is_reached(&unix("/run/a.sock"), &unix("/run/a.sock")));
        assert!(!is_reached(&unix("/tmp/a.sock"), &unix("/run/a.sock")));
        assert!(!is_reached(&unix("a.sock"), &tcp("127.0.0.1:80")));
    }

    #[test]
    fn what_may_not_be_looked_into_is_no_stranger() {
        let ears = [Ear { inode: 5, address: tcp("127.0.0.1:80") }];
        let judge =
            |inodes: &[u64], is_part| Held { inodes: inodes.to_vec(), is_part }.judge(&ears);
        assert_eq!(judge(&[3, 5], true), Whose::Family);
        assert_eq!(judge(&[3], true), Whose::Hidden);
        assert_eq!(judge(&[3], false), Whose::Stranger);
    }

    #[test]
    fn our_own_sockets_are_ours_and_others_are_not() {
        let ourselves = std::process::id().cast_signed();
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(four.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let unix_address = Address::Unix(path.to_str().unwrap().to_owned());
        let all = of(ourselves);
        assert!(all.contains(&address) && all.contains(&unix_address), "{all:?}");
        assert_eq!(whose(&address, ourselves), Whose::Family);
        assert_eq!(whose(&unix_address, ourselves), Whose::Family);
        let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = other.id().cast_signed();
        let (others, stranger) = (of(pid), whose(&address, pid));
        other.kill().unwrap();
        other.wait().unwrap();
        drop((four, unix));
        // Another test's child may hold copies until it executes its program.
        let end = crate::sys::clock::now() + std::time::Duration::from_secs(20);
        while of(ourselves).iter().any(|ear| *ear == address || *ear == unix_address) {
            assert!(crate::sys::clock::now() < end, "a closed socket still listens");
            std::thread::yield_now();
        }
        assert_eq!(whose(&address, ourselves), Whose::Nobody);
        assert!(!others.contains(&address));
        assert_eq!(stranger, Whose::Stranger);
    }
}
