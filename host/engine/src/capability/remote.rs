//! The capabilities seen from a worker: each is a question to the host, and the host answers it with the same function that
//! a guest here would have called.

use chela_sandbox::Call;
use chela_sandbox::worker::Remote;
use serde::{Deserialize, Serialize};
use wasmtime::component::Resource;

use super::{Lends, StreamReader};
use crate::contract::models::{Completion, HostStreamReader, ModelError};
use crate::contract::types::HostError;
use crate::contract::{blobs, http, knowledge, memory, models, tools};

/// What a guest in a worker asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    Complete(models::Request),
    Relay(models::Request),
    Stream(models::Request),
    /// These three by the handle of a stream, which the host looks up among those of the call.
    Next(u32),
    Completion(u32),
    Drop(u32),
    Search(String, u32),
    Get(memory::Scope, String),
    Set(memory::Scope, String, String),
    CompareAndSet(memory::Scope, String, u64, String),
    ListTools(Option<String>),
    CallTool(String, String),
    Fetch(http::Request),
    Read(String, u64),
    Write(String, String, Vec<u8>),
}

/// Answers what a guest in a worker asks.
pub(crate) async fn answer<L>(call: &mut Call<L>, asked: &[u8]) -> wasmtime::Result<Vec<u8>>
where
    Call<L>: Lends,
{
    let asked = call.heard(asked)?;
    answered(call, asked).await
}

async fn answered(call: &mut impl Lends, asked: Asked) -> wasmtime::Result<Vec<u8>> {
    let answer = match asked {
        Asked::Complete(request) => encoded(&call.complete(request).await?),
        Asked::Relay(request) => encoded(&call.relay(request).await?),
        Asked::Stream(request) => {
            encoded(&models::Host::stream(call, request).await?.map(|reader| reader.rep()))
        }
        Asked::Next(reader) => encoded(&call.next(Resource::new_borrow(reader)).await?),
        Asked::Completion(reader) => encoded(&call.completion(Resource::new_borrow(reader)).await?),
        Asked::Drop(reader) => encoded(&HostStreamReader::drop(call, Resource::new_own(reader)).await?),
        Asked::Search(query, limit) => encoded(&call.search(query, limit).await?),
        Asked::Get(scope, key) => encoded(&call.get(scope, key).await?),
        Asked::Set(scope, key, value) => encoded(&call.set(scope, key, value).await?),
        Asked::CompareAndSet(scope, key, expected, value) => {
            encoded(&call.compare_and_set(scope, key, expected, value).await?)
        }
        Asked::ListTools(after) => encoded(&call.list_tools(after).await?),
        Asked::CallTool(name, arguments) => encoded(&tools::Host::call(call, name, arguments).await?),
        Asked::Fetch(request) => encoded(&call.fetch(request).await?),
        Asked::Read(handle, offset) => encoded(&call.read(handle, offset).await?),
        Asked::Write(name, media_type, bytes) => encoded(&call.write(name, media_type, bytes).await?),
    };
    Ok(answer?)
}

fn encoded(answer: &impl Serialize) -> postcard::Result<Vec<u8>> {
    postcard::to_stdvec(answer)
}

type Said<T, E = HostError> = wasmtime::Result<Result<T, E>>;

impl models::Host for Call<Remote> {
    async fn complete(&mut self, request: models::Request) -> Said<Completion, ModelError> {
        self.ask(&Asked::Complete(request)).await
    }

    async fn relay(&mut self, request: models::Request) -> Said<Completion, ModelError> {
        self.ask(&Asked::Relay(request)).await
    }

    async fn stream(&mut self, request: models::Request) -> Said<Resource<StreamReader>, ModelError> {
        let reader: Result<u32, ModelError> = self.ask(&Asked::Stream(request)).await?;
        Ok(reader.map(Resource::new_own))
    }
}

impl HostStreamReader for Call<Remote> {
    async fn next(&mut self, reader: Resource<StreamReader>) -> Said<Option<String>, ModelError> {
        self.ask(&Asked::Next(reader.rep())).await
    }

    async fn completion(&mut self, reader: Resource<StreamReader>) -> Said<Completion, ModelError> {
        self.ask(&Asked::Completion(reader.rep())).await
    }

    async fn drop(&mut self, reader: Resource<StreamReader>) -> wasmtime::Result<()> {
        self.ask(&Asked::Drop(reader.rep())).await
    }
}

impl knowledge::Host for Call<Remote> {
    async fn search(&mut self, query: String, limit: u32) -> Said<Vec<knowledge::Passage>> {
        self.ask(&Asked::Search(query, limit)).await
    }
}

impl memory::Host for Call<Remote> {
    async fn get(&mut self, scope: memory::Scope, key: String) -> Said<Option<memory::Entry>> {
        self.ask(&Asked::Get(scope, key)).await
    }

    async fn set(&mut self, scope: memory::Scope, key: String, value: String) -> Said<u64> {
        self.ask(&Asked::Set(scope, key, value)).await
    }

    async fn compare_and_set(
        &mut self,
        scope: memory::Scope,
        key: String,
        expected: u64,
        value: String,
    ) -> Said<bool> {
        self.ask(&Asked::CompareAndSet(scope, key, expected, value)).await
    }
}

impl tools::Host for Call<Remote> {
    async fn list_tools(&mut self, after: Option<String>) -> Said<Vec<tools::Tool>> {
        self.ask(&Asked::ListTools(after)).await
    }

    async fn call(&mut self, name: String, arguments: String) -> Said<String> {
        self.ask(&Asked::CallTool(name, arguments)).await
    }
}

impl http::Host for Call<Remote> {
    async fn fetch(&mut self, request: http::Request) -> Said<http::Response> {
        self.ask(&Asked::Fetch(request)).await
    }
}

impl blobs::Host for Call<Remote> {
    async fn read(&mut self, handle: String, offset: u64) -> Said<Vec<u8>> {
        self.ask(&Asked::Read(handle, offset)).await
    }

    async fn write(&mut self, name: String, media_type: String, bytes: Vec<u8>) -> Said<String> {
        self.ask(&Asked::Write(name, media_type, bytes)).await
    }
}
