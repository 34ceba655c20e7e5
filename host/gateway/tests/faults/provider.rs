//! A small provider that speaks three wire formats over plain HTTP and keeps a bill.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Chat,
    Responses,
    Messages,
}

pub(crate) const WIRES: [Wire; 3] = [Wire::Chat, Wire::Responses, Wire::Messages];
pub(crate) const TEXT: &str = "Grüße, it is 9.";

/// What a provider answers to everything, and whether it bills that.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) headers: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) is_billed: bool,
    /// The connection stays open after the body.
    pub(crate) stays: bool,
}

impl Answer {
    /// A stream with status 200.
    pub(crate) fn stream(body: impl Into<Vec<u8>>) -> Self {
        let headers = "content-type: text/event-stream\r\n";
        Self { status: "200 OK", headers, body: body.into(), is_billed: true, stays: false }
    }

    /// A status, which is not billed.
    pub(crate) fn status(status: &'static str, headers: &'static str, body: &str) -> Self {
        Self { status, headers, body: body.into(), is_billed: false, stays: false }
    }
}

/// A whole reply of some events, with this count of input and output.
pub(crate) fn reply(wire: Wire, count: Option<(i64, i64)>) -> String {
    let (head, tail) = TEXT.split_at(8);
    let data = |json: serde_json::Value| format!("data: {json}\n\n");
    let (input, output) = count.unwrap_or_default();
    match wire {
        Wire::Chat => {
            let delta = |delta, finish: Option<&str>| {
                data(serde_json::json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
            };
            let text = |text: &str| delta(serde_json::json!({"content": text}), None);
            let usage = serde_json::json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}});
            let usage = count.map(|_| data(usage)).unwrap_or_default();
            let end = delta(serde_json::json!({}), Some("stop"));
            format!("{}{}{end}{usage}data: [DONE]\n\n", text(head), text(tail))
        }
        Wire::Responses => {
            let text =
                |text: &str| data(serde_json::json!({"type": "response.output_text.delta", "delta": text}));
            let usage = count.map(|_| serde_json::json!({"input_tokens": input, "output_tokens": output}));
            let end = serde_json::json!({"type": "response.completed", "response": {"status": "completed", "usage": usage}});
            format!("{}{}{}", text(head), text(tail), data(end))
        }
        Wire::Messages => {
            let usage = count.map(|_| serde_json::json!({"input_tokens": input, "output_tokens": 1}));
            let last = count.map(|_| serde_json::json!({"output_tokens": output}));
            let text = |text: &str| {
                let delta = serde_json::json!({"type": "text_delta", "text": text});
                data(serde_json::json!({"type": "content_block_delta", "index": 0, "delta": delta}))
            };
            let block = serde_json::json!({"type": "text", "text": ""});
            [
                data(serde_json::json!({"type": "message_start", "message": {"usage": usage}})),
                data(serde_json::json!({"type": "content_block_start", "index": 0, "content_block": block})),
                text(head),
                text(tail),
                data(serde_json::json!({"type": "content_block_stop", "index": 0})),
                data(serde_json::json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last})),
                data(serde_json::json!({"type": "message_stop"})),
            ]
            .concat()
        }
    }
}

/// Begins to answer everything alike. What is counted is how often it answered what it bills.
pub(crate) async fn provider(answer: Answer) -> (SocketAddr, Arc<AtomicU32>) {
    let bills = Arc::new(AtomicU32::new(0));
    let counted = bills.clone();
    let address = answering(move || {
        counted.fetch_add(u32::from(answer.is_billed), Ordering::SeqCst);
        answer.clone()
    });
    (address.await, bills)
}

/// Begins to answer each request, once it is read, by what this says.
pub(crate) async fn answering(answer: impl Fn() -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, answer) = (listener.local_addr().unwrap(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn() -> Answer>) {
    if heard(&mut stream).await.is_none() {
        return;
    }
    let Answer { status, headers, body, stays, .. } = answer();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
    if stays {
        std::future::pending::<()>().await;
    }
}

/// Reads one request to its end.
async fn heard(stream: &mut TcpStream) -> Option<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if request.len() >= head.len() + 4 + length.unwrap_or(0) {
            return Some(());
        }
    }
}
