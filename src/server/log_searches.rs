//! The thread that looks for learners in the log: one for all of them, begun with the first, since each search may read
//! the whole log.
//!
//! Not more than [`WAITING_MAX`] wait for it, so that whoever connects again and again costs no memory and nobody a
//! place in the queue for long; of more the log is no help, and they get a snapshot.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Searches that wait for the one that is under way.
const WAITING_MAX: usize = 64;

/// Looks, and tells the core.
pub type Search = Box<dyn FnOnce() + Send>;

/// Searches one after the other.
#[derive(Default)]
pub struct Searches {
    thread: Option<(SyncSender<Search>, JoinHandle<()>)>,
}

impl Searches {
    /// Puts a search behind the others; false: too many wait.
    pub fn add(&mut self, search: Search) -> io::Result<bool> {
        let (queue, _) = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(begin()?),
        };
        match queue.try_send(search) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(io::Error::other("the thread has panicked")),
        }
    }

    /// Waits for what was asked for.
    pub fn end(self) {
        if let Some((queue, thread)) = self.thread {
            drop(queue);
            let _ = thread.join();
        }
    }
}

fn begin() -> io::Result<(SyncSender<Search>, JoinHandle<()>)> {
    let (queue, searches): (_, Receiver<Search>) = sync_channel(WAITING_MAX);
    let work = move || searches.into_iter().for_each(|search| search());
    let thread = std::thread::Builder::new().name("Log Search".to_owned()).spawn(work)?;
    Ok((queue, thread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_search_is_under_way_and_so_many_wait_and_no_more() {
        let mut searches = Searches::default();
        let ((begun, has_begun), (go_on, gate), (done, all)) = (channel(), channel::<()>(), channel());
        let first = move || {
            begun.send(()).unwrap();
            gate.recv().unwrap();
        };
        assert!(searches.add(Box::new(first)).unwrap());
        has_begun.recv().unwrap();
        for n in 0..WAITING_MAX {
            let done = done.clone();
            assert!(searches.add(Box::new(move || done.send(n).unwrap())).unwrap(), "{n} wait");
        }
        assert!(!searches.add(Box::new(|| panic!("it is one too many"))).unwrap());
        go_on.send(()).unwrap();
        drop(done);
        searches.end();
        assert!(all.into_iter().eq(0..WAITING_MAX));
    }
}
