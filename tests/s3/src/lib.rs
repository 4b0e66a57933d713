//! A strict S3 server for tests, on loopback and in memory.
//!
//! **Problem.** Servers for tests believe whatever they are sent: signatures that are not checked, checksums that are not computed,
//! locks that can be shortened. What works with them is not shown to work.
//! **Principle.** Signatures are checked by the crate `s3s`, everything else by [`storage`]: what Amazon refuses is refused, and
//! what is not understood is refused too, never passed over. Faults come on demand: see [`Fault`].
//!
//! It runs on a thread of its own, so that it serves a test of another process as well, and stops when it is dropped.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

mod faults;
mod storage;

pub use faults::Fault;
pub use storage::{BucketSettings, Checksums, StoredVersion};

use faults::{Faults, answer};
use storage::Storage;

/// Who may ask, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The access key: its name.
    pub access_key: &'static str,
    /// The secret key.
    pub secret_key: &'static str,
    /// Whether it may delete, beside adding, reading, listing and locking.
    pub may_delete: bool,
}

/// An identity that adds and reads: that of a host.
pub const HOST: Identity = Identity { access_key: "GARANTHOST", secret_key: "a secret of the host", may_delete: false };
/// An identity that deletes as well: that of the server.
pub const SERVER: Identity =
    Identity { access_key: "GARANTSERVER", secret_key: "another one, of the server", may_delete: true };

/// The operations of those who add and read.
const ADDING: [&str; 13] = [
    "HeadBucket",
    "GetBucketLocation",
    "GetBucketVersioning",
    "GetObjectLockConfiguration",
    "PutObject",
    "PutObjectRetention",
    "GetObject",
    "GetObjectRetention",
    "HeadObject",
    "ListObjects",
    "ListObjectsV2",
    "ListObjectVersions",
    "GetObjectAttributes",
];

/// A server that runs.
#[derive(Debug)]
pub struct StrictS3 {
    address: SocketAddr,
    storage: Storage,
    faults: Faults,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StrictS3 {
    /// Starts a server that knows [`HOST`] and [`SERVER`], with these buckets.
    ///
    /// # Panics
    /// There is no port, or no thread, to be had.
    pub fn start(buckets: &[(&str, BucketSettings)]) -> Self {
        let storage = Storage::new(buckets);
        let (faults, connections) = (Faults::default(), Arc::new(AtomicUsize::new(0)));
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let (stop, stopped) = oneshot::channel();
        let service = service(storage.clone(), address);
        let served = (faults.clone(), Arc::clone(&connections));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, service, served) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, storage, faults, connections, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where buckets are named by the host, `http://BUCKET.localhost:PORT`: without the bucket.
    pub fn domain(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// The next `times` requests of this method, whose path and query hold `part`, meet with a fault.
    pub fn fault(&self, method: &'static str, part: &'static str, times: usize, fault: Fault) {
        self.faults.plan(method, part, times, fault);
    }

    /// How many faults that were asked for have not come about yet.
    pub fn faults_left(&self) -> usize {
        self.faults.left()
    }

    /// Every request that came, as its method and its path with the query, without the signature: `GET /bucket/key?versionId=…`.
    pub fn requests(&self) -> Vec<String> {
        self.faults.requests()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets time pass for the locks: what is locked until then may be deleted.
    pub fn pass(&self, time: Duration) {
        self.storage.pass(time);
    }

    /// The versions of an object, the oldest first.
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<StoredVersion> {
        self.storage.versions(bucket, key)
    }

    /// Changes how a bucket behaves from now on.
    pub fn set(&self, bucket: &str, settings: BucketSettings) {
        self.storage.set(bucket, settings);
    }

    /// Has a bucket be in this region from now on.
    pub fn is_in(&self, bucket: &str, region: &str) {
        self.storage.is_in(bucket, region);
    }

    /// Changes a byte of what is stored, as a disk that rots.
    pub fn damage(&self, bucket: &str, key: &str) {
        self.storage.damage(bucket, key);
    }
}

impl Drop for StrictS3 {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn service(storage: Storage, address: SocketAddr) -> S3Service {
    let mut auth = SimpleAuth::new();
    for identity in [HOST, SERVER] {
        auth.register(identity.access_key.to_owned(), identity.secret_key.into());
    }
    let mut builder = S3ServiceBuilder::new(storage);
    builder.set_auth(auth);
    builder.set_access(Rights);
    builder.set_host(SingleDomain::new(&format!("localhost:{}", address.port())).expect("a domain"));
    builder.build()
}

async fn serve(listener: std::net::TcpListener, service: S3Service, (faults, connections): (Faults, Arc<AtomicUsize>)) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        let (service, faults) = (service.clone(), faults.clone());
        tokio::spawn(async move {
            let answering = service_fn(|request| answer(&service, &faults, request));
            // That a client hangs up, and that a fault cuts it off, is what tests are about.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await);
        });
    }
}

/// Who may do what.
struct Rights;

#[async_trait::async_trait]
impl S3Access for Rights {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = context.credentials() else {
            return Err(s3_error!(AccessDenied, "nobody may ask without a signature"));
        };
        // As Amazon does: a header field that nobody signed could have been added by anybody.
        let query = context.uri().query().unwrap_or_default();
        let signed = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-SignedHeaders="));
        if let Some(signed) = signed {
            let signed = signed.replace("%3B", ";");
            let unsigned = |name: &str| name.starts_with("x-amz-") && !signed.split(';').any(|found| found == name);
            if context.headers().keys().any(|name| unsigned(name.as_str())) {
                return Err(s3_error!(AccessDenied, "There were headers present in the request which were not signed"));
            }
        }
        let identity = [HOST, SERVER].into_iter().find(|identity| identity.access_key == credentials.access_key);
        let operation = context.s3_op().name();
        let may = identity
            .is_some_and(|identity| ADDING.contains(&operation) || identity.may_delete && operation == "DeleteObject");
        if may { Ok(()) } else { Err(s3_error!(AccessDenied, "Access Denied")) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
