//! The store: the files of a warehouse over HTTP on loopback, with a door for each executor.
//!
//! It speaks as much of S3 as reading takes: HEAD, and GET of an object or of a range of it. A door is an address of
//! its own, which an executor is given as its HTTP proxy: requests to the endpoint come there whole, and the door
//! answers them itself. So a door counts what its executor reads, and can be narrow: the bodies of all connections
//! through it together take as long as they would at its rate. The rule: bytes go in small pieces, in the order in
//! which they were asked for, so that a narrow door is as even as a slow line.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use percent_encoding::percent_decode_str;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Error;

/// Where the warehouse is, for servers.
pub const WAREHOUSE: &str = "s3://lake/warehouse";
/// What paths of requests begin with: the bucket, and the folder in it.
const PREFIX: &str = "/lake/warehouse/";
/// Bytes of a piece.
const PIECE_BYTES: u64 = 64 << 10;
/// What a door that was idle may give at once.
const IDLE_MAX: Duration = Duration::from_millis(10);

/// The running store; it ends when dropped.
pub struct Store {
    /// Where the scheduler reads.
    pub endpoint: String,
    /// The doors, by executor.
    pub doors: Vec<Door>,
    _tasks: JoinSet<()>,
}

/// An executor's way to the store. Clones are the same door.
#[derive(Clone, Debug)]
pub struct Door {
    /// Its URL.
    pub url: String,
    width: Arc<Width>,
}

#[derive(Debug, Default)]
struct Width {
    /// Bytes a second; without it, as fast as it goes.
    rate: Option<u64>,
    /// When the pieces that have passed are through, by the rate. Short critical sections only.
    free_at: Mutex<Option<Instant>>,
    bytes: AtomicU64,
}

impl Store {
    /// Serves a folder through so many doors.
    pub async fn start(folder: &Path, doors: usize, rate: Option<u64>) -> Result<Self, Error> {
        let mut tasks = JoinSet::new();
        let endpoint = serve(folder, Arc::default(), &mut tasks).await?;
        let mut opened = Vec::with_capacity(doors);
        for _ in 0..doors {
            let width = Arc::new(Width { rate, ..Width::default() });
            let address = serve(folder, Arc::clone(&width), &mut tasks).await?;
            opened.push(Door { url: format!("http://{address}"), width });
        }
        Ok(Self { endpoint: format!("http://{endpoint}"), doors: opened, _tasks: tasks })
    }
}

impl Door {
    /// Bytes of bodies that went through it.
    pub fn bytes(&self) -> u64 {
        self.width.bytes.load(Ordering::Relaxed)
    }
}

impl Width {
    /// Waits until so many bytes may pass.
    async fn pass(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(rate) = self.rate {
            let through = self.book(bytes, rate, Instant::now());
            sleep_until(through).await;
        }
    }

    /// When so many bytes are through that come now.
    fn book(&self, bytes: u64, rate: u64, now: Instant) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let earliest = now.checked_sub(IDLE_MAX).unwrap_or(now);
        let begin = free_at.map_or(earliest, |free_at| free_at.max(earliest));
        let through = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *free_at = Some(through);
        through
    }
}

async fn serve(folder: &Path, width: Arc<Width>, tasks: &mut JoinSet<()>) -> Result<SocketAddr, Error> {
    let folder = folder.to_path_buf();
    let router = axum::Router::new().fallback(move |request: Request| {
        let (folder, width) = (folder.clone(), Arc::clone(&width));
        // The body is left: it cannot be lent to another thread, and reads have none.
        let (head, _) = request.into_parts();
        async move { answer(&folder, width, &head).await.unwrap_or_else(IntoResponse::into_response) }
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("the store ended: {error}");
        }
    });
    Ok(address)
}

async fn answer(folder: &Path, width: Arc<Width>, request: &Parts) -> Result<Response, StatusCode> {
    // Through a proxy the URI is absolute; its path is the same.
    let path = object(folder, request.uri.path()).ok_or(StatusCode::NOT_FOUND)?;
    let broken = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let mut file = File::open(&path).await.map_err(|_| StatusCode::NOT_FOUND)?;
    let size = file.metadata().await.map_err(broken)?.len();
    let (start, end) = range(&request.headers, size).ok_or(StatusCode::RANGE_NOT_SATISFIABLE)?;
    let whole = (start, end) == (0, size) && !request.headers.contains_key(header::RANGE);
    let builder = Response::builder()
        .status(if whole { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT })
        .header(header::CONTENT_LENGTH, end - start)
        .header(header::ACCEPT_RANGES, "bytes")
        // Files of a warehouse are never changed.
        .header(header::ETAG, format!("\"{size}\""))
        .header(header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT");
    let builder = match whole {
        true => builder,
        false => {
            builder.header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end.saturating_sub(1)))
        }
    };
    let body = match request.method {
        Method::HEAD => Body::empty(),
        Method::GET => {
            file.seek(SeekFrom::Start(start)).await.map_err(broken)?;
            pieces(file, end - start, width)
        }
        _ => return Err(StatusCode::METHOD_NOT_ALLOWED),
    };
    builder.body(body).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// The file of an object.
fn object(folder: &Path, path: &str) -> Option<PathBuf> {
    let name = percent_decode_str(path.strip_prefix(PREFIX)?).decode_utf8().ok()?;
    let name = PathBuf::from(name.as_ref());
    name.components().all(|part| matches!(part, Component::Normal(_))).then(|| folder.join(name))
}

/// The bytes that are asked for; `None` if the file has none of them.
fn range(headers: &HeaderMap, size: u64) -> Option<(u64, u64)> {
    let Some(range) = headers.get(header::RANGE) else { return Some((0, size)) };
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), Some(last)) => (first, size.min(last.saturating_add(1))),
        (Some(first), None) => (first, size),
        (None, Some(length)) => (size.saturating_sub(length), size),
        (None, None) => return None,
    };
    (start < end).then_some((start, end))
}

fn pieces(file: File, bytes: u64, width: Arc<Width>) -> Body {
    Body::from_stream(stream::try_unfold((file, bytes), move |(mut file, left)| {
        let width = Arc::clone(&width);
        async move {
            if left == 0 {
                return Ok::<_, std::io::Error>(None);
            }
            let length = left.min(PIECE_BYTES);
            let mut piece = vec![0; length as usize];
            file.read_exact(&mut piece).await?;
            width.pass(length).await;
            Ok(Some((Bytes::from(piece), (file, left - length))))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, size: u64) -> Option<(u64, u64)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        super::range(&headers, size)
    }

    #[test]
    fn ranges_are_those_of_http() {
        assert_eq!(range(&HeaderMap::new(), 10), Some((0, 10)));
        assert_eq!(asked("bytes=2-3", 10), Some((2, 4)));
        assert_eq!(asked("bytes=8-20", 10), Some((8, 10)));
        assert_eq!(asked("bytes=8-", 10), Some((8, 10)));
        assert_eq!(asked("bytes=-3", 10), Some((7, 10)));
        assert_eq!(asked("bytes=10-12", 10), None);
    }

    #[test]
    fn objects_stay_in_the_folder() {
        let folder = Path::new("/w");
        assert_eq!(
            object(folder, "/lake/warehouse/a/b%3D1.parquet"),
            Some(PathBuf::from("/w/a/b=1.parquet"))
        );
        assert_eq!(object(folder, "/lake/warehouse/../x"), None);
        assert_eq!(object(folder, "/other/a"), None);
    }

    #[test]
    fn a_door_lets_through_what_its_rate_says() {
        let width = Width::default();
        let now = Instant::now();
        let last = (0..10).map(|_| width.book(100_000, 1_000_000, now)).last().unwrap();
        // A second's worth, less what it may give at once after being idle.
        assert_eq!(last - now, Duration::from_secs(1) - IDLE_MAX);
        let later = now + Duration::from_secs(60);
        assert_eq!(width.book(100_000, 1_000_000, later) - later, Duration::from_millis(100) - IDLE_MAX);
    }
}
