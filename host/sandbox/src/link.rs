//! Links what every plugin may import: `config`, `log` and the stand-ins for WASI. Capabilities are the stations'.

use crate::call::Call;
use crate::log::Level;
use crate::wasi;
use wasmtime::component::{HasSelf, Linker};

/// Bindings of the interfaces that this room serves. The engine's own bindings map to them with `with`:
/// `"chela:plugin/config": chela_sandbox::bindings::chela::plugin::config`, and the same for `log`.
#[allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "generated from wit/0.1.0")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "chela:plugin/base",
        imports: { default: trappable },
        exports: { default: async },
    });
}

use bindings::chela::plugin::{config, log};

impl<L: Send> config::Host for Call<L> {
    fn json(&mut self) -> wasmtime::Result<String> {
        self.configuration()
    }
}

impl<L: Send> log::Host for Call<L> {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log().lock().write(level, &message);
        Ok(())
    }
}

/// Adds all of it to `linker`.
pub(crate) fn base<L: Send + 'static>(linker: &mut Linker<Call<L>>) -> wasmtime::Result<()> {
    config::add_to_linker::<_, HasSelf<Call<L>>>(linker, |call| call)?;
    log::add_to_linker::<_, HasSelf<Call<L>>>(linker, |call| call)?;
    wasi::add_to_linker(linker)
}
