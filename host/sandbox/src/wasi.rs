//! Stand-ins for what the guests' standard libraries import: an empty environment, closed stdin, stdout and stderr
//! into the plugin's log, a virtual clock, randomness from a seed. Never files, never sockets.
//!
//! `io` and `cli` are wasmtime-wasi's own, over a context that is only made once a guest touches it: most never do,
//! and its making costs more than their whole call. Clocks and randomness are written here, because they must be
//! bit for bit the same in a replay and must not answer at all during `init`.

use crate::call::Call;
use crate::log::GuestLog;
use crate::time::VirtualTime;
use bytes::Bytes;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Result, bail};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::{cli, random};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::IoView;

/// Most random bytes in one call.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// What a stream of stdout takes at once.
const STDIO_PERMIT_BYTES: usize = 4 << 10;

/// Adds the stand-ins.
pub(crate) fn add_to_linker<L: Send + 'static>(linker: &mut Linker<Call<L>>) -> Result<()> {
    type Own<L> = HasSelf<Call<L>>;
    wasmtime_wasi_io::add_to_linker_async(linker)?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, Call::cli)?;
    wall_clock::add_to_linker::<_, Own<L>>(linker, |call| call)?;
    monotonic_clock::add_to_linker::<_, Own<L>>(linker, |call| call)?;
    random::random::add_to_linker::<_, Own<L>>(linker, |call| call)?;
    random::insecure::add_to_linker::<_, Own<L>>(linker, |call| call)?;
    random::insecure_seed::add_to_linker::<_, Own<L>>(linker, |call| call)
}

/// The context behind `io` and `cli`.
pub(crate) fn context(log: &Arc<Mutex<GuestLog>>) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder.stdout(Stdio(log.clone())).stderr(Stdio(log.clone()));
    builder.build()
}

impl<L: Send> IoView for Call<L> {
    fn table(&mut self) -> &mut ResourceTable {
        self.polls();
        Call::table(self)
    }
}

impl<L: Send> WasiView for Call<L> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (ctx, table) = self.wasi();
        WasiCtxView { ctx, table }
    }
}

/// stdout or stderr of a guest.
struct Stdio(Arc<Mutex<GuestLog>>);

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(self.0.clone()))
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(Self(self.0.clone()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl OutputStream for Stdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().write_stdio(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(STDIO_PERMIT_BYTES)
    }
}

impl tokio::io::AsyncWrite for Stdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().write_stdio(&Bytes::copy_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<L: Send> wall_clock::Host for Call<L> {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        let now = Duration::from_nanos(self.time("the wall clock")?.read_wall());
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000 })
    }
}

impl<L: Send> monotonic_clock::Host for Call<L> {
    fn now(&mut self) -> Result<u64> {
        Ok(self.time("the monotonic clock")?.read_monotonic())
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<DynPollable>> {
        let time = self.time("sleeping")?.clone();
        let alarm = Call::table(self).push(Alarm { when, time })?;
        subscribe(Call::table(self), alarm)
    }

    fn subscribe_duration(&mut self, nanos: u64) -> Result<Resource<DynPollable>> {
        let when = self.time("sleeping")?.monotonic().saturating_add(nanos);
        self.subscribe_instant(when)
    }
}

/// Ready when the virtual clock stands at `when`; waits that long in real time, and moves the clock there.
struct Alarm {
    when: u64,
    time: VirtualTime,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        let wait = self.when.saturating_sub(self.time.monotonic());
        if wait == 0 {
            tokio::task::yield_now().await; // a guest that polls in a loop lets others run
        } else {
            tokio::time::sleep(Duration::from_nanos(wait)).await; // the call's deadline stands outside
            self.time.move_to_monotonic(self.when);
        }
    }
}

fn bounded(len: u64) -> Result<Vec<u8>> {
    if len > RANDOM_BYTES_MAX {
        bail!("{len} random bytes asked for at once, the limit is {RANDOM_BYTES_MAX}");
    }
    Ok(vec![0; usize::try_from(len)?])
}

impl<L: Send> random::random::Host for Call<L> {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = bounded(len)?;
        self.randomness()?.secure(&mut bytes);
        Ok(bytes)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.randomness()?.secure(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
}

impl<L: Send> random::insecure::Host for Call<L> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = bounded(len)?;
        self.randomness()?.insecure(&mut bytes);
        Ok(bytes)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.randomness()?.insecure(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
}

impl<L: Send> random::insecure_seed::Host for Call<L> {
    /// Answers during `init` too: the hash maps of standard libraries cannot be made without.
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok(self.hash_seed())
    }
}
