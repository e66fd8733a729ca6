//! Keys that stay in an ssh-agent: whoever approves needs no key file, and this program never sees the private key.
//!
//! Speaks to the agent's Unix socket; what is said is in `glovebox_trust::ssh::agent`.

use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use glovebox_trust::keys::{PublicKey, SignError, Signer};
use glovebox_trust::ssh::agent::{self, Identity};

/// An agent lists its keys at once.
const LIST_TIME: Duration = Duration::from_secs(10);
/// Before it signs, it may ask a person.
const SIGN_TIME: Duration = Duration::from_secs(120);

/// The Ed25519 keys of the agent at this socket, the value of `SSH_AUTH_SOCK`.
pub fn identities(socket: &Path) -> Result<Vec<Identity>, SignError> {
    agent::read_identities(&ask(socket, &agent::request_identities(), LIST_TIME)?)
}

/// Signs with a key in an agent. Each signature is a connection of its own.
#[derive(Clone, Debug)]
pub struct AgentKey {
    socket: PathBuf,
    public: PublicKey,
}

impl AgentKey {
    /// The agent must hold the key.
    pub fn new(socket: &Path, public: PublicKey) -> Result<Self, SignError> {
        if !identities(socket)?.iter().any(|identity| identity.key == public) {
            return Err(format!("the ssh-agent does not hold the key {}", public.to_openssh("").trim_end()));
        }
        Ok(Self { socket: socket.to_owned(), public })
    }
}

impl Signer for AgentKey {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let answer = ask(&self.socket, &agent::request_signature(&self.public, message)?, SIGN_TIME)?;
        let signature = agent::read_signature(&answer)?;
        // What an agent gives is someone else's word: it is found out here, and not by whoever gets the file.
        if !self.public.verify(message, &signature) {
            return Err("the ssh-agent's signature does not verify".into());
        }
        Ok(signature)
    }
}

fn ask(socket: &Path, request: &[u8], time: Duration) -> Result<Vec<u8>, SignError> {
    exchange(socket, request, time).map_err(|error| match error.kind() {
        // What Linux and other systems call a socket that has timed out.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("the ssh-agent at {} does not answer within {} s", socket.display(), time.as_secs())
        }
        _ => format!("cannot use the ssh-agent at {}: {error}", socket.display()),
    })
}

fn exchange(socket: &Path, request: &[u8], time: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    stream.write_all(request)?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let length = agent::answer_length(prefix).map_err(Error::other)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
