//! A file of weights, as `safetensors` has it: the length of a head, the head (names with type, shape and place, in JSON),
//! then the numbers. Nothing that the head says is believed before it fits the file.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// Largest head, as the format's own library has it.
const HEAD_BYTES_MAX: usize = 100_000_000;

/// The tensors of a file.
pub(crate) struct Tensors<'a> {
    entries: HashMap<String, Entry>,
    numbers: &'a [u8],
}

/// What the head says of one.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl<'a> Tensors<'a> {
    /// Reads the head.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or("it is too short")?;
        let size = usize::try_from(u64::from_le_bytes(*size)).unwrap_or(usize::MAX);
        if size > HEAD_BYTES_MAX {
            return Err("its head is too long".to_owned());
        }
        let (head, numbers) = rest.split_at_checked(size).ok_or("it ends within its head")?;
        let mut head: HashMap<String, Value> =
            serde_json::from_slice(head).map_err(|error| error.to_string())?;
        // Notes of whoever wrote it.
        head.remove("__metadata__");
        let entry = |(name, entry)| Ok((name, serde_json::from_value(entry)?));
        let entries: Result<_, serde_json::Error> = head.into_iter().map(entry).collect();
        Ok(Self { entries: entries.map_err(|error| error.to_string())?, numbers })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The numbers of a tensor, which must have this shape.
    pub(crate) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let entry = self.entries.get(name).ok_or("is not there")?;
        if entry.shape != shape {
            return Err(format!("has the shape {:?}, and by config.json {shape:?}", entry.shape));
        }
        if entry.dtype != "F32" {
            return Err(format!("is of {}: only F32 can be run", entry.dtype));
        }
        let [begin, end] = entry.data_offsets;
        let bytes = self.numbers.get(begin..end).ok_or("is said to lie outside of the file")?;
        let (each, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() || each.len() != shape.iter().product::<usize>() {
            return Err("has another number of numbers than its shape".to_owned());
        }
        let numbers: Vec<f32> = each.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        match numbers.iter().all(|number| number.is_finite()) {
            true => Ok(numbers),
            false => Err("has something that is no number".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(head: &str, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend(head.as_bytes());
        bytes.extend(numbers.iter().copied().flat_map(f32::to_le_bytes));
        bytes
    }

    #[test]
    fn numbers_are_read_from_their_place() {
        let head =
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        let bytes = file(head, &[1.0, 2.0, -3.5]);
        let tensors = Tensors::read(&bytes).unwrap();
        assert!(tensors.has("a") && !tensors.has("__metadata__"));
        assert_eq!(tensors.numbers("a", &[2]).unwrap(), [2.0, -3.5]);
    }

    #[test]
    fn what_does_not_fit_the_file_is_refused() {
        for bytes in [vec![], vec![1; 7], u64::MAX.to_le_bytes().to_vec(), file("", &[])] {
            assert!(Tensors::read(&bytes).is_err(), "{bytes:?}");
        }
        assert!(Tensors::read(&file("{}", &[])[..9]).is_err() && Tensors::read(&file("[]", &[])).is_err());
        assert!(Tensors::read(&file(r#"{"a":{"dtype":"F32"}}"#, &[])).is_err());
        for (entry, told) in [
            (r#""dtype":"F32","shape":[2],"data_offsets":[4,16]"#, "outside"),
            (r#""dtype":"F32","shape":[2],"data_offsets":[8,4]"#, "outside"),
            (r#""dtype":"F32","shape":[2],"data_offsets":[0,12]"#, "another number"),
            (r#""dtype":"F32","shape":[2],"data_offsets":[0,7]"#, "another number"),
            (r#""dtype":"F16","shape":[2],"data_offsets":[0,4]"#, "F16"),
            (r#""dtype":"F32","shape":[3],"data_offsets":[0,12]"#, "shape [3]"),
            (r#""dtype":"F32","shape":[2],"data_offsets":[4,12]"#, "no number"),
        ] {
            let bytes = file(&format!(r#"{{"a":{{{entry}}}}}"#), &[1.0, 2.0, f32::INFINITY]);
            let told_of = Tensors::read(&bytes).unwrap().numbers("a", &[2]).unwrap_err();
            assert!(told_of.contains(told), "{entry}: {told_of}");
        }
    }
}
