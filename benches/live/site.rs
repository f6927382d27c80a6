//! What is measured: one issuing CA, N certificates of it in a directory, and one signed answer for each.

use std::path::{Path, PathBuf};

use der::Encode;
use tempfile::TempDir;

use crate::ca::Ca;
use crate::support::pki::Identity;
use crate::support::response::{Digest, Response, cert_id};

/// Everything a run needs and no run changes, but for the `.ocsp` files that [`Site::forget`] removes.
pub struct Site {
    /// The certificates, in the order of their names.
    pub leaves: Vec<Leaf>,
    /// The responder that all of them name.
    pub ca: Ca,
    dir: TempDir,
}

/// One certificate as it is looked for afterwards.
pub struct Leaf {
    /// The name of its file, which is its host name and `.pem`.
    pub host: String,
    /// What names its entry in `show ssl ocsp-response`: the CertID in hexadecimal.
    pub entry: String,
    /// As OpenSSL prints it.
    pub serial: String,
    /// The CA's answer.
    pub answer: Vec<u8>,
    /// The certificate and who issued it.
    pub identity: Identity,
}

impl Site {
    /// Mints `count` certificates and signs an answer for each; nothing of this is part of any figure.
    pub fn new(count: usize) -> Self {
        let root = Identity::root("Bench Root CA");
        let issuing = root.intermediate("Bench Issuing CA");
        let mut ca = Ca::start();
        let dir = TempDir::new().expect("a temporary directory");
        let numbers: Vec<usize> = (0..count).collect();
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let url = ca.url();
        let mint = |number: &usize| Leaf::mint(*number, &issuing, &url, dir.path());
        let leaves: Vec<Leaf> = std::thread::scope(|scope| {
            let chunks = numbers.chunks(count.div_ceil(workers).max(1));
            let minting: Vec<_> =
                chunks.map(|chunk| scope.spawn(|| chunk.iter().map(mint).collect::<Vec<Leaf>>())).collect();
            minting.into_iter().flat_map(|worker| worker.join().expect("certificates")).collect()
        });
        ca.knows(&leaves);
        Self { leaves, ca, dir }
    }

    /// The directory with the certificate files.
    pub fn certs_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The file of one certificate.
    pub fn file(&self, leaf: &Leaf) -> PathBuf {
        self.dir.path().join(format!("{}.pem", leaf.host))
    }

    /// Removes what a run has left beside the certificates.
    pub fn forget(&self) {
        for leaf in &self.leaves {
            let _ = std::fs::remove_file(self.ocsp_file(leaf));
        }
    }

    /// Puts an empty `.ocsp` file beside each certificate: HAProxy makes a place for a staple of it.
    pub fn place(&self) {
        for leaf in &self.leaves {
            std::fs::write(self.ocsp_file(leaf), "").expect("write an empty file");
        }
    }

    fn ocsp_file(&self, leaf: &Leaf) -> PathBuf {
        self.file(leaf).with_extension("pem.ocsp")
    }
}

impl Leaf {
    fn mint(number: usize, issuing: &Identity, url: &str, dir: &Path) -> Self {
        let host = format!("c{number:05}.test");
        let identity = issuing.leaf(&host).ocsp(url).issue();
        std::fs::write(dir.join(format!("{host}.pem")), identity.combined_pem()).expect("write a certificate file");
        let id = cert_id(Digest::Sha1, &identity).to_der().expect("a CertID in DER");
        Self {
            host,
            entry: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            serial: identity.serial_hex(),
            answer: Response::good(&identity, issuing).der(),
            identity,
        }
    }
}
