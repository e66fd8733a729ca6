//! What host and worker say to each other, besides units and [answers](crate::answer): frames of a length, a message, a
//! length, and some bytes.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::denial::Denial;
use crate::terms::{Limits, Spec};
use crate::walls::Wall;

/// What a worker is told to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Task {
    /// Compile the component that follows.
    Compile(Limits),
    /// Load the compiled component that follows.
    Load(Spec),
    /// Ask about so many units, which lie in so many bytes of shared memory. As many answers follow, or fewer of which the
    /// last is why.
    Ask { units: u32, bytes: u64 },
}

/// What it answers.
#[derive(Serialize, Deserialize)]
pub(crate) enum Reply {
    /// These walls stand; said once, unasked.
    Standing(Vec<Wall>),
    /// What was compiled follows.
    Compiled(Result<(), Denial>),
    Loaded(Result<(), Denial>),
}

/// The longest message and the most bytes that one side takes from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    pub(crate) message: u64,
    pub(crate) bytes: u64,
}

/// Writes a message, and the bytes that belong to it.
pub(crate) fn send<T: Serialize>(to: &mut impl Write, message: &T, bytes: &[u8]) -> io::Result<()> {
    let message = postcard::to_stdvec(message).map_err(io::Error::other)?;
    to.write_all(&(message.len() as u64).to_le_bytes())?;
    to.write_all(&message)?;
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(bytes)
}

/// Reads a message and its bytes.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read, most: Most) -> io::Result<(T, Vec<u8>)> {
    let message = part(from, most.message)?;
    let message = postcard::from_bytes(&message).map_err(io::Error::other)?;
    Ok((message, part(from, most.bytes)?))
}

/// The other side may be under a guest's control: memory is taken as bytes come, not as they are announced.
fn part(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > most {
        return Err(io::Error::other("a message is too long"));
    }
    let mut bytes = Vec::new();
    let read = from.take(length).read_to_end(&mut bytes)? as u64;
    if read == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { message: 20, bytes: 100 };

    #[test]
    fn messages_are_received_as_they_were_sent() {
        let mut pipe = Vec::new();
        send(&mut pipe, &Task::Ask { units: 7, bytes: 1 << 40 }, b"").unwrap();
        send(&mut pipe, &Reply::Standing(vec![Wall::Seccomp]), b"bytes").unwrap();
        let mut from = pipe.as_slice();
        let (task, _): (Task, _) = receive(&mut from, MOST).unwrap();
        assert!(matches!(task, Task::Ask { units: 7, bytes } if bytes == 1 << 40));
        let (reply, bytes): (Reply, _) = receive(&mut from, MOST).unwrap();
        assert!(matches!(reply, Reply::Standing(walls) if walls == [Wall::Seccomp]) && bytes == b"bytes");
    }

    #[test]
    fn what_is_too_long_or_cut_off_is_refused() {
        let mut pipe = Vec::new();
        send(&mut pipe, &Reply::Standing(vec![Wall::Seccomp; 18]), &[0; 100]).unwrap();
        assert!(receive::<Reply>(&mut pipe.as_slice(), MOST).is_ok());
        assert!(receive::<Reply>(&mut pipe.as_slice(), Most { bytes: 99, ..MOST }).is_err());
        assert!(receive::<Reply>(&mut pipe.as_slice(), Most { message: 19, ..MOST }).is_err());
        assert!(receive::<Reply>(&mut &pipe[..pipe.len() - 1], MOST).is_err());
        assert!(receive::<Reply>(&mut [u8::MAX; 64].as_slice(), MOST).is_err());
    }
}
