//! What is said to a model: texts, images, and what tools were called and told.

use serde::Serialize;
use url::Url;

use crate::tool::{ToolCall, ToolResult};

/// Who said a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person, and the tools that answer the model.
    User,
    /// The model, earlier.
    Assistant,
}

impl Role {
    /// As all wire formats write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One earlier or current utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// Who.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<Part>,
}

/// A part of an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text(String),
    /// An image; of the person's.
    Image(Image),
    /// A tool that the model called.
    ToolCall(ToolCall),
    /// What came of a call; of the person's side.
    ToolResult(ToolResult),
}

impl Prompt {
    /// An utterance that is one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }

    /// Its texts, in order.
    pub fn texts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The tools that were called in it.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    /// What tools answered.
    pub fn tool_results(&self) -> impl Iterator<Item = &ToolResult> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolResult(result) => Some(result),
            _ => None,
        })
    }
}

/// An image: its bytes, or where the provider finds it. One that exists can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image(Source);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Bytes { media: Media, base64: String },
    At(Url),
}

/// The kinds of images that all providers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// `image/jpeg`.
    Jpeg,
    /// `image/png`.
    Png,
    /// `image/gif`.
    Gif,
    /// `image/webp`.
    Webp,
}

impl Media {
    /// From a media type; none if no provider reads it.
    pub fn parse(media_type: &str) -> Option<Self> {
        [Self::Jpeg, Self::Png, Self::Gif, Self::Webp]
            .into_iter()
            .find(|media| media.as_str().eq_ignore_ascii_case(media_type))
    }

    /// The media type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }
}

impl Image {
    /// An image by its bytes in base64; none if they are not that.
    pub fn base64(media: Media, base64: impl Into<String>) -> Option<Self> {
        let base64 = base64.into();
        let digits = base64.trim_end_matches('=');
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let is_base64 =
            !digits.is_empty() && base64.len().is_multiple_of(4) && base64.len() - digits.len() <= 2;
        (is_base64 && digits.bytes().all(fits)).then_some(Self(Source::Bytes { media, base64 }))
    }

    /// An image that the provider fetches; none unless it is at an `https` address.
    pub fn at(url: Url) -> Option<Self> {
        (url.scheme() == "https" && url.has_host()).then_some(Self(Source::At(url)))
    }

    /// As an address: a `data:` one, if these are its bytes. OpenAI's formats want it so.
    pub fn address(&self) -> String {
        match &self.0 {
            Source::Bytes { media, base64 } => format!("data:{};base64,{base64}", media.as_str()),
            Source::At(url) => url.to_string(),
        }
    }

    /// From an address as in [`Image::address`].
    pub fn from_address(address: &str) -> Option<Self> {
        match address.strip_prefix("data:") {
            Some(data) => {
                let (media, base64) = data.split_once(";base64,")?;
                Self::base64(Media::parse(media)?, base64)
            }
            None => Self::at(Url::parse(address).ok()?),
        }
    }

    /// Its kind and bytes in base64, unless it is somewhere else.
    pub fn bytes(&self) -> Option<(Media, &str)> {
        match &self.0 {
            Source::Bytes { media, base64 } => Some((*media, base64)),
            Source::At(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_exists_can_be_sent() {
        for (address, reads) in [
            ("data:image/png;base64,iVBORw0KGgo=", true),
            ("data:image/PNG;base64,iVBORw0KGgo=", true),
            ("https://a.example/b.png", true),
            ("http://a.example/b.png", false),
            ("file:///etc/passwd", false),
            ("data:image/svg+xml;base64,iVBORw0KGgo=", false),
            ("data:image/png;base64,", false),
            ("data:image/png;base64,iVBORw0KGgo", false),
            ("data:image/png;base64,iVBOR!0KGgo=", false),
            ("data:image/png;base64,iVB=", true),
            ("data:image/png;base64,i===", false),
            ("data:image/png,abc", false),
            ("", false),
        ] {
            assert_eq!(Image::from_address(address).is_some(), reads, "{address}");
        }
        let address = "data:image/webp;base64,iVBORw0KGgo=";
        assert_eq!(Image::from_address(address).unwrap().address(), address);
    }
}
