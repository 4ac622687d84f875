//! For loops without `add_reader` (Windows' proactor): the same session behind an asyncio `Protocol`.
//!
//! `zabkit._transport.Link` is the protocol; it hands over what arrives and takes what shall leave. Each link has a
//! number, since what an older one still tells must not count for the next.

use std::net::SocketAddr;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::client::{ClientCore, Inner};
use super::client_host::Watch;
use super::client_link::Link;

impl ClientCore {
    /// Has the loop connect a transport.
    pub(super) fn open_transport(&self, slf: &Bound<'_, Self>, addr: SocketAddr) {
        let py = slf.py();
        let number = {
            let mut inner = self.lock();
            inner.transports += 1;
            inner.transports
        };
        let link = py.import("zabkit._transport").and_then(|module| {
            let event_loop = self.event_loop.bind(py);
            module.call_method1("open_link", (event_loop, slf, number, addr.ip().to_string(), addr.port()))
        });
        match link {
            Ok(link) => {
                let link = Link::Transport { number, link: link.unbind(), is_up: false, is_full: false };
                let older = std::mem::replace(&mut self.lock().link, link);
                drop(older);
            }
            Err(error) => self.lock().session.link_down(self.now(), &error.to_string()),
        }
    }

    pub(super) fn transport_up(slf: &Bound<'_, Self>, number: u64) -> PyResult<()> {
        slf.get().drive_transport(slf, number, |inner, now_ms| {
            if let Link::Transport { is_up, .. } = &mut inner.link {
                *is_up = true;
            }
            inner.session.link_up(now_ms);
            Watch::Same
        })
    }

    pub(super) fn transport_down(slf: &Bound<'_, Self>, number: u64, why: &str) -> PyResult<()> {
        slf.get().drive_transport(slf, number, |inner, now_ms| {
            inner.lost(now_ms, why);
            Watch::Lost
        })
    }

    /// The transport's buffer is full, or is not any more.
    pub(super) fn transport_full(slf: &Bound<'_, Self>, number: u64, full: bool) -> PyResult<()> {
        slf.get().drive_transport(slf, number, |inner, _| {
            if let Link::Transport { is_full, .. } = &mut inner.link {
                *is_full = full;
            }
            Watch::Same
        })
    }

    pub(super) fn transport_received(slf: &Bound<'_, Self>, number: u64, data: &[u8]) -> PyResult<()> {
        slf.get().drive_transport(slf, number, |inner, now_ms| {
            inner.session.receive(now_ms, data);
            Watch::Same
        })
    }

    /// As `drive`, if the link is still the one that speaks.
    fn drive_transport(
        &self,
        slf: &Bound<'_, Self>,
        spoken: u64,
        act: impl FnOnce(&mut Inner, u64) -> Watch,
    ) -> PyResult<()> {
        let is_current = matches!(&self.lock().link, Link::Transport { number, .. } if *number == spoken);
        if self.is_forked() || !is_current { Ok(()) } else { self.drive(slf, act) }
    }

    /// Gives the transport what the session has. What it has taken counts as sent: the loop does the rest.
    pub(super) fn write_transport(&self, py: Python<'_>) {
        loop {
            let (link, bytes) = {
                let inner = &mut *self.lock();
                let Link::Transport { link, is_up: true, is_full: false, .. } = &inner.link else {
                    return;
                };
                let bytes = inner.session.output().to_vec();
                if bytes.is_empty() {
                    return;
                }
                inner.session.sent(bytes.len());
                (link.clone_ref(py), bytes)
            };
            if let Err(error) = link.call_method1(py, pyo3::intern!(py, "write"), (PyBytes::new(py, &bytes),)) {
                return self.lock().lost(self.now(), &error.to_string());
            }
        }
    }
}
