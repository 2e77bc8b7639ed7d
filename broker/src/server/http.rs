//! Metrics and health over HTTP/1.1: `GET` of `/metrics`, `/live` and `/ready`, one request per connection.
//!
//! Written by hand, as three fixed answers need no framework: the head of a request is bounded, nothing of it but
//! method and path is looked at, and every connection ends within a deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::server::endpoint::BindError;
use crate::server::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_WITHIN};
use crate::server::metrics::{Metrics, Readiness};

/// Connections that wait for their turn in the system.
const BACKLOG: u32 = 64;

/// Listens for requests. Needs a runtime.
///
/// # Errors
/// Why it cannot listen there.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A connection that ended a moment ago must not keep a restarted broker from its port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| BindError::new(address, "TCP", source))
}

/// Answers requests until `stop` is cancelled.
///
/// # Cancel safety
/// Requests under way end if it is dropped.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    metrics.panics.increment();
                    tracing::error!(%error, "an answer to a request for metrics panicked");
                }
            }
            accepted = listener.accept(), if connections.len() < HTTP_CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_one(stream, Arc::clone(&metrics)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a request for metrics could not be accepted");
                    // No file descriptors, most likely: trying again at once would only burn time.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

async fn serve_one(stream: TcpStream, metrics: Arc<Metrics>) {
    // Whoever was too slow, or went away, gets no answer: there is nobody to tell.
    let _late = tokio::time::timeout(HTTP_WITHIN, exchange(stream, &metrics)).await;
}

async fn exchange(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let answer = match read_head(&mut stream).await? {
        Head::Complete(head) => match parse(&head) {
            Request::Get("/metrics") => Answer { status: Status::Ok, body: metrics.render() },
            Request::Get("/live") => Answer::plain(Status::Ok, "live"),
            Request::Get("/ready") => {
                let readiness = metrics.readiness();
                let is_ready = readiness == Readiness::Ready;
                Answer::plain(if is_ready { Status::Ok } else { Status::Unavailable }, readiness.text())
            }
            Request::Get(_) => Answer::plain(Status::NotFound, "there are /metrics, /live and /ready"),
            Request::OtherMethod => Answer::plain(Status::MethodNotAllowed, "only GET is understood"),
            Request::Garbage => Answer::plain(Status::BadRequest, "this is not HTTP/1.1"),
        },
        Head::TooLong => Answer::plain(Status::HeadTooLarge, "the head of the request is too long"),
        Head::None => return Ok(()),
    };
    stream.write_all(answer.render().as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with something unread would reset the connection, and the answer could be lost on the way.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// What came before the empty line.
enum Head {
    Complete(Vec<u8>),
    TooLong,
    /// The peer went away.
    None,
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Head> {
    let mut head = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(Head::None);
        }
        let end = head.windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) if end <= HTTP_HEAD_BYTES_MAX => {
                head.truncate(end);
                return Ok(Head::Complete(head));
            }
            None if head.len() < HTTP_HEAD_BYTES_MAX => {}
            Some(_) | None => return Ok(Head::TooLong),
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Request<'a> {
    /// A path, without what follows a question mark.
    Get(&'a str),
    OtherMethod,
    Garbage,
}

fn parse(head: &[u8]) -> Request<'_> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let Ok(line) = str::from_utf8(line) else { return Request::Garbage };
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) if target.starts_with('/') => {
            match method {
                "GET" => Request::Get(target.split('?').next().unwrap_or(target)),
                _ => Request::OtherMethod,
            }
        }
        _ => Request::Garbage,
    }
}

#[derive(Clone, Copy)]
enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
    Unavailable,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed\r\nAllow: GET",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

struct Answer {
    status: Status,
    body: String,
}

impl Answer {
    fn plain(status: Status, text: &str) -> Self {
        Self { status, body: format!("{text}\n") }
    }

    fn render(&self) -> String {
        let (status, length) = (self.status.line(), self.body.len());
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{}",
            self.body
        )
    }
}

#[cfg(test)]
mod tests;
