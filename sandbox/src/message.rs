//! What host and worker say to each other: frames of a length, a message and a length, some bytes.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::denial::Denial;
use crate::engine::Asked;
use crate::terms::{Limits, Spec};
use crate::walls::Wall;

/// What a worker is told to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Task {
    /// Compile the component that follows.
    Compile(Limits),
    /// Load the compiled component that follows.
    Load(Spec),
    /// Ask about so many units, which lie in so many bytes of shared memory.
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
    Asked(Result<Vec<Asked>, Denial>),
}

/// Sends a message, and the bytes that belong to it.
pub(crate) fn send<T: Serialize>(to: &mut impl Write, message: &T, bytes: &[u8]) -> io::Result<()> {
    let message = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(message.len() + 16);
    head.extend_from_slice(&(message.len() as u64).to_le_bytes());
    head.extend_from_slice(&message);
    head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    to.write_all(&head)?;
    to.write_all(bytes)?;
    to.flush()
}

/// Receives a message and its bytes, neither of which may be longer than `most`.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read, most: u64) -> io::Result<(T, Vec<u8>)> {
    let message = part(from, most)?;
    let message = postcard::from_bytes(&message).map_err(io::Error::other)?;
    Ok((message, part(from, most)?))
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

    #[test]
    fn messages_are_received_as_they_were_sent() {
        let mut pipe = Vec::new();
        send(&mut pipe, &Task::Ask { units: 7, bytes: 1 << 40 }, b"").unwrap();
        send(&mut pipe, &Reply::Standing(vec![Wall::Seccomp]), b"bytes").unwrap();
        let mut from = pipe.as_slice();
        let (task, _): (Task, _) = receive(&mut from, 100).unwrap();
        assert!(matches!(task, Task::Ask { units: 7, bytes } if bytes == 1 << 40));
        let (reply, bytes): (Reply, _) = receive(&mut from, 100).unwrap();
        assert!(matches!(reply, Reply::Standing(walls) if walls == [Wall::Seccomp]) && bytes == b"bytes");
    }

    #[test]
    fn what_is_too_long_or_cut_off_is_refused() {
        let mut pipe = Vec::new();
        send(&mut pipe, &Reply::Loaded(Ok(())), &[0; 100]).unwrap();
        assert!(receive::<Reply>(&mut pipe.as_slice(), 99).is_err());
        assert!(receive::<Reply>(&mut &pipe[..pipe.len() - 1], 100).is_err());
        assert!(receive::<Reply>(&mut [u8::MAX; 64].as_slice(), 100).is_err());
    }
}
