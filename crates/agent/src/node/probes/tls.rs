//! TLS for `scheme: HTTPS`. Certificates are not verified, as by the kubelet: a probe asks whether the server answers, at an
//! address that no certificate names.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{ActiveKeyExchange, SupportedKxGroup, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

/// Everything that a server may sign with: no signature is looked at, so none has to be understood. Without P-521 and Ed448 a
/// server that has no other certificate would end the handshake.
const SCHEMES: [SignatureScheme; 16] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::ED448,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ML_DSA_44,
    SignatureScheme::ML_DSA_65,
    SignatureScheme::ML_DSA_87,
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
];

/// Until TLS 1.2 a server has a certificate for P-521 only for clients that know the curve (RFC 8422, 4). This says that we do,
/// as the last choice: keys are exchanged with another one.
#[derive(Debug)]
struct P521;

impl SupportedKxGroup for P521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::General("keys cannot be exchanged with P-521".to_owned()))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

/// Accepts every certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

/// Made with the first use: most nodes never probe over TLS.
fn config() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut provider = ring::default_provider();
    provider.kx_groups.push(&P521);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Does the handshake.
pub(super) async fn connect(stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(io::Error::other)?;
    let config = config().map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Whether a handshake failed because the other side does not speak TLS.
pub(super) fn is_not_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::InvalidMessage(_)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
    use tokio_rustls::rustls::sign::{CertifiedKey, Signer, SigningKey};
    use tokio_rustls::rustls::version::{TLS12, TLS13};
    use tokio_rustls::rustls::{ServerConfig, SignatureAlgorithm, SupportedProtocolVersion};

    use super::*;

    /// A server that has a key for one scheme only. What it signs is noise: nobody looks.
    #[derive(Debug, Clone, Copy)]
    struct Only(SignatureScheme, SignatureAlgorithm);

    impl SigningKey for Only {
        fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
            offered.contains(&self.0).then(|| Box::new(*self) as Box<dyn Signer>)
        }

        fn algorithm(&self) -> SignatureAlgorithm {
            self.1
        }
    }

    impl Signer for Only {
        fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, Error> {
            Ok(vec![0; 64])
        }

        fn scheme(&self) -> SignatureScheme {
            self.0
        }
    }

    impl ResolvesServerCert for Only {
        fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            // As OpenSSL does until TLS 1.2.
            if !hello.named_groups()?.contains(&NamedGroup::secp521r1) {
                return None;
            }
            let certificate = CertificateDer::from(b"no certificate".to_vec());
            Some(Arc::new(CertifiedKey::new(vec![certificate], Arc::new(*self))))
        }
    }

    async fn server(only: Only, version: &'static SupportedProtocolVersion) -> SocketAddr {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(only))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    drop(stream.write_all(b"up").await);
                    drop(stream.shutdown().await);
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_server_is_reached_whatever_it_signs_with() {
        let ecdsa = SignatureAlgorithm::ECDSA;
        for only in [
            Only(SignatureScheme::ECDSA_NISTP521_SHA512, ecdsa),
            Only(SignatureScheme::ECDSA_NISTP256_SHA256, ecdsa),
            Only(SignatureScheme::RSA_PSS_SHA512, SignatureAlgorithm::RSA),
            Only(SignatureScheme::ED448, SignatureAlgorithm::ED448),
        ] {
            for version in [&TLS12, &TLS13] {
                // Ed448 has no cipher suite of its own in this server's TLS 1.2.
                if only.0 == SignatureScheme::ED448 && *version == TLS12 {
                    continue;
                }
                let address = server(only, version).await;
                let stream = TcpStream::connect(address).await.unwrap();
                let connected = connect(stream, "127.0.0.1").await;
                let mut stream = connected.unwrap_or_else(|error| panic!("{only:?} {version:?}: {error}"));
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                assert_eq!(said, "up", "{only:?} {version:?}");
            }
        }
        // The control: a server with a scheme that is not offered cannot be reached.
        let address = server(Only(SignatureScheme::Unknown(0x0303), ecdsa), &TLS13).await;
        assert!(connect(TcpStream::connect(address).await.unwrap(), "127.0.0.1").await.is_err());
    }
}
