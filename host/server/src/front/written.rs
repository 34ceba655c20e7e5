//! What of a request keeps the order in which it was written: its schemas.
//!
//! The rest is read as a [`serde_json::Value`], whose objects are sorted by name. A model that is held to a schema answers
//! in the schema's order, so it is read once more for these.

use chela_gateway::{Form, Schema};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::asked::Asked;

/// Where schemas stand in either format.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    tools: Option<Vec<Tool<'a>>>,
    #[serde(borrow)]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(borrow)]
    output_config: Option<OutputConfig<'a>>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ResponseFormat<'a> {
    #[serde(borrow)]
    json_schema: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct OutputConfig<'a> {
    #[serde(borrow)]
    format: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

impl Asked {
    /// The same, with its schemas as they stand in the body that it was read from.
    ///
    /// # Errors
    /// A body that names one of these fields twice.
    pub(super) fn in_their_order(mut self, body: &[u8]) -> Result<Self, serde_json::Error> {
        if self.tools.is_empty() && !matches!(self.form, Form::JsonSchema { .. }) {
            return Ok(self);
        }
        let written: Written<'_> = serde_json::from_slice(body)?;
        for (tool, written) in self.tools.iter_mut().zip(written.tools.unwrap_or_default()) {
            let schema = written.function.and_then(|function| function.parameters).or(written.input_schema);
            put(&mut tool.parameters, schema);
        }
        if let Form::JsonSchema { schema, .. } = &mut self.form {
            let format = written.response_format.and_then(|format| format.json_schema);
            let format = format.or(written.output_config.and_then(|config| config.format));
            put(schema, format.and_then(|format| format.schema));
        }
        Ok(self)
    }
}

fn put(schema: &mut Schema, written: Option<&RawValue>) {
    if let Some(written) = written.and_then(|written| Schema::read(written.get())) {
        *schema = written;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wire;
    use super::*;

    const SCHEMA: &str =
        r#"{"type":"object","properties":{"reasoning":{"type":"string"},"answer":{"type":"string"}}}"#;

    fn schemas(wire: Wire, body: &str) -> Vec<String> {
        let asked =
            wire.read(&serde_json::from_str(body).unwrap()).unwrap().in_their_order(body.as_bytes()).unwrap();
        let of_tools = asked.tools.into_iter().map(|tool| tool.parameters);
        let of_form = match asked.form {
            Form::JsonSchema { schema, .. } => Some(schema),
            Form::Text | Form::JsonObject => None,
        };
        of_tools.chain(of_form).map(|schema| schema.as_str().to_owned()).collect()
    }

    #[test]
    fn schemas_keep_the_order_of_their_properties() {
        let spaced = SCHEMA.replace(':', " : ");
        let common = r#""model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]"#;
        let openai = format!(
            r#"{{{common}, "tools": [{{"type": "function", "function": {{"name": "a"}}}},
            {{"type": "function", "function": {{"name": "b", "parameters": {spaced}}}}}],
            "response_format": {{"type": "json_schema", "json_schema": {{"name": "n", "schema": {spaced}}}}}}}"#
        );
        let none = r#"{"properties":{},"type":"object"}"#;
        assert_eq!(schemas(Wire::OpenAi, &openai), [none, SCHEMA, SCHEMA]);
        let anthropic = format!(
            r#"{{{common}, "tools": [{{"name": "a", "input_schema": {spaced}}}],
            "output_config": {{"format": {{"type": "json_schema", "schema": {spaced}}}}}}}"#
        );
        assert_eq!(schemas(Wire::Anthropic, &anthropic), [SCHEMA, SCHEMA]);
    }
}
