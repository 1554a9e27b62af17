//! TLS: what clients agree on with the service, what it says of wrong files, and a certificate that is replaced while it runs.
//! `streams`: what a client may do with HTTP/2.

mod streams;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use endpoint_stats::http::{TimeOuts, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Client, ClientBuilder, Version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::servers::{PrivateRedis, free_port};
use crate::harness::{Database, Setup, TestApp, http_client, process, trusting, until};

/// An authority, and a folder for the files that the service reads.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    /// A certificate of 127.0.0.1, in PEM, and its key.
    fn issue(&self) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificates: self.path("tls.crt"), key: self.path("tls.key") }
    }

    /// Writes both files in a folder of their own and swaps the links to them, as cert-manager does.
    fn place(&self, version: &str, certificates: &str, key: &str) {
        std::fs::create_dir(self.path(version)).unwrap();
        for (name, text) in [("tls.crt", certificates), ("tls.key", key)] {
            std::fs::write(self.path(version).join(name), text).unwrap();
            if !self.path(name).is_symlink() {
                symlink(Path::new("now").join(name), self.path(name)).unwrap();
            }
        }
        symlink(version, self.path("next")).unwrap();
        std::fs::rename(self.path("next"), self.path("now")).unwrap();
    }

    /// A service with a certificate of this authority.
    async fn serve(&self, time_outs: TimeOuts) -> TestApp {
        let (certificate, key) = self.issue();
        self.place("first", &certificate, &key.serialize_pem());
        TestApp::with(Setup { tls: Some(self.files()), time_outs, ..Setup::default() }).await
    }

    /// A client that trusts this authority and no other.
    fn client(&self, more: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let authority = Certificate::from_pem(self.issuer.pem().as_bytes()).unwrap();
        trusting(more(Client::builder().tls_certs_only([authority]).pool_max_idle_per_host(0).tls_info(true)))
    }
}

/// The certificate that a new client is shown, DER. One that was there before would resume its session, without certificate.
async fn shown(authority: &Authority, app: &TestApp) -> Vec<u8> {
    let client = authority.client(|client| client);
    let answer = client.get(format!("https://{}/livez", app.address)).send().await.unwrap();
    answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_agree_on_http_2_or_on_1_1_and_plain_http_is_refused() {
    let authority = Authority::new();
    let app = authority.serve(TimeOuts::default()).await;
    let ranking = format!("https://{}/api/v1/endpoints/top", app.address);

    let answer = authority.client(|client| client).get(&ranking).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let answer = authority.client(ClientBuilder::http1_only).get(&ranking).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));

    // Over both, a record goes in and is counted.
    let record = crate::harness::record("2026-11-21T10:00:00Z", "/over/tls", 5.0);
    let records = format!("https://{}/api/v1/requests", app.address);
    for client in [authority.client(|client| client), authority.client(ClientBuilder::http1_only)] {
        let request = client.post(&records).header("Content-Type", "application/json").body(record.to_string());
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let client = authority.client(|client| client);
    let answer = client.get(&ranking).header("Cache-Control", "no-cache").send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["total"]["requests"], 2);

    // Who has an answer is told so without a word of a body: that there are 0 bytes of it would be said of what they have.
    for client in [authority.client(|client| client), authority.client(ClientBuilder::http1_only)] {
        let page = client.get(format!("https://{}/", app.address));
        let etag = page.try_clone().unwrap().send().await.unwrap().headers()["etag"].clone();
        let same = page.header("If-None-Match", etag).send().await.unwrap();
        assert_eq!((same.status().as_u16(), same.headers().get("content-length")), (304, None), "{:?}", same.version());
    }

    // A stranger's authority: the client is the one to refuse.
    let stranger = Authority::new().client(|client| client).get(&ranking).send().await;
    assert!(stranger.is_err_and(|error| error.is_connect()));

    let mut plain = TcpStream::connect(app.address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut said)).await;
    ended.expect("the connection is closed").ok();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_and_a_key_in_the_older_form_will_do() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    // The SEC1 form of the key is inside its PKCS#8 form: a sequence that begins with version 1 and 32 bytes.
    let pkcs8 = key.serialize_der();
    let at = pkcs8.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]).unwrap() - 2;
    let sec1 = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &pkcs8[at..at + 2 + usize::from(pkcs8[at + 1])])
    );
    authority.place("first", &format!("{certificate}{}", authority.issuer.pem()), &sec1);
    let app = TestApp::with(Setup { tls: Some(authority.files()), ..Setup::default() }).await;
    assert_eq!(shown(&authority, &app).await, der(&certificate));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_are_refused_at_the_start_in_words_that_name_them() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let (_, other) = authority.issue();
    let write = |name: &str, text: &str| {
        std::fs::write(authority.path(name), text).unwrap();
        authority.path(name).display().to_string()
    };
    let (certificate, key) = (write("good.crt", &certificate), write("good.key", &key.serialize_pem()));
    let other = write("other.key", &other.serialize_pem());
    let empty = write("empty", "");
    let text = write("text", "no PEM at all\n");
    let cut = write("cut", "-----BEGIN CERTIFICATE-----\nMIIB");
    let missing = authority.path("missing").display().to_string();
    let database = Database::create().await;
    let both = "set both, or none";
    for (certificates, key, said) in [
        (Some(&certificate), None, ["TLS_CERT is set and TLS_KEY is not", both]),
        (None, Some(&key), ["TLS_KEY is set and TLS_CERT is not", both]),
        (Some(&missing), Some(&key), [&missing, "cannot be read"]),
        (Some(&certificate), Some(&missing), [&missing, "cannot be read"]),
        (Some(&empty), Some(&key), [&empty, "holds no certificate"]),
        (Some(&text), Some(&key), [&text, "holds no certificate"]),
        (Some(&cut), Some(&key), [&cut, "holds no certificate"]),
        (Some(&key), Some(&key), [&key, "holds no certificate"]),
        (Some(&certificate), Some(&certificate), [&certificate, "holds no private key"]),
        (Some(&certificate), Some(&text), [&text, "holds no private key"]),
        (Some(&certificate), Some(&other), [&other, "cannot be used together"]),
    ] {
        let mut command = process::command(&["serve"]);
        command.env("DATABASE_URL", database.url()).env("LISTEN", "127.0.0.1:0");
        for (name, file) in [("TLS_CERT", certificates), ("TLS_KEY", key)] {
            if let Some(file) = file {
                command.env(name, file);
            }
        }
        let ended = tokio::time::timeout(Duration::from_secs(10), command.output()).await.expect("it ends").unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(said.iter().all(|part| told.contains(*part)), "{said:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_takes_both_files_from_its_options() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    authority.place("first", &certificate, &key.serialize_pem());
    let files = authority.files();
    let settings = [("TLS_CERT", files.certificates.to_str().unwrap()), ("TLS_KEY", files.key.to_str().unwrap())];
    let (mut service, address) = process::serve(&Database::create().await, &settings).await;
    let encrypted = address.replace("http:", "https:");
    let answer = authority.client(|client| client).get(format!("{encrypted}/readyz")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    assert!(crate::harness::http_client().get(format!("{address}/readyz")).send().await.is_err());
    service.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_a_restart_and_a_bad_one_never() {
    let authority = Authority::new();
    let often = TimeOuts { certificate: Duration::from_millis(20), ..TimeOuts::default() };
    let app = authority.serve(often).await;
    let first = shown(&authority, &app).await;

    let (second, key) = authority.issue();
    let key = key.serialize_pem();
    let bad =
        [("cut", &second[..40], &*key), ("with the key of another", &second, &authority.issue().1.serialize_pem())];
    for (what, certificate, key) in bad {
        authority.place(what, certificate, key);
        // Long enough for several looks.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(shown(&authority, &app).await, first, "{what}");
    }
    std::fs::remove_file(authority.path("now")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(shown(&authority, &app).await, first, "files that are gone");

    authority.place("second", &second, &key);
    let deadline = Instant::now() + Duration::from_secs(10);
    while shown(&authority, &app).await != der(&second) {
        assert!(Instant::now() < deadline, "the new certificate is not shown");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stalls_is_ended_and_keeps_nobody_out() {
    let authority = Authority::new();
    let app = authority.serve(TimeOuts { handshake: Duration::from_secs(1), ..TimeOuts::default() }).await;
    let began = Instant::now();
    // More than actix would have at once on two workers; some say nothing, some begin a greeting.
    let mut stalled = Vec::new();
    for n in 0..600 {
        let mut connection = TcpStream::connect(app.address).await.unwrap();
        if n % 2 == 0 {
            connection.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        }
        stalled.push(connection);
    }
    let _ = shown(&authority, &app).await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_millis(900), "a good client waited until others were cut off: {waited:?}");
    for mut connection in stalled {
        let ended = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "a stalled handshake goes on after {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_shared_through_a_redis_that_speaks_tls() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    authority.place("redis", &certificate, &key.serialize_pem());
    std::fs::write(authority.path("ca.crt"), authority.issuer.pem()).unwrap();
    let [file, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(|name| authority.path(name).display().to_string());
    let port = free_port();
    let arguments = format!(
        "--tls-port {port} --tls-auth-clients no --tls-cert-file {file} --tls-key-file {key} --tls-ca-cert-file {ca}"
    );
    let redis = PrivateRedis::at(free_port(), &[&arguments]);
    let database = Database::create().await;
    let url = format!("rediss://127.0.0.1:{port}");
    let (_child, address) = process::serve(&database, &[("REDIS_URL", &url), ("SSL_CERT_FILE", &ca)]).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut plain = client.get_multiplexed_async_connection().await.unwrap();
    let http = http_client();
    let mut question = 0;
    until("an answer is in Redis", async || {
        question += 1;
        let url = format!("{address}/api/v1/endpoints/top?from=2026-11-20&to=2026-11-21&limit={question}");
        assert_eq!(http.get(url).send().await.unwrap().status(), 200);
        !redis::AsyncCommands::keys::<_, Vec<String>>(&mut plain, "endpoint-stats:*").await.unwrap().is_empty()
    })
    .await;
}
