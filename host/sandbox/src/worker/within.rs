//! Reads what another process says within what it may become here. An empty text is one byte on the way and twenty-four
//! in memory; so a bound on a frame alone would let a worker that somebody has taken over grow the host by a multiple of
//! it. Lists are counted as the engine counts them where a guest runs in this process: each element as large as it is.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use std::cell::Cell;
use std::{fmt, io};

use super::frame::broken;

/// A value whose lists take at most `lists_bytes_max` bytes of memory, and what follows it.
pub(crate) fn split<T: DeserializeOwned>(bytes: &[u8], lists_bytes_max: usize) -> io::Result<(T, &[u8])> {
    let left = Cell::new(Some(lists_bytes_max));
    let mut postcard = postcard::Deserializer::from_bytes(bytes);
    let read = T::deserialize(Counted { inner: &mut postcard, left: &left, is_list: false });
    match (read, left.get()) {
        (Ok(value), _) => Ok((value, postcard.finalize().map_err(|error| broken(&error.to_string()))?)),
        (Err(_), None) => Err(broken(&format!("lists of more than {lists_bytes_max} bytes"))),
        (Err(error), Some(_)) => Err(broken(&error.to_string())),
    }
}

/// The same, of a value that is the whole.
pub(crate) fn decoded<T: DeserializeOwned>(bytes: &[u8], lists_bytes_max: usize) -> io::Result<T> {
    match split(bytes, lists_bytes_max)? {
        (value, []) => Ok(value),
        _ => Err(broken("something behind the end of a value")),
    }
}

/// What reads or is read, with the bytes that are left for lists; none left once that was too few.
struct Counted<'a, T> {
    inner: T,
    left: &'a Cell<Option<usize>>,
    /// The elements that follow are a list's, and not the fields of one value.
    is_list: bool,
}

impl<'a, T> Counted<'a, T> {
    fn with<U>(&self, inner: U) -> Counted<'a, U> {
        Counted { inner, left: self.left, is_list: false }
    }

    fn charge<E: Error>(&self, bytes: usize) -> Result<(), E> {
        self.left.set(self.left.get().and_then(|left| left.checked_sub(bytes)));
        self.left.get().map(drop).ok_or_else(|| E::custom("too much in lists"))
    }
}

/// Methods that hand everything on.
macro_rules! read {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let Self { inner, left, .. } = self;
            inner.$method($($argument,)* Counted { inner: visitor, left, is_list: false })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Counted<'_, D> {
    type Error = D::Error;

    read! {
        deserialize_any(); deserialize_bool(); deserialize_i8(); deserialize_i16(); deserialize_i32();
        deserialize_i64(); deserialize_i128(); deserialize_u8(); deserialize_u16(); deserialize_u32();
        deserialize_u64(); deserialize_u128(); deserialize_f32(); deserialize_f64(); deserialize_char();
        deserialize_str(); deserialize_string(); deserialize_bytes(); deserialize_byte_buf();
        deserialize_option(); deserialize_unit(); deserialize_identifier(); deserialize_ignored_any();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, left, .. } = self;
        inner.deserialize_seq(Counted { inner: visitor, left, is_list: true })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Self { inner, left, .. } = self;
        inner.deserialize_map(Counted { inner: visitor, left, is_list: true })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The same of values.
macro_rules! visit {
    ($($method:ident($type:ty);)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Counted<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool(bool); visit_i8(i8); visit_i16(i16); visit_i32(i32); visit_i64(i64); visit_i128(i128);
        visit_u8(u8); visit_u16(u16); visit_u32(u32); visit_u64(u64); visit_u128(u128); visit_f32(f32);
        visit_f64(f64); visit_char(char); visit_str(&str); visit_borrowed_str(&'de str); visit_string(String);
        visit_bytes(&[u8]); visit_borrowed_bytes(&'de [u8]); visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_some(value)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_newtype_struct(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let elements = Counted { is_list: self.is_list, ..self.with(elements) };
        self.inner.visit_seq(elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let entries = Counted { is_list: self.is_list, ..self.with(entries) };
        self.inner.visit_map(entries)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        let data = self.with(data);
        self.inner.visit_enum(data)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Counted<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.deserialize(deserializer)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        let element = self.inner.next_element_seed(seed)?;
        if self.is_list && element.is_some() {
            self.charge(size_of::<S::Value>())?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        let key = self.inner.next_key_seed(seed)?;
        if self.is_list && key.is_some() {
            self.charge(size_of::<S::Value>())?;
        }
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        if self.is_list {
            self.charge(size_of::<S::Value>())?;
        }
        let seed = self.with(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Counted<'a, A> {
    type Error = A::Error;
    type Variant = Counted<'a, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner, left, .. } = self;
        let (value, variant) = inner.variant_seed(Counted { inner: seed, left, is_list: false })?;
        Ok((value, Counted { inner: variant, left, is_list: false }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.tuple_variant(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Said {
        Nothing,
        One(Option<String>),
        Many { keys: Vec<Vec<String>>, pair: (u8, f32) },
        Named(BTreeMap<String, Vec<u8>>, [i64; 2]),
    }

    fn bytes(said: &Said) -> Vec<u8> {
        postcard::to_stdvec(said).unwrap()
    }

    #[test]
    fn whatever_is_within_its_bounds_is_read_as_it_was_written() {
        for said in [
            Said::Nothing,
            Said::One(None),
            Said::One(Some("ä".to_owned())),
            Said::Many { keys: vec![vec!["a".to_owned()], Vec::new()], pair: (7, -0.5) },
            Said::Named([("k".to_owned(), vec![1, 2])].into(), [i64::MIN, 3]),
        ] {
            assert_eq!(decoded::<Said>(&bytes(&said), 1_000).unwrap(), said);
        }
        let two = [bytes(&Said::Nothing), vec![9]].concat();
        assert_eq!(split::<Said>(&two, 0).unwrap(), (Said::Nothing, &[9][..]));
        assert!(decoded::<Said>(&two, 0).unwrap_err().to_string().contains("behind the end"));
        assert!(decoded::<Said>(&[1, 1, 200], 1_000).is_err(), "cut off");
    }

    /// Three keys of 24 bytes, and a part of one of them.
    fn keys() -> Vec<u8> {
        let keys = vec![Vec::new(), Vec::new(), vec!["a".to_owned()]];
        bytes(&Said::Many { keys, pair: (0, 0.0) })
    }

    #[test]
    fn lists_obeyed() {
        assert!(decoded::<Said>(&keys(), 4 * 24).is_ok());
    }

    #[test]
    fn lists_violated() {
        let error = decoded::<Said>(&keys(), 4 * 24 - 1).unwrap_err();
        assert_eq!(error.to_string(), "lists of more than 95 bytes");
        // A megabyte that would become twenty-four.
        let many = postcard::to_stdvec(&vec![""; 1 << 20]).unwrap();
        assert!(decoded::<Vec<String>>(&many, 8 << 20).unwrap_err().to_string().contains("lists of more"));
        assert!(decoded::<Vec<String>>(&many, 24 << 20).is_ok());
    }
}
