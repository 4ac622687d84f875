//! Accepts clients, and deals their connections out to the threads that serve them.
//!
//! With `workers=0` a connection lives on the core's thread: a write then passes no other thread but the disk's. More
//! workers let one server read on several CPUs; each is a thread with a runtime of its own.

use super::connection::{self, Omitted};
use super::limits::give_back;
use super::secure::Speaks;
use super::shared::Shared;
use super::task;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How often connections that say or hear nothing are looked for.
const IDLE_SWEEP: Duration = Duration::from_secs(1);

/// What a worker is told.
enum Accepted {
    Connection(std::net::TcpStream, SocketAddr, Speaks),
    /// There is nothing to serve; a pause is asked for.
    Wake,
    End,
}

/// The listeners' tasks and the workers.
#[derive(Default)]
pub struct Acceptor {
    /// The client port, and the secure one: by whether it is for TLS alone.
    accepting: Vec<(Speaks, AbortHandle)>,
    /// Ends them when dropped.
    workers: Workers,
}

/// The threads that serve connections besides the core's; they end when this is dropped, and can be joined.
#[derive(Default)]
struct Workers {
    queues: Vec<mpsc::UnboundedSender<Accepted>>,
    threads: Vec<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts accepting on the current runtime.
    pub fn start(shared: &Arc<Shared>, listeners: Vec<(std::net::TcpListener, Speaks)>) -> io::Result<Acceptor> {
        let mut acceptor = Acceptor { accepting: Vec::new(), workers: Workers::start(shared)? };
        for (listener, speaks) in listeners {
            acceptor.accept(shared, listener, speaks)?;
        }
        let sweeping = shared.clone();
        task::spawn("the sweeper", &shared.events, async move {
            loop {
                tokio::time::sleep(IDLE_SWEEP).await;
                sweeping.connections.sweep(&sweeping);
                if sweeping.limits.gives_back(sweeping.clock.micros() / 1000) {
                    // Aside: it may take as long as a heartbeat waits.
                    let aside = std::thread::Builder::new().name("Trim".to_owned());
                    let _ = aside.spawn(give_back);
                }
            }
        });
        Ok(acceptor)
    }

    fn accept(&mut self, shared: &Arc<Shared>, listener: std::net::TcpListener, speaks: Speaks) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let accept = accept(shared.clone(), listener, speaks.clone(), self.workers.queues.clone());
        self.accepting.push((speaks, task::spawn("the acceptor", &shared.events, accept)));
        Ok(())
    }

    /// The client port is another one from now on; the connections of the old one stay.
    pub fn rebind(&mut self, shared: &Arc<Shared>, listener: std::net::TcpListener) -> io::Result<()> {
        let old = self.accepting.iter().position(|(speaks, _)| !matches!(speaks, Speaks::Tls(_)));
        let speaks = old.map_or(Speaks::Plain, |old| {
            let (speaks, task) = self.accepting.remove(old);
            task.abort();
            speaks
        });
        self.accept(shared, listener, speaks)
    }

    /// Wakes the workers, so that they see that a pause is asked for.
    pub fn wake_workers(&self) {
        for queue in &self.workers.queues {
            let _ = queue.send(Accepted::Wake);
        }
    }

    /// No client is accepted any more.
    pub fn stop(&mut self) {
        for (_, task) in self.accepting.drain(..) {
            task.abort();
        }
    }
}

impl Workers {
    fn start(shared: &Arc<Shared>) -> io::Result<Workers> {
        let mut workers = Workers::default();
        for n in 0..shared.config.workers {
            let (queue, accepted) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("NIOWorkerThread-{n}"));
            workers.threads.push(thread.spawn(move || {
                let _entered = shared.enter();
                runtime.block_on(work(&shared, accepted));
            })?);
            workers.queues.push(queue);
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for queue in self.queues.drain(..) {
            let _ = queue.send(Accepted::End);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    speaks: Speaks,
    queues: Vec<mpsc::UnboundedSender<Accepted>>,
) {
    let mut turn = 0;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of file descriptors, or the other side has gone: the next one may do better.
            Err(error) => {
                if let Some(left_out) = shared.limits.repetition("accept", shared.clock.micros() / 1000) {
                    tracing::warn!("Error accepting new connection: {error}{}", Omitted(left_out));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        if queues.is_empty() {
            connection::serve(&shared, stream, peer, speaks.clone());
        } else if let Ok(stream) = stream.into_std() {
            turn = (turn + 1) % queues.len();
            let _ = queues[turn].send(Accepted::Connection(stream, peer, speaks.clone()));
        }
    }
}

/// A worker's main task; with it end its runtime and all its connections.
async fn work(shared: &Arc<Shared>, mut accepted: mpsc::UnboundedReceiver<Accepted>) {
    while let Some(accepted) = accepted.recv().await {
        match accepted {
            Accepted::Connection(stream, peer, speaks) => {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    connection::serve(shared, stream, peer, speaks);
                }
            }
            Accepted::Wake => shared.pause.point(),
            Accepted::End => return,
        }
    }
}
