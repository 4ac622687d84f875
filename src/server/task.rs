//! Tasks whose panic ends their server, and no other: tokio alone would swallow it and leave half a server behind.

use super::disk::panic_text;
use super::shared::Event;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Starts `future` on the current runtime; a panic in it becomes [`Event::Fail`].
pub fn spawn(
    what: &'static str,
    events: &mpsc::UnboundedSender<Event>,
    future: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    tokio::spawn(Guarded { what, events: events.clone(), future: Box::pin(future) }).abort_handle()
}

struct Guarded {
    what: &'static str,
    events: mpsc::UnboundedSender<Event>,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Guarded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(panic) => {
                let reason = format!("{} has panicked: {}", self.what, panic_text(&*panic));
                let _ = self.events.send(Event::Fail { code: 1, reason });
                Poll::Ready(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_its_text() {
        let (events, mut told) = mpsc::unbounded_channel();
        spawn("a test", &events, async { panic!("on purpose {}", 7) });
        let Some(Event::Fail { code, reason }) = told.recv().await else { panic!("something else was told") };
        assert_eq!((code, reason.as_str()), (1, "a test has panicked: on purpose 7"));
    }
}
