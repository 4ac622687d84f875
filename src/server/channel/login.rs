//! A login by SASL at the beginning of a connection between servers: on the election port behind INITIAL, on the quorum
//! port before the first packet.
//!
//! The side that dials begins. A server that does not require it takes also those who do not begin, which it knows by
//! their first bytes, and those who fail: so an ensemble can be brought to logins server by server.
//!
//! ZooKeeper: `SaslQuorumAuthServer`, `SaslQuorumAuthLearner`.

use super::{Channel, SetupError};
use crate::jute::{Reader, Record};
use crate::peer::SaslUsers;
use crate::peer::sasl::{Answer, Exchange, Login, SERVERS};
use crate::records::{QUORUM_AUTH_MAGIC, QuorumAuthPacket, QuorumAuthStatus};
use crate::server::connection::random;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// How long the dialing side may be silent before it is taken for one that does not log in, where it need not: a login
/// begins at once.
const SILENCE: Duration = Duration::from_millis(500);

/// The accepting side.
pub struct Judge {
    pub users: SaslUsers,
    /// `quorum.auth.serverRequireSasl`.
    pub is_required: bool,
}

/// The dialing side.
pub struct Supplicant {
    pub user: String,
    pub password: String,
}

impl Judge {
    /// Lets the other side log in. An error: it must, and has not.
    pub async fn authenticate(&self, channel: &mut Channel) -> io::Result<()> {
        let begins = if self.is_required {
            begins_login(channel).await?
        } else {
            // Who knows nothing of logins may wait for our word.
            timeout(SILENCE, begins_login(channel)).await.unwrap_or(Ok(false))?
        };
        if !begins {
            if self.is_required {
                let reason = "it does not log in, and quorum.auth.serverRequireSasl=true: set \
                              quorum.auth.learnerRequireSasl=true there";
                return Err(SetupError::of(channel, reason.to_owned()));
            }
            return Ok(());
        }
        match self.judge(channel).await {
            Ok(user) => {
                tracing::debug!("a server has logged in as {user:?}");
                Ok(())
            }
            Err(error) if self.is_required => Err(error),
            Err(error) => {
                tracing::warn!("{error}; the connection is kept, as quorum.auth.serverRequireSasl=false");
                Ok(())
            }
        }
    }

    async fn judge(&self, channel: &mut Channel) -> io::Result<String> {
        let nonce = random().ok_or_else(|| io::Error::other("the system gives no random bytes"))?;
        let mut exchange = Exchange::new(SERVERS, nonce);
        loop {
            let packet = receive(channel).await?;
            match exchange.step(packet.token.as_deref().unwrap_or_default(), &self.users) {
                Ok(Answer::Challenge(token)) => send(channel, QuorumAuthStatus::InProgress, token).await?,
                Ok(Answer::Done { user, token }) => {
                    send(channel, QuorumAuthStatus::Success, token).await?;
                    return Ok(user);
                }
                Err(error) => {
                    send(channel, QuorumAuthStatus::Error, Vec::new()).await?;
                    let reason = format!("its login has failed: {error}: compare the sections of the login files");
                    return Err(SetupError::of(channel, reason));
                }
            }
        }
    }
}

impl Supplicant {
    /// Logs in at the other side.
    pub async fn log_in(&self, channel: &mut Channel) -> io::Result<()> {
        let nonce = random().ok_or_else(|| io::Error::other("the system gives no random bytes"))?;
        let mut login = Login::new(SERVERS, &self.user, &self.password, nonce);
        send(channel, QuorumAuthStatus::InProgress, Vec::new()).await?;
        loop {
            let QuorumAuthPacket { status, token } = receive(channel).await?;
            if status == QuorumAuthStatus::Error {
                let reason = format!("it does not let {:?} log in: compare the sections of the login files", self.user);
                return Err(SetupError::of(channel, reason));
            }
            let step = login.step(token.as_deref().unwrap_or_default());
            let step = step.map_err(|error| SetupError::of(channel, format!("the login there has failed: {error}")))?;
            match (step, status) {
                (None, QuorumAuthStatus::Success) => return Ok(()),
                (Some(answer), QuorumAuthStatus::InProgress) => {
                    send(channel, QuorumAuthStatus::InProgress, answer).await?;
                }
                _ => return Err(SetupError::of(channel, "the login there has ended out of turn".to_owned())),
            }
        }
    }
}

/// Whether the other side begins a login; as many bytes are waited for as tell. The end of the connection tells too.
async fn begins_login(channel: &mut Channel) -> io::Result<bool> {
    let magic = QUORUM_AUTH_MAGIC.to_be_bytes();
    loop {
        let known = channel.read.len().min(magic.len());
        if channel.read[..known] != magic[..known] {
            return Ok(false);
        }
        if known == magic.len() {
            return Ok(true);
        }
        if channel.read_more().await? == 0 {
            return Ok(false);
        }
    }
}

async fn receive(channel: &mut Channel) -> io::Result<QuorumAuthPacket> {
    loop {
        let mut from = Reader::new(&channel.read);
        let taken = QuorumAuthPacket::take(&mut from);
        let taken = taken.map_err(|error| SetupError::of(channel, format!("it says no word of a login: {error}")))?;
        if let Some(packet) = taken {
            let length = channel.read.len() - from.remaining();
            channel.consume(length);
            return Ok(packet);
        }
        if channel.read_more().await? == 0 {
            let reason = "it has closed the connection during the login; it may know nothing of logins";
            return Err(SetupError::of(channel, reason.to_owned()));
        }
    }
}

async fn send(channel: &mut Channel, status: QuorumAuthStatus, token: Vec<u8>) -> io::Result<()> {
    let mut bytes = Vec::new();
    QuorumAuthPacket { status, token: Some(token) }.write(&mut bytes);
    channel.write(&bytes).await
}
