//! One connection in use: what is read from it, what is written to it, and the one message that may wait.

use super::{ElectionEvent, Events};
use crate::records::{NOTIFICATION_BYTES_MAX, Notification, ServerId};
use crate::server::channel::{Incoming, Outgoing};
use crate::server::net_faults::Pair;
use std::io;
use std::sync::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Room for a read; a notification takes some hundred bytes.
const READ_BYTES: usize = 1 << 10;

/// The newest unsent message for a server.
#[derive(Default)]
pub struct Slot {
    message: Mutex<Option<Vec<u8>>>,
    filled: Notify,
}

impl Slot {
    pub fn put(&self, message: Vec<u8>) {
        *self.message.lock().expect("no panic while it is held") = Some(message);
        self.filled.notify_one();
    }

    pub fn is_empty(&self) -> bool {
        self.message.lock().expect("no panic while it is held").is_none()
    }

    fn newest(&self) -> Option<Vec<u8>> {
        self.message.lock().expect("no panic while it is held").take()
    }

    async fn take(&self) -> Vec<u8> {
        loop {
            if let Some(message) = self.newest() {
                return message;
            }
            self.filled.notified().await;
        }
    }
}

/// A connection in use.
pub struct Link {
    pub number: u64,
    pub made: Instant,
    pub reader: AbortHandle,
    pub writer: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// Hands on what the other side says until the connection ends; `bytes` have been read already.
pub async fn receive(mut incoming: Incoming, mut bytes: Vec<u8>, from: ServerId, events: &Events) -> io::Result<()> {
    loop {
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            if length == 0 || length > NOTIFICATION_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("invalid message length {length}")));
            }
            // Room is made for what is really there, not for the length that is told.
            let Some(message) = rest.get(..length) else { break };
            match Notification::decode(message) {
                Ok(notification) => events(ElectionEvent::Message { from, notification }),
                Err(error) => {
                    tracing::warn!("skipping a notification of server {from} that is no notification: {error}");
                }
            }
            bytes.drain(..4 + length);
        }
        bytes.reserve(READ_BYTES);
        if incoming.read(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Writes the newest message, whenever there is one; ends with the error.
pub async fn transmit(mut outgoing: Outgoing, slot: &Slot, pair: &Pair) -> io::Error {
    loop {
        let mut message = slot.take().await;
        if pair.is_cut() {
            pair.open().await;
            message = slot.newest().unwrap_or(message);
        }
        if let Err(error) = outgoing.write(&message).await {
            return error;
        }
    }
}
