//! Over real sockets, spoken to byte by byte: what hyper is told must be what it does.

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;

/// Far above what anything here takes: its end is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough that what could happen would have.
const MOMENT: Duration = Duration::from_millis(200);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    /// Told by requests to `/slow` that they have begun, and tells them to end.
    begun: Arc<Notify>,
    end: Arc<Notify>,
}

impl Served {
    async fn with(bounds: Connections) -> Self {
        let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, ended) = (Arc::clone(&begun), Arc::clone(&end));
        let slow = move || async move {
            told.notify_one();
            ended.notified().await;
            "late"
        };
        let router = Router::new().route("/", get(async || "here")).route("/slow", get(slow));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, router, bounds, stop.clone()));
        Self { address, stop, serving, begun, end }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    String::from_utf8(bytes).unwrap()
}

/// One answer, whole.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 1024];
    let count = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer").unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[tokio::test]
async fn a_head_in_time_is_answered_however_long_the_connection_rested_before() {
    let served = Served::with(Connections { head_timeout: PATIENCE, ..Connections::STANDARD }).await;
    let mut stream = served.connect().await;
    for _ in 0..2 {
        stream.write_all(GET).await.unwrap();
        assert!(answer(&mut stream).await.ends_with("here"));
        sleep(MOMENT).await;
    }
}

#[tokio::test]
async fn who_has_come_when_it_stops_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        streams.push(stream);
    }
    let stop = CancellationToken::new();
    stop.cancel();
    let router = Router::new().route("/", get(async || "here"));
    serve(listener, router, Connections::STANDARD, stop).await;
    for stream in &mut streams {
        let said = rest(stream).await;
        assert!(said.ends_with("here"), "{said:?}");
    }
}

#[tokio::test]
async fn a_head_that_drips_in_ends_the_connection() {
    let served = Served::with(Connections { head_timeout: MOMENT, ..Connections::STANDARD }).await;
    let stream = served.connect().await;
    let (mut from, mut to) = stream.into_split();
    // A byte now and then does not buy more time.
    let drip = tokio::spawn(async move {
        for byte in
            std::iter::once(b"GET / HTTP/1.1\r\nx: ".as_slice()).chain(std::iter::repeat(b"x".as_slice()))
        {
            if to.write_all(byte).await.is_err() {
                return;
            }
            sleep(MOMENT / 10).await;
        }
    });
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, from.read_to_end(&mut bytes)).await.expect("the connection is closed");
    drip.abort();
    assert!(!String::from_utf8(bytes).unwrap().contains("200"));
}

#[tokio::test]
async fn a_head_that_is_too_long_or_has_too_many_headers_is_refused() {
    let bounds = Connections { head_bytes_max: 16 << 10, headers_max: 20, ..Connections::STANDARD };
    let served = Served::with(bounds).await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(21));
    for head in [long, many] {
        let mut stream = served.connect().await;
        let _ = stream.write_all(head.as_bytes()).await;
        let said = rest(&mut stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    }
    let mut stream = served.connect().await;
    let few = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(20));
    stream.write_all(few.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.ends_with("here"));
}

#[tokio::test]
async fn one_connection_too_many_waits_for_a_seat() {
    let served = Served::with(Connections { open_max: 1, ..Connections::STANDARD }).await;
    let mut first = served.connect().await;
    first.write_all(GET).await.unwrap();
    assert!(answer(&mut first).await.ends_with("here"));
    let mut second = served.connect().await;
    second.write_all(GET).await.unwrap();
    assert!(timeout(MOMENT, second.readable()).await.is_err(), "served beside the first");
    drop(first);
    assert!(answer(&mut second).await.ends_with("here"));
}

#[tokio::test]
async fn closing_lets_a_request_end_and_takes_no_new_one() {
    let served = Served::with(Connections { close_timeout: PATIENCE, ..Connections::STANDARD }).await;
    let mut running = served.connect().await;
    running.write_all(b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    served.begun.notified().await;
    let mut resting = served.connect().await;
    resting.write_all(GET).await.unwrap();
    answer(&mut resting).await;
    served.stop.cancel();
    assert_eq!(rest(&mut resting).await, "", "a connection at rest is closed");
    assert!(!served.serving.is_finished(), "the request still runs");
    served.end.notify_one();
    assert!(rest(&mut running).await.ends_with("late"));
    timeout(PATIENCE, served.serving).await.expect("it closes").unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn closing_does_not_wait_for_ever() {
    let served = Served::with(Connections { close_timeout: MOMENT, ..Connections::STANDARD }).await;
    let mut running = served.connect().await;
    running.write_all(b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    served.begun.notified().await;
    served.stop.cancel();
    timeout(PATIENCE, served.serving).await.expect("it closes all the same").unwrap();
}
