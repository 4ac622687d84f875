//! Why a handshake failed, for the one who reads the log: what was wrong, and what to do.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// What to do about `error`, behind what it is.
pub fn reason(error: &Error) -> String {
    use AlertDescription as Alert;
    let remedy = match error {
        Error::NoCertificatesPresented => {
            "the client has shown no certificate: give it a key store, or set ssl.clientAuth=want or none"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the client's certificate is signed by none of ssl.trustStore.location: add its CA there, and let the client \
             send the CAs between"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the client's certificate has expired: renew it"
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the client's certificate is not valid yet: compare the clocks"
        }
        Error::InvalidCertificate(CertificateError::Revoked) => "the client's certificate is revoked",
        Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => {
            "ssl.crl=true, and no revocation list of the client's CA is in the trust store"
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "the client's certificate is not made for clients: its extended key usage lacks clientAuth",
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the client's certificate does not name the address that it connects from: add it as a subject alternative \
             name, or set ssl.clientHostnameVerification=false"
        }
        Error::InvalidCertificate(_) => {
            "the client's certificate cannot be used (it must be of version 3, and for its own use only)"
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "the client does not speak TLS: it must connect to clientPort, or be told to use TLS"
        }
        Error::AlertReceived(Alert::UnknownCA | Alert::CertificateUnknown | Alert::BadCertificate) => {
            "the client does not trust this server's certificate: give it the CA, and connect by a name that is in it"
        }
        Error::AlertReceived(_) => "the client has refused",
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::NoCipherSuitesInCommon,
        ) => "compare ssl.enabledProtocols and ssl.ciphersuites with what the client offers",
        Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
            "the client can use no key of ssl.keyStore.location (RSA or ECDSA)"
        }
        _ => return error.to_string(),
    };
    format!("{error}: {remedy}")
}

/// The same of a connection between servers, whose keys have a prefix of their own.
pub fn reason_between_servers(error: &Error) -> String {
    match error {
        // Whoever has dialed finds the name of whom it has dialed.
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "{error}: the other server's certificate does not name the host that it is dialed at or comes from: add it \
             as a subject alternative name, or set ssl.quorum.hostnameVerification=false"
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => format!(
            "{error}: the other server does not speak TLS: give it portUnification=true first, then sslQuorum=true"
        ),
        _ => reason(error).replace("ssl.", "ssl.quorum.").replace("client", "other server"),
    }
}
