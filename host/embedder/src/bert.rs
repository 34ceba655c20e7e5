//! BERT, from the numbers of words to one vector: embeddings, layers of attention, the mean of all places, length 1.
//!
//! One text at a time, so that nothing is padded: a vector does not depend on what else was asked. Shapes were checked when
//! the weights were read.

use ndarray::{Array1, Array2, ArrayView2, Axis, Slice};

/// The model.
pub(crate) struct Bert {
    pub(crate) words: Array2<f32>,
    pub(crate) places: Array2<f32>,
    pub(crate) kind: Array1<f32>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
    pub(crate) heads: usize,
}

/// One layer.
pub(crate) struct Layer {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) attended: Linear,
    pub(crate) attended_norm: Norm,
    pub(crate) wide: Linear,
    pub(crate) narrow: Linear,
    pub(crate) norm: Norm,
}

/// `x · weightᵀ + bias`.
pub(crate) struct Linear {
    /// As many rows as come out, as many columns as go in.
    pub(crate) weight: Array2<f32>,
    pub(crate) bias: Array1<f32>,
}

/// Each row with mean 0 and variance 1, then scaled.
pub(crate) struct Norm {
    pub(crate) weight: Array1<f32>,
    pub(crate) bias: Array1<f32>,
    pub(crate) eps: f32,
}

impl Bert {
    /// The vector of a text of at least one word. Numbers of words and their count are within the model's.
    pub(crate) fn vector(&self, ids: &[u32]) -> Vec<f32> {
        let rows: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
        let mut hidden = self.words.select(Axis(0), &rows);
        hidden += &self.places.slice_axis(Axis(0), Slice::from(..rows.len()));
        hidden += &self.kind;
        self.norm.apply(&mut hidden);
        for layer in &self.layers {
            hidden = layer.apply(&hidden, self.heads);
        }
        let mean = hidden.sum_axis(Axis(0)) / rows.len() as f32;
        let length = mean.dot(&mean).sqrt().max(f32::MIN_POSITIVE);
        (mean / length).to_vec()
    }
}

impl Layer {
    fn apply(&self, hidden: &Array2<f32>, heads: usize) -> Array2<f32> {
        let mut attended = self.attended.apply(&self.attention(hidden, heads));
        attended += hidden;
        self.attended_norm.apply(&mut attended);
        let mut wide = self.wide.apply(&attended);
        wide.mapv_inplace(gelu);
        let mut out = self.narrow.apply(&wide);
        out += &attended;
        self.norm.apply(&mut out);
        out
    }

    /// What each place takes from all places, by each head for its part of the width.
    fn attention(&self, hidden: &Array2<f32>, heads: usize) -> Array2<f32> {
        let (query, key, value) =
            (self.query.apply(hidden), self.key.apply(hidden), self.value.apply(hidden));
        let mut taken = Array2::zeros(hidden.raw_dim());
        let width = hidden.ncols() / heads;
        for head in 0..heads {
            let part = Slice::from(head * width..(head + 1) * width);
            let of = |whole: &Array2<f32>| whole.slice_axis(Axis(1), part).to_owned();
            let mut scores = of(&query).dot(&of(&key).t()) / (width as f32).sqrt();
            softmax(&mut scores);
            taken.slice_axis_mut(Axis(1), part).assign(&scores.dot(&of(&value)));
        }
        taken
    }
}

impl Linear {
    fn apply(&self, rows: &Array2<f32>) -> Array2<f32> {
        let weight: ArrayView2<'_, f32> = self.weight.t();
        rows.dot(&weight) + &self.bias
    }
}

impl Norm {
    fn apply(&self, rows: &mut Array2<f32>) {
        for mut row in rows.rows_mut() {
            let count = row.len() as f32;
            let mean = row.sum() / count;
            row -= mean;
            let deviation = (row.dot(&row) / count + self.eps).sqrt();
            row /= deviation;
            row *= &self.weight;
            row += &self.bias;
        }
    }
}

/// Each row as shares of one.
fn softmax(rows: &mut Array2<f32>) {
    for mut row in rows.rows_mut() {
        let most = row.fold(f32::NEG_INFINITY, |most, number| most.max(*number));
        row.mapv_inplace(|number| (number - most).exp());
        let sum = row.sum();
        row /= sum;
    }
}

/// The exact one: a share of the number, by how many of a normal distribution are below it.
fn gelu(number: f32) -> f32 {
    0.5 * number * (1.0 + libm::erff(number * std::f32::consts::FRAC_1_SQRT_2))
}
