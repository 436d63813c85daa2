//! Small network helpers: free ports, an HTTP GET, metrics read back, garbage sent.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Loopback addresses that were free a moment ago, all different.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("a bound socket has an address"))
}

/// GET over plain HTTP on loopback: (status, body).
pub async fn http_get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let reply = http(port, "GET", path, &[], &[], Duration::from_secs(5)).await?;
    Ok((reply.status, String::from_utf8_lossy(&reply.body).into_owned()))
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// One request over plain HTTP on loopback, on a connection of its own.
pub async fn http(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
    patience: Duration,
) -> std::io::Result<Reply> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let timeout = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to an HTTP request");
    let answer = tokio::time::timeout(patience, ask).await.map_err(|_| timeout)??;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let broken = || std::io::Error::new(std::io::ErrorKind::InvalidData, "not an HTTP answer");
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_string())).collect();
    let body = answer.get(end + 4..).unwrap_or_default().to_vec();
    Ok(Reply { status: status.ok_or_else(broken)?, headers, body })
}

/// The samples of `/metrics`: name with labels, as written, to value.
pub async fn metrics(port: u16) -> BTreeMap<String, f64> {
    let (status, body) = http_get(port, "/metrics").await.expect("the metrics can be asked for");
    assert_eq!(status, 200, "{body}");
    body.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_string(), value.parse().ok()?)))
        .collect()
}

/// Sends bytes that no protocol of ours knows, and waits until the other side hangs up or says something.
pub async fn send_garbage(port: u16, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    // The server may hang up while we still write: that is an answer too.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
}
