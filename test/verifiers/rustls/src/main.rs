//! A TLS peer on rustls: `rustls-peer CHAIN KEY ROOTS...` has each root set verify a chain by real handshakes in memory,
//! as a client and as a server, and prints a line for each: `client ok`, or `server` and why not. With PEER_HOST the client
//! verifies that host name too.
use std::io::BufRead;
use std::net::{TcpListener, TcpStream};
use std::{fmt, fs, sync::Arc};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};

/// What rustls does for a server, its name only with PEER_HOST: a leaf may have a SPIFFE ID and no DNS name.
struct PathOnly {
    roots: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
    host: Option<ServerName<'static>>,
}

impl fmt::Debug for PathOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PathOnly")
    }
}

impl ServerCertVerifier for PathOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let leaf = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms)?;
            if let Some(host) = &self.host {
                verify_server_name(&leaf, host)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Passes records back and forth until both sides have ended their handshake. The error is that of the side that verifies.
fn handshake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Error> {
    for _ in 0..20 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory takes everything");
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory gives everything");
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory takes everything");
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory gives everything");
            client.process_new_packets()?;
        }
    }
    if client.is_handshaking() || server.is_handshaking() {
        return Err(Error::General("the handshake did not end".into()));
    }
    Ok(())
}

struct Holder {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Holder {
    /// A client that verifies by `roots`, or whatever comes where there are none, and presents the chain.
    fn client(&self, roots: Option<Arc<RootCertStore>>) -> Result<ClientConnection, Error> {
        let host = std::env::var("PEER_HOST").ok().map(|name| ServerName::try_from(name).expect("PEER_HOST"));
        let verifier = Arc::new(PathOnly { roots, provider: self.provider.clone(), host });
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        ClientConnection::new(Arc::new(config), ServerName::try_from("peer.test").expect("a name"))
    }

    /// A server that presents the chain and demands, if it has roots, a certificate that they verify.
    fn server(&self, roots: Option<Arc<RootCertStore>>) -> Result<ServerConnection, Error> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match roots {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone())
                    .build()
                    .map_err(|error| Error::General(error.to_string()))?,
            ),
        };
        ServerConnection::new(Arc::new(builder.with_single_cert(self.chain.clone(), self.key.clone_key())?))
    }
}

fn certificates(path: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).expect(path).collect::<Result<_, _>>().expect(path)
}

fn report(role: &str, outcome: Result<(), Error>) {
    match outcome {
        Ok(()) => println!("{role} ok"),
        Err(error) => println!("{role} {}", error.to_string().replace('\n', " ")),
    }
}

/// The mode `rustls-peer verify CHAIN KEY ROOTS`, which prints `port N` and reads lines: `client PORT` has it connect and
/// verify what it is shown, `server` accept a client and verify that.
fn by_lines(holder: &Holder, roots: &Arc<RootCertStore>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    println!("port {}", listener.local_addr().expect("address").port());
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("line");
        match line.strip_prefix("client ") {
            Some(port) => {
                let mut socket = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connection");
                let outcome = holder.client(Some(roots.clone())).and_then(|mut side| {
                    side.complete_io(&mut socket).map(|_| ()).map_err(|error| Error::General(error.to_string()))
                });
                report("client", outcome);
            }
            None => {
                let (mut socket, _) = listener.accept().expect("connection");
                let outcome = holder.server(Some(roots.clone())).and_then(|mut side| {
                    side.complete_io(&mut socket).map(|_| ()).map_err(|error| Error::General(error.to_string()))
                });
                report("server", outcome);
            }
        }
    }
}

fn main() {
    let mut args: Vec<String> = std::env::args().collect();
    let by = args[1] == "verify";
    if by {
        args.remove(1);
    }
    let holder = Holder {
        chain: certificates(&args[1]),
        key: PrivateKeyDer::from_pem_slice(&fs::read(&args[2]).expect("key")).expect("key"),
        provider: Arc::new(ring::default_provider()),
    };
    for path in &args[3..] {
        let mut roots = RootCertStore::empty();
        for root in certificates(path) {
            roots.add(root).expect("root");
        }
        let roots = Arc::new(roots);
        if by {
            return by_lines(&holder, &roots);
        }
        let as_client = || handshake(&mut holder.client(Some(roots.clone()))?, &mut holder.server(None)?);
        let as_server = || handshake(&mut holder.client(None)?, &mut holder.server(Some(roots.clone()))?);
        report("client", as_client());
        report("server", as_server());
    }
}
