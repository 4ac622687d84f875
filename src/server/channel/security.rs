//! What two servers agree on before they talk: TLS or not, and a login.

use super::Channel;
use std::io;

/// What this server asks of the others, and shows them.
#[derive(Default)]
pub struct Security {}

impl Security {
    /// Whether a connection can be used as it comes.
    pub fn is_plain(&self) -> bool {
        true
    }

    /// The accepting side, before anything is read.
    pub async fn accept(&self, channel: Channel) -> io::Result<Channel> {
        Ok(channel)
    }

    /// The dialing side, before anything is said; `host` is what was dialed.
    pub async fn dial(&self, channel: Channel, _host: &str) -> io::Result<Channel> {
        Ok(channel)
    }

    /// Proves who we are to the server that was dialed, if we have to.
    pub async fn log_in(&self, _channel: &mut Channel) -> io::Result<()> {
        Ok(())
    }

    /// Lets the other side prove who it is, if it wants to or has to.
    pub async fn authenticate(&self, _channel: &mut Channel) -> io::Result<()> {
        Ok(())
    }

    /// Says in the log why a connection was not made, if that is for those who configure it.
    pub fn tell(&self, _error: &io::Error) {}
}
