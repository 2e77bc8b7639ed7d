//! An HTTP endpoint whose requests may be sent again: `POST /payments` with an `Idempotency-Key` publishes the body once.
//!
//! | answer | meaning |
//! |---|---|
//! | 201 | it is published |
//! | 200 | it had been published before: the same offset again |
//! | 400 | there is no usable key |
//! | 410 | the key is too old to tell |
//! | 422 | the key belongs to another body |
//! | 503 | try again: the outcome is not known, and the key makes that safe |
//!
//! With a broker running: `cargo run -p weir-client --example payments -- TOPIC [ADDRESS]`, then
//! `curl -i -H 'Idempotency-Key: pay-7' -d '100 EUR' http://127.0.0.1:8080/payments`. It keeps no state of its own: any number of
//! these may run side by side, and be killed at any moment.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use weir_client::{Client, ErrorKind, Message, Producer, SendError, SendFailure};

/// Longest body that is taken.
const BODY_BYTES_MAX: usize = 64 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().ok_or("usage: payments TOPIC [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let weir = Client::from_env().await?;
    let producer = weir.producer(&topic).build().await?;
    let listener = TcpListener::bind(&address).await?;
    println!("ready http://{}", listener.local_addr()?);
    loop {
        let (stream, _peer) = listener.accept().await?;
        let producer = producer.clone();
        let service = service_fn(move |request| {
            let producer = producer.clone();
            async move { Ok::<_, Infallible>(answer(&producer, request).await) }
        });
        tokio::spawn(async move {
            // A peer that breaks off is none of the others' business.
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Publishes the body of a request under its key.
async fn answer(producer: &Producer, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST || request.uri().path() != "/payments" {
        return respond(StatusCode::NOT_FOUND, "POST /payments");
    }
    let Some(key) = request.headers().get("idempotency-key").cloned() else {
        return respond(StatusCode::BAD_REQUEST, "an Idempotency-Key is needed");
    };
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return respond(StatusCode::BAD_REQUEST, "the body broke off, or is too long");
    };
    let message = Message::new(body.to_bytes()).idempotency_key(Bytes::copy_from_slice(key.as_bytes()));
    match producer.send(message).await {
        Ok(receipt) => {
            let status = if receipt.duplicate { StatusCode::OK } else { StatusCode::CREATED };
            respond(status, &format!("{}:{}", receipt.partition, receipt.offset))
        }
        Err(error) => respond(status_of(&error), &error.to_string()),
    }
}

fn status_of(error: &SendError) -> StatusCode {
    if matches!(error.reason, SendFailure::IdempotencyConflict { .. }) {
        StatusCode::UNPROCESSABLE_ENTITY
    } else if matches!(error.reason, SendFailure::IdempotencyExpired) {
        StatusCode::GONE
    } else if error.error.kind() == ErrorKind::Invalid {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn respond(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response
}
