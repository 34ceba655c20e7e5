//! The released program's doors, spoken to over TCP: what operators are served, what slow and greedy senders get,
//! what becomes of them all when the host is told to stop, and what a system does that gives it little.

use std::io::{PipeReader, PipeWriter, Write};
use std::net::SocketAddr;
use std::time::Duration;

use chela_server::standin::Fault;
use chela_server::standin::webhook::{Event, Say};
use chela_tests::browser::{Browser, CHATS};
use chela_tests::kill::configuration;
use chela_tests::process::Process;
use chela_tests::{Outside, PATIENCE, eventually};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A host for the outside, with further keys of `[server]`.
fn prepare(outside: &Outside, keys: &str) -> Process {
    Process::prepare_with(keys, |folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        format!("{}{CHATS}", configuration(outside))
    })
}

/// The same, ready.
async fn ready(outside: &Outside, keys: &str) -> Process {
    let mut process = prepare(outside, keys);
    process.start();
    process.ready().await;
    process
}

/// An HTTP answer, as it came.
struct Answer(String);

impl Answer {
    /// Reads until the other side closes.
    async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
        Self(String::from_utf8(bytes).unwrap())
    }

    fn status(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    fn has(&self, text: &str) -> bool {
        self.0.to_lowercase().contains(text)
    }
}

/// A request of which only the beginning has been sent.
async fn begin(to: SocketAddr, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let text = format!("{head}\r\nhost: chela\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn get(to: SocketAddr, path: &str, headers: &str) -> Answer {
    Answer::read(begin(to, &format!("GET {path} HTTP/1.1{headers}"), "").await).await
}

/// What operators send along.
fn authorization(process: &Process) -> String {
    let token = std::fs::read_to_string(process.data().join("admin.token")).unwrap();
    format!("\r\nauthorization: Bearer {token}")
}

/// The metrics as soon as no turn is open.
async fn idle(process: &Process) -> Answer {
    let right = authorization(process);
    let mut metrics = Answer(String::new());
    eventually("nothing is open any more", async || {
        metrics = get(process.admin, "/metrics", &right).await;
        ["turns_waiting", "turns_working", "turns_answered"]
            .iter()
            .all(|gauge| metrics.0.contains(&format!("\n{gauge} 0\n")))
    })
    .await;
    metrics
}

fn say(text: &str) -> Say {
    Say { sender: "ann".to_owned(), text: text.to_owned(), ..Say::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_served_with_the_token_only_and_apart_from_the_public() {
    const PATHS: [&str; 4] = ["/metrics", "/status", "/plugins", "/turns"];
    let outside = Outside::new().await;
    let mut process = ready(&outside, "").await;
    let (_, sent) = outside.partner.say(&process.channel("partner"), &say("an order")).await.unwrap();
    assert!(sent.is_acknowledged(), "{sent:?}");
    eventually("it is answered", async || outside.partner.replies().all().len() == 1).await;
    let token = std::fs::read_to_string(process.data().join("admin.token")).unwrap();
    let longer = format!("{token}0");
    for path in PATHS {
        for wrong in ["", "\r\nauthorization: Bearer", "\r\nauthorization: Basic YTpi"] {
            let answer = get(process.admin, path, wrong).await;
            assert_eq!(answer.status(), "401", "{path} {wrong}: {}", answer.0);
        }
        for wrong in ["0", &token[1..], &longer] {
            let answer = get(process.admin, path, &format!("\r\nauthorization: Bearer {wrong}")).await;
            assert_eq!(answer.status(), "401", "{path}");
        }
        let right = authorization(&process);
        assert_eq!(get(process.admin, path, &right).await.status(), "200", "{path}");
        assert_eq!(get(process.public, path, &right).await.status(), "404", "{path} is not the public's");
    }
    let metrics = idle(&process).await;
    let expected = "webhooks_total{channel=\"partner\",result=\"accepted\"} 1";
    assert!(metrics.0.contains(expected), "{}", metrics.0);
    for gauge in ["store_readable 1", "oldest_turn_seconds 0", "ambiguous_sends 0"] {
        assert!(metrics.0.contains(&format!("\n{gauge}\n")), "{gauge} in {}", metrics.0);
    }
    let refused = "refused_total{code=\"unauthorized\"} 24";
    assert!(metrics.0.contains(refused), "{refused} in {}", metrics.0);
    assert!(metrics.has("\nplugin_calls_total{") && !metrics.has("chela_"), "{}", metrics.0);
    assert!(
        !metrics.has("an order") && !process.log().contains("an order"),
        "nobody's words leave the store"
    );
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for_and_takes_one_seat_only_so_long() {
    let outside = Outside::new().await;
    let mut process = ready(&outside, "requests_max = 1\nrequest_timeout_s = 5").await;
    let head = "POST /channels/partner HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 500";
    // The seat is taken from when the head was read; if it is another one's at that moment, this one is told to come again.
    let seated = async {
        loop {
            let slow = tokio::spawn(Answer::read(begin(process.public, head, "{").await));
            while !slow.is_finished() {
                let answer = get(process.public, "/channels/partner", "").await;
                if answer.status() == "503" {
                    return (slow, answer);
                }
            }
        }
    };
    let (slow, busy) = tokio::time::timeout(Duration::from_secs(60), seated).await.unwrap();
    assert!(busy.has("retry-after: 1") && busy.has("\"busy\""), "{}", busy.0);
    assert_eq!(
        get(process.public, "/healthz", "").await.status(),
        "200",
        "load balancers are told all the same"
    );
    let slow = slow.await.unwrap();
    assert_eq!(slow.status(), "503", "{}", slow.0);
    assert!(slow.has("timed_out"), "{}", slow.0);
    let (_, sent) = outside.partner.say(&process.channel("partner"), &say("an order")).await.unwrap();
    assert!(sent.is_acknowledged(), "the seat is free again: {sent:?}");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_whether_or_not_it_says_its_length() {
    let outside = Outside::new().await;
    let mut process = ready(&outside, "body_bytes_max = 1024").await;
    let head = "POST /channels/partner HTTP/1.1\r\ncontent-type: application/json";
    let said = begin(process.public, &format!("{head}\r\ncontent-length: 1025"), "").await;
    assert_eq!(Answer::read(said).await.status(), "413");
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(1025));
    let unsaid = begin(process.public, &format!("{head}\r\ntransfer-encoding: chunked"), &chunk).await;
    assert_eq!(Answer::read(unsaid).await.status(), "413");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_says_so_finishes_what_runs_and_still_takes_what_comes() {
    let outside = Outside::new().await;
    let mut process = ready(&outside, "drain_s = 60").await;
    outside.provider.faults().inject(&Fault::Delay(Duration::from_secs(10)), 1);
    let partner = process.channel("partner");
    let (_, sent) = outside.partner.say(&partner, &say("the first")).await.unwrap();
    assert!(sent.is_acknowledged(), "{sent:?}");
    eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    process.tell_to_stop();
    eventually("load balancers are told", async || {
        let answer = get(process.public, "/readyz", "").await;
        answer.status() == "503" && answer.has("draining")
    })
    .await;
    let (_, late) = outside.partner.say(&partner, &say("the second")).await.unwrap();
    assert!(late.is_acknowledged(), "a late message is kept: {late:?}");
    assert!(process.ended().await, "{}", process.log());
    let texts =
        || outside.partner.replies().all().into_iter().map(|reply| reply.reply.text).collect::<Vec<_>>();
    assert_eq!(texts().len(), 1, "what ran was finished, what came late was not begun: {:?}", texts());
    assert!(texts()[0].contains("the first"));
    process.start();
    eventually("the late one is answered after the next start", async || texts().len() == 2).await;
    assert!(texts()[1].contains("the second"));
    assert!(process.terminate().await);
}

/// Somebody's message is taken and answered.
async fn serves(process: &Process, outside: &Outside, text: &str) {
    let before = outside.partner.replies().len();
    let (_, sent) = outside.partner.say(&process.channel("partner"), &say(text)).await.unwrap();
    assert!(sent.is_acknowledged(), "{sent:?}");
    eventually("it is answered", async || outside.partner.replies().len() > before).await;
}

/// A program that is started by the shell after `words`.
fn after(words: &str) -> Vec<String> {
    ["sh", "-c", &format!("{words}; exec \"$@\""), "sh"].map(str::to_owned).to_vec()
}

/// The reader of the log had ended, and with it each task that had something to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_is_gone_harms_nobody() {
    let outside = Outside::new().await;
    let mut process = prepare(&outside, "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    process.start_with(writer);
    process.ready().await;
    serves(&process, &outside, "an order").await;
    assert!(process.terminate().await);
}

/// A pipe that takes no byte more, and its end that nobody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let outside = Outside::new().await;
    let mut process = prepare(&outside, "");
    let (_unread, writer) = full_pipe();
    process.start_with(writer);
    process.ready().await;
    serves(&process, &outside, "an order").await;
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_soft_limit_of_files_is_raised_for_three_hundred_streams() {
    let outside = Outside::new().await;
    let mut process = prepare(&outside, "");
    process.wrapper = after("ulimit -Sn 128");
    process.start();
    process.ready().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let browser = Browser::begin(&process.channel("web")).await;
        for _ in 0..15 {
            streams.push(browser.events(0).await.unwrap());
        }
    }
    assert_eq!(streams.len(), 300);
    serves(&process, &outside, "an order").await;
    drop(streams);
    assert!(process.terminate().await);
}

/// The status of a signed message's delivery, and the whole answer.
async fn deliver(process: &Process, outside: &Outside, event: &Event) -> Answer {
    let mut head = format!("POST /channels/partner HTTP/1.1\r\ncontent-length: {}", event.body.len());
    for (name, value) in &outside.partner.signed(&event.id, &event.body).unwrap() {
        head.push_str(&format!("\r\n{name}: {}", value.to_str().unwrap()));
    }
    Answer::read(begin(process.public, &head, std::str::from_utf8(&event.body).unwrap()).await).await
}

/// A disk that takes nothing more, made of a limit on files' sizes.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_to_load_balancers_and_senders_and_is_got_over() {
    let outside = Outside::new().await;
    let mut process = prepare(&outside, "");
    // The signal that goes with the error would end the process.
    process.wrapper = after("trap '' XFSZ");
    process.start();
    process.ready().await;
    // What a plugin's first call prepares in memory is a file to the system too.
    serves(&process, &outside, "the first").await;
    // An answer whose delivery is not written down yet would be sent again.
    idle(&process).await;
    let full = Rlimit { current: Some(0), ..getrlimit(Resource::Fsize) };
    let before = prlimit(Some(process.pid()), Resource::Fsize, full).unwrap();
    let event = outside.partner.event(&say("an order")).unwrap();
    let refused = deliver(&process, &outside, &event).await;
    assert_eq!(refused.status(), "503", "{}", refused.0);
    assert!(refused.has("retry-after: "), "{}", refused.0);
    let unready = get(process.public, "/readyz", "").await;
    assert_eq!(unready.status(), "503", "{}", unready.0);
    assert!(unready.has("the store cannot write"), "{}", unready.0);
    assert_eq!(get(process.public, "/healthz", "").await.status(), "200");
    prlimit(Some(process.pid()), Resource::Fsize, before).unwrap();
    process.ready().await;
    assert_eq!(deliver(&process, &outside, &event).await.status(), "200");
    eventually("it is answered", async || outside.partner.replies().len() == 2).await;
    let second = outside.partner.replies().all().remove(1).reply.text;
    assert!(second.contains("an order"), "{second}");
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_with_the_same_file_is_told_of_the_first() {
    let outside = Outside::new().await;
    let mut process = ready(&outside, "").await;
    let second = process.command(&["up", "--config", "chela.toml"]).output().await.unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    let owner = format!("is in use by process {}", process.pid().as_raw_nonzero());
    assert!(said.contains(&owner) && !said.contains("could not listen"), "{said}");
    serves(&process, &outside, "an order").await;
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_turns_are_listed_whether_or_not_a_host_runs() {
    let outside = Outside::new().await;
    let mut process = ready(&outside, "").await;
    serves(&process, &outside, "the first").await;
    serves(&process, &outside, "the second").await;
    let run = async |process: &Process, arguments: &[&str]| {
        let output = process.command(arguments).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut running = String::new();
    eventually("both are delivered", async || {
        running = run(&process, &["turn", "list"]).await;
        running.matches("delivered").count() == 2
    })
    .await;
    assert!(running.contains("partner") && running.contains("support"), "{running}");
    let json = run(&process, &["turn", "list", "--limit", "1", "--json"]).await;
    let newest: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(newest.as_array().unwrap().len(), 1);
    let id = newest[0]["id"].as_str().unwrap();
    assert!(running.contains(id), "{id} in {running}");
    let shown = run(&process, &["turn", "show", id, "--content"]).await;
    assert!(shown.contains("the second"), "{shown}");
    assert!(process.terminate().await);
    assert_eq!(run(&process, &["turn", "list"]).await, running, "the store tells the same");
}
