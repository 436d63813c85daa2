//! One HTTP/2 connection of a client, and the sessions that live with it.
//!
//! A client that sends neither cookie nor token of ours is known by its connection (ADBC has
//! cookies off and may share one static token between users). The sessions hang on the
//! connection itself, so they end with it and an address that is used again finds nothing.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

use crate::session::Session;

/// Different credentials on one connection: a proxy may carry many users.
const SESSIONS_MAX: usize = 256;

/// The connections of a listener, for `tonic`'s `serve_with_incoming`.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(Connection { stream, info: ConnectionInfo { peer, sessions: Arc::default() } })
    })
}

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    info: ConnectionInfo,
}

/// What each request knows of its connection. A cheap handle.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The client's address.
    pub peer: SocketAddr,
    /// Sessions by the credential they were opened with.
    sessions: Arc<Mutex<HashMap<String, Session>>>,
}

impl ConnectionInfo {
    /// The session of a credential, opened if there is none; true if it is new. `None` if the
    /// connection has too many already.
    pub(super) fn session(
        &self,
        credential: &str,
        open: impl FnOnce() -> Session,
    ) -> Option<(Session, bool)> {
        let mut sessions = self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(session) = sessions.get(credential) {
            return Some((session.clone(), false));
        }
        if sessions.len() >= SESSIONS_MAX {
            return None;
        }
        let session = open();
        sessions.insert(credential.to_string(), session.clone());
        Some((session, true))
    }

    /// Forgets a session that was closed.
    pub(super) fn forget(&self, id: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sessions.retain(|_, session| session.id() != id);
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
