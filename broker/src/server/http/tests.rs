use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start() -> Served {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, Arc::clone(&metrics), stop.clone()));
    Served { address, metrics, stop, task }
}

impl Served {
    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn status(&self, path: &str) -> String {
        let answer = self.ask(format!("GET {path} HTTP/1.1\r\nHost: weir\r\n\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        format!("{} {}", head.lines().next().unwrap(), body.trim_end())
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn readiness_follows_the_broker_and_liveness_does_not() {
    let served = start();
    for (readiness, status) in [
        (Readiness::Starting, "503 Service Unavailable starting: "),
        (Readiness::Ready, "200 OK ready"),
        (Readiness::Draining, "503 Service Unavailable draining: "),
        (Readiness::Failed, "503 Service Unavailable failed: "),
    ] {
        served.metrics.set_readiness(readiness);
        let answer = served.status("/ready").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(served.status("/live").await, "HTTP/1.1 200 OK live");
    }
}

#[tokio::test]
async fn metrics_are_those_of_the_moment() {
    let served = start();
    served.metrics.panics.add(41);
    assert!(served.status("/metrics").await.contains("weir_panics_total 41"));
    served.metrics.panics.increment();
    assert!(served.status("/metrics?name=x").await.contains("weir_panics_total 42"));
}

#[tokio::test]
async fn what_is_not_a_known_request_is_refused() {
    let served = start();
    for (request, expected) in [
        ("GET /other HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("GET /metrics\r\n\r\n", "400"),
        ("GET metrics HTTP/1.1\r\n\r\n", "400"),
        ("GET /metrics HTTP/2.0\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1 more\r\n\r\n", "400"),
        ("\r\n\r\n", "400"),
    ] {
        let answer = served.ask(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{request:?} got {answer}");
    }
    let answer = served.ask(b"\xff\xfe\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_with_an_answer() {
    let served = start();
    let padding = "x".repeat(HTTP_HEAD_BYTES_MAX);
    let answer = served.ask(format!("GET /live HTTP/1.1\r\nPadding: {padding}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // Without an end, and with more than was read when the answer was given.
    let answer = served.ask(&vec![b'x'; 1 << 20]).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let padding = "x".repeat(HTTP_HEAD_BYTES_MAX - 100);
    let answer = served.ask(format!("GET /live HTTP/1.1\r\nPadding: {padding}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_request_may_come_in_pieces() {
    let served = start();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in ["GET /li", "ve HTTP/1.1\r", "\n\r", "\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn silent_connections_take_all_places_only_until_the_deadline() {
    let served = start();
    let mut silent = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_MAX {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    // Answered once the silent ones have run out of time.
    let began = std::time::Instant::now();
    assert_eq!(served.status("/live").await, "HTTP/1.1 200 OK live");
    assert!(began.elapsed() >= HTTP_WITHIN / 2, "it was served beside as many as there may be");
    for mut stream in silent {
        assert_eq!(read_to_end(&mut stream).await, "", "no answer without a request");
    }
}

#[tokio::test]
async fn it_ends_when_told() {
    let served = start();
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(served.status("/live").await, "HTTP/1.1 200 OK live");
    served.stop.cancel();
    tokio::time::timeout(PATIENCE, served.task).await.unwrap().unwrap();
    // Its connection ended with it, by an end or a reset.
    let ended = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_says_so() {
    let served = start();
    let error = bind(served.address).unwrap_err();
    assert!(matches!(error, BindError::InUse { protocol: "TCP", .. }), "{error}");
}
