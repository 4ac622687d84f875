//! Requests that are not answered: their frames, back to back in one buffer, from the oldest that a server may still
//! answer to the newest that waits to be sent.
//!
//! A frame is written once, when the call is made, and stays until its reply: what must be sent again after a broken
//! link is still there, in order, and nothing is encoded, copied or allocated for a call beside its bytes. Invariant:
//! `head <= sent <= bytes.len()`, and the lengths of the entries add up to `bytes.len() - head`.

use super::calls::{CallId, WatchId};
use std::collections::VecDeque;

/// The most calls that may wait for an answer.
pub(super) const CALLS_MAX: usize = 100_000;
/// The most bytes that may wait to be sent.
pub(super) const UNSENT_BYTES_MAX: usize = 64 << 20;
/// The most bytes of requests that are sent but not answered, and those that wait.
pub(super) const BYTES_MAX: usize = 2 * UNSENT_BYTES_MAX;
/// Answered bytes in front are kept until they are so many.
const ANSWERED_BYTES_KEPT: usize = 64 << 10;

/// What a broken link means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Is sent again.
    Read,
    /// Is sent again; reads behind it are worth nothing without it.
    Sync,
    /// Its outcome is unknown.
    Write,
    /// Of the session itself: no call waits for it. An `add_auth` is sent again by the handshake.
    Ping,
    Auth,
    RemoveWatches,
    Close,
    /// An `Auth` whose reply has overtaken others.
    Done,
}

impl Kind {
    pub(super) fn is_call(self) -> bool {
        matches!(self, Kind::Read | Kind::Sync | Kind::Write)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub call: CallId,
    /// When it fails if there is still no connection; only looked at while there is none.
    pub deadline_ms: u64,
    pub watch: Option<WatchId>,
    pub xid: i32,
    pub op: i32,
    /// Bytes of the frame, with its length.
    pub length: u32,
    pub kind: Kind,
    /// It was sent on some link.
    pub was_sent: bool,
    /// Its limit of waiting has begun anew.
    pub is_again: bool,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    bytes: Vec<u8>,
    /// Where the first entry's frame begins.
    head: usize,
    /// What is before it has been handed to the link that is open.
    sent: usize,
    entries: VecDeque<Entry>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all frames.
    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len() - self.head
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= CALLS_MAX
            || self.bytes.len() - self.sent > UNSENT_BYTES_MAX
            || self.bytes.len() - self.head > BYTES_MAX
    }

    /// Adds a request; `write` appends its frame, or fails and appends nothing.
    pub(super) fn push<E>(
        &mut self,
        mut entry: Entry,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        write(&mut self.bytes)?;
        entry.length = (self.bytes.len() - start) as u32;
        self.entries.push_back(entry);
        Ok(())
    }

    /// What the link has not been given yet.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn on_sent(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.sent, "more is sent than there was");
        self.sent += count;
    }

    /// The oldest request, if the link has been given all of it.
    pub(super) fn first_sent(&mut self) -> Option<Entry> {
        while self.entries.front().is_some_and(|entry| entry.kind == Kind::Done) {
            self.pop();
        }
        self.entries.front().filter(|entry| self.head + entry.length as usize <= self.sent).copied()
    }

    /// The frame of the oldest request.
    pub(super) fn first_frame(&self) -> &[u8] {
        let length = self.entries.front().map_or(0, |entry| entry.length as usize);
        &self.bytes[self.head..self.head + length]
    }

    /// The oldest request is done.
    pub(super) fn pop(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.head += entry.length as usize;
        if self.entries.is_empty() {
            (self.head, self.sent) = (0, 0);
            self.bytes.clear();
            if self.bytes.capacity() > 16 * ANSWERED_BYTES_KEPT {
                self.bytes.shrink_to(ANSWERED_BYTES_KEPT);
            }
        } else if self.head >= ANSWERED_BYTES_KEPT && self.head >= self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.sent -= self.head;
            self.head = 0;
        }
    }

    /// The oldest `Auth` that is sent has its reply, whatever is before it. `false` if there is none.
    pub(super) fn auth_is_done(&mut self) -> bool {
        let mut end = self.head;
        for entry in &mut self.entries {
            end += entry.length as usize;
            if end > self.sent {
                return false;
            }
            if entry.kind == Kind::Auth {
                entry.kind = Kind::Done;
                return true;
            }
        }
        false
    }

    /// The entries with their frames, from the oldest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        let mut from = self.head;
        self.entries.iter().map(move |entry| {
            let start = from;
            from += entry.length as usize;
            (entry, &self.bytes[start..from])
        })
    }

    /// The call will not need its watch.
    pub(super) fn forget_watch(&mut self, id: WatchId) {
        for entry in &mut self.entries {
            if entry.watch == Some(id) {
                entry.watch = None;
            }
        }
    }

    /// Drops what `keep` is false for. It is told whether the link had been given all of the frame. What is kept is
    /// unsent afterwards: the link is gone.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Entry, bool) -> bool) {
        let (mut from, mut to) = (self.head, 0);
        let (bytes, sent) = (&mut self.bytes, self.sent);
        self.entries.retain_mut(|entry| {
            let frame = from..from + entry.length as usize;
            from = frame.end;
            let is_kept = keep(entry, frame.end <= sent);
            if is_kept {
                to += frame.len();
                bytes.copy_within(frame.clone(), to - frame.len());
            }
            is_kept
        });
        self.bytes.truncate(to);
        (self.head, self.sent) = (0, 0);
    }
}
