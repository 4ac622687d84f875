//! What clients may ask for at most: connections, bytes, requests.
//!
//! Each key is taken by the name that Apache's guide gives for the file and by that of the Java property.
//!
//! ZooKeeper: `QuorumPeerConfig`, `ServerCnxnFactory`, `RequestThrottler`, `BlueThrottle`.

use super::ConfigError;
use super::value::Value;

/// What clients may ask for at most: connections, bytes, requests.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// `maxClientCnxns`, for each client address; 0: no limit.
    pub max_client_cnxns: u32,
    /// `maxCnxns`, of one port; 0: no limit.
    pub max_cnxns: u32,
    /// `clientPortListenBacklog`; -1: the system's.
    pub client_backlog: i32,
    /// `clientTcpKeepAlive`: SO_KEEPALIVE on clients' sockets.
    pub client_keep_alive: bool,
    /// `nio.sessionlessCnxnTimeout`: a connection without a connect request is closed after it.
    pub sessionless_timeout_ms: u32,
    /// `jute.maxbuffer`: the longest frame that is taken from a client, in bytes.
    pub max_buffer: u32,
    /// `jute.maxbuffer.extrasize`: by how much what is stored may be longer than a frame; `None`: `jute.maxbuffer`.
    pub max_buffer_extra: Option<u32>,
    /// `globalOutstandingLimit`: requests of all clients without an answer, beyond which those that wait for one are
    /// not read from. Servers of an ensemble share it. `None`: 1000 of each server.
    pub global_outstanding: Option<u32>,
    /// `requestThrottleLimit`: requests without an answer, from which on nobody's are taken; 0: off.
    pub request_throttle: u32,
    /// `requestThrottleStallTime`: how often it is looked whether they can be taken.
    pub request_throttle_stall_ms: u32,
    /// `requestThrottleDropStale`: a connection whose requests have waited too long is closed.
    pub drops_stale: bool,
    /// `requestStaleLatencyCheck`: too long is longer than the session's timeout.
    pub checks_stale_latency: bool,
    /// `throttledOpWaitTime`: what has waited longer is refused; 0: off.
    pub throttled_op_wait_ms: u32,
    /// `largeRequestThreshold`: a longer frame is a large request; `None`: none is.
    pub large_request_threshold: Option<u32>,
    /// `largeRequestMaxBytes`: of all large requests without an answer.
    pub large_request_bytes_max: u64,
    pub connection_throttle: ConnectionThrottleConfig,
}

/// The token bucket that connect requests pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionThrottleConfig {
    /// `connectionMaxTokens`; 0: off.
    pub tokens: u32,
    /// `connectionTokenFillTime`
    pub fill_time_ms: u32,
    /// `connectionTokenFillCount`: tokens in each such time.
    pub fill_count: u32,
    /// `connectionFreezeTime`: how long the probability of a refusal stays as it is; `None`: none is at random.
    pub freeze_time_ms: Option<u32>,
    /// `connectionDropIncrease`: of that probability, while the bucket is empty.
    pub drop_increase: f64,
    /// `connectionDropDecrease`: while it is full enough.
    pub drop_decrease: f64,
    /// `connectionDecreaseRatio`: how much of the bucket may be missing then.
    pub decrease_ratio: f64,
    /// `connection_throttle_weight_enabled`: the three weights count; else each connection takes one token.
    pub is_weighted: bool,
    /// Tokens of a connect request for a new session.
    pub global_weight: u32,
    /// For a new local session.
    pub local_weight: u32,
    /// For a session that there is already.
    pub renew_weight: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            max_client_cnxns: 60,
            max_cnxns: 0,
            client_backlog: -1,
            client_keep_alive: false,
            sessionless_timeout_ms: 10_000,
            max_buffer: 0xf_ffff,
            max_buffer_extra: None,
            global_outstanding: None,
            request_throttle: 0,
            request_throttle_stall_ms: 100,
            drops_stale: true,
            checks_stale_latency: false,
            throttled_op_wait_ms: 0,
            large_request_threshold: None,
            large_request_bytes_max: 100 << 20,
            connection_throttle: ConnectionThrottleConfig::default(),
        }
    }
}

impl Default for ConnectionThrottleConfig {
    fn default() -> Self {
        ConnectionThrottleConfig {
            tokens: 0,
            fill_time_ms: 1,
            fill_count: 1,
            freeze_time_ms: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            is_weighted: false,
            global_weight: 3,
            local_weight: 1,
            renew_weight: 2,
        }
    }
}

impl LimitsConfig {
    /// The longest transaction, and string or buffer in one, that this server reads: a frame and what is added to it.
    pub fn txn_bytes_max(&self) -> usize {
        // Apache's minimum; a transaction is always longer than the request that it was.
        let extra = self.max_buffer_extra.unwrap_or(self.max_buffer).max(1024);
        (self.max_buffer as usize + extra as usize).min(i32::MAX as usize)
    }

    /// Takes the key if it is one of this area.
    pub(super) fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "maxClientCnxns" => self.max_client_cnxns = value.number()?,
            "maxCnxns" => self.max_cnxns = value.number()?,
            "clientPortListenBacklog" => self.client_backlog = value.signed()?.clamp(-1, 65_535) as i32,
            "clientTcpKeepAlive" => self.client_keep_alive = value.boolean()?,
            "nio.sessionlessCnxnTimeout" => self.sessionless_timeout_ms = value.number()?,
            "jute.maxbuffer" => self.max_buffer = bytes(value)?,
            "jute.maxbuffer.extrasize" => self.max_buffer_extra = Some(bytes(value)?),
            "globalOutstandingLimit" => self.global_outstanding = Some(value.number()?),
            "requestThrottleLimit" | "request_throttle_max_requests" => {
                self.request_throttle = number_or_off(value)?;
            }
            "requestThrottleStallTime" | "request_throttle_stall_time" => {
                self.request_throttle_stall_ms = value.number()?.max(1);
            }
            "requestThrottleDropStale" | "request_throttle_drop_stale" => self.drops_stale = value.boolean()?,
            "requestStaleLatencyCheck" | "request_stale_latency_check" => {
                self.checks_stale_latency = value.boolean()?;
            }
            // What waits here goes with its connection, whatever is said; and nothing waits when a server ends.
            "requestStaleConnectionCheck" | "request_stale_connection_check" => _ = value.boolean()?,
            "request_throttler.shutdownTimeout" => _ = value.number()?,
            "throttledOpWaitTime" | "throttled_op_wait_time" => self.throttled_op_wait_ms = number_or_off(value)?,
            "largeRequestThreshold" => self.large_request_threshold = value.number_or_none()?,
            "largeRequestMaxBytes" => self.large_request_bytes_max = u64::from(value.number()?),
            _ => return self.connection_throttle.take(value),
        }
        Ok(true)
    }
}

impl ConnectionThrottleConfig {
    fn take(&mut self, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.key {
            "connectionMaxTokens" | "connection_throttle_tokens" => self.tokens = number_or_off(value)?,
            "connectionTokenFillTime" | "connection_throttle_fill_time" => self.fill_time_ms = value.number()?,
            "connectionTokenFillCount" | "connection_throttle_fill_count" => self.fill_count = value.number()?,
            "connectionFreezeTime" | "connection_throttle_freeze_time" => {
                self.freeze_time_ms = value.number_or_none()?;
            }
            "connectionDropIncrease" | "connection_throttle_drop_increase" => self.drop_increase = ratio(value)?,
            "connectionDropDecrease" | "connection_throttle_drop_decrease" => self.drop_decrease = ratio(value)?,
            "connectionDecreaseRatio" | "connection_throttle_decrease_ratio" => self.decrease_ratio = ratio(value)?,
            "connection_throttle_weight_enabled" => self.is_weighted = value.boolean()?,
            "connection_throttle_global_session_weight" => self.global_weight = value.number()?,
            "connection_throttle_local_session_weight" => self.local_weight = value.number()?,
            "connection_throttle_renew_session_weight" => self.renew_weight = value.number()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// 0 and what is negative are "off".
fn number_or_off(value: &Value<'_>) -> Result<u32, ConfigError> {
    Ok(value.number_or_none()?.unwrap_or(0))
}

/// A size; as a Java property it may be hexadecimal.
fn bytes(value: &Value<'_>) -> Result<u32, ConfigError> {
    let parsed = match value.text.strip_prefix("0x").or_else(|| value.text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => value.text.parse().ok(),
    };
    let parsed = parsed.filter(|&bytes| (1..=i32::MAX as u32).contains(&bytes));
    parsed.ok_or_else(|| value.invalid("a number of bytes is needed, from 1 to 2147483647"))
}

fn ratio(value: &Value<'_>) -> Result<f64, ConfigError> {
    let parsed = value.text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| value.invalid("a number from 0 to 1 is needed"))
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn limits(keys: &str) -> LimitsConfig {
        let config = Config::parse(&format!("dataDir=/d\n{keys}")).unwrap();
        assert_eq!(config.unknown, []);
        config.limits
    }

    #[test]
    fn a_limit_is_known_by_its_name_in_the_file_and_by_that_of_its_property() {
        let by_name = limits(
            "requestThrottleLimit=5\nrequestThrottleStallTime=7\nrequestThrottleDropStale=false\n\
             requestStaleLatencyCheck=true\nthrottledOpWaitTime=9\nconnectionMaxTokens=11\nconnectionTokenFillTime=13\n\
             connectionTokenFillCount=15\nconnectionFreezeTime=17\nconnectionDropIncrease=0.5\n\
             connectionDropDecrease=0.25\nconnectionDecreaseRatio=0.125\nlargeRequestThreshold=19\n\
             largeRequestMaxBytes=21\njute.maxbuffer=0x1fffff\njute.maxbuffer.extrasize=4096\n",
        );
        let by_property = limits(
            "zookeeper.request_throttle_max_requests=5\nzookeeper.request_throttle_stall_time=7\n\
             zookeeper.request_throttle_drop_stale=false\nzookeeper.request_stale_latency_check=true\n\
             zookeeper.throttled_op_wait_time=9\nzookeeper.connection_throttle_tokens=11\n\
             zookeeper.connection_throttle_fill_time=13\nzookeeper.connection_throttle_fill_count=15\n\
             zookeeper.connection_throttle_freeze_time=17\nzookeeper.connection_throttle_drop_increase=0.5\n\
             zookeeper.connection_throttle_drop_decrease=0.25\nzookeeper.connection_throttle_decrease_ratio=0.125\n\
             zookeeper.largeRequestThreshold=19\nzookeeper.largeRequestMaxBytes=21\njute.maxbuffer=2097151\n\
             zookeeper.jute.maxbuffer.extrasize=4096\n",
        );
        assert_eq!(by_name, by_property);
        assert_eq!((by_name.request_throttle, by_name.large_request_threshold), (5, Some(19)));
        assert_eq!((by_name.max_buffer, by_name.txn_bytes_max()), (0x1f_ffff, 0x1f_ffff + 4096));
    }

    #[test]
    fn negative_numbers_turn_limits_off() {
        let off = limits("requestThrottleLimit=-1\nlargeRequestThreshold=-1\nconnectionFreezeTime=-1\n");
        assert_eq!(off, LimitsConfig::default());
    }

    #[test]
    fn what_is_stored_may_be_twice_a_frame_and_at_least_a_kilobyte_more() {
        assert_eq!(limits("").txn_bytes_max(), 2 * 0xf_ffff);
        assert_eq!(limits("jute.maxbuffer=100\njute.maxbuffer.extrasize=1\n").txn_bytes_max(), 1124);
        assert_eq!(limits("jute.maxbuffer=2147483647\n").txn_bytes_max(), i32::MAX as usize);
    }

    #[test]
    fn sizes_and_ratios_outside_their_range_are_errors() {
        for line in ["jute.maxbuffer=0", "jute.maxbuffer=-1", "jute.maxbuffer=1m", "connectionDropIncrease=2"] {
            let error = Config::parse(&format!("dataDir=/d\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains(" is needed"), "{error}");
        }
    }
}
