//! The weights of a model: each is there, has its shape, and is a number.

use std::fs;
use std::path::Path;

use ndarray::{Array1, Array2};

use crate::Error;
use crate::bert::{Bert, Layer, Linear, Norm};
use crate::folder::Shape;
use crate::tensors::Tensors;

/// Before each name, where the model was kept within a larger one.
const PREFIXES: [&str; 2] = ["", "bert."];

/// Reads a file of weights.
pub(crate) fn read(file: &Path, shape: &Shape) -> Result<Bert, Error> {
    let bytes = fs::read(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
    let tensors = Tensors::read(&bytes)
        .map_err(|error| Error::wrong(file, format!("is no file of weights: {error}")))?;
    let has = |prefix: &&str| tensors.has(&format!("{prefix}embeddings.word_embeddings.weight"));
    let prefix = PREFIXES.into_iter().find(has).unwrap_or_default();
    Weights { file, prefix, tensors, eps: shape.layer_norm_eps }.bert(shape)
}

struct Weights<'a> {
    file: &'a Path,
    prefix: &'static str,
    tensors: Tensors<'a>,
    eps: f32,
}

impl Weights<'_> {
    fn bert(&self, shape: &Shape) -> Result<Bert, Error> {
        let width = shape.hidden_size;
        let kinds = self.matrix("embeddings.token_type_embeddings.weight", [shape.type_vocab_size, width])?;
        let layers = (0..shape.num_hidden_layers).map(|index| self.layer(index, shape));
        Ok(Bert {
            words: self.matrix("embeddings.word_embeddings.weight", [shape.vocab_size, width])?,
            places: self
                .matrix("embeddings.position_embeddings.weight", [shape.max_position_embeddings, width])?,
            // A text alone is of the first kind throughout.
            kind: kinds.row(0).to_owned(),
            norm: self.norm("embeddings.LayerNorm", width)?,
            layers: layers.collect::<Result<_, _>>()?,
            heads: shape.num_attention_heads,
        })
    }

    fn layer(&self, index: usize, shape: &Shape) -> Result<Layer, Error> {
        let (width, wide) = (shape.hidden_size, shape.intermediate_size);
        let at = |name: &str| format!("encoder.layer.{index}.{name}");
        Ok(Layer {
            query: self.linear(&at("attention.self.query"), [width, width])?,
            key: self.linear(&at("attention.self.key"), [width, width])?,
            value: self.linear(&at("attention.self.value"), [width, width])?,
            attended: self.linear(&at("attention.output.dense"), [width, width])?,
            attended_norm: self.norm(&at("attention.output.LayerNorm"), width)?,
            wide: self.linear(&at("intermediate.dense"), [wide, width])?,
            narrow: self.linear(&at("output.dense"), [width, wide])?,
            norm: self.norm(&at("output.LayerNorm"), width)?,
        })
    }

    fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Linear, Error> {
        let [out, _] = shape;
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), shape)?,
            bias: self.row(&format!("{name}.bias"), out)?,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, Error> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Ok(Norm { weight: self.row(&weight, width)?, bias: self.row(&bias, width)?, eps: self.eps })
    }

    fn row(&self, name: &str, width: usize) -> Result<Array1<f32>, Error> {
        Ok(Array1::from_vec(self.numbers(name, &[width])?))
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Array2<f32>, Error> {
        let numbers = self.numbers(name, &shape)?;
        Array2::from_shape_vec(shape, numbers).map_err(|error| self.wrong(name, &error.to_string()))
    }

    fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let found = self.tensors.numbers(&format!("{}{name}", self.prefix), shape);
        found.map_err(|what| self.wrong(name, &what))
    }

    fn wrong(&self, name: &str, what: &str) -> Error {
        Error::wrong(self.file, format!("`{name}` {what}"))
    }
}
