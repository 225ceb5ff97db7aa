//! Which series a rule reads, in PromQL's selector syntax.

/// A PromQL instant vector selector: a name and label matchers.
#[derive(Clone, PartialEq, Debug)]
pub struct Selector {
    text: String,
}

/// Why a text is not a selector.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl Selector {
    /// Parses PromQL selector syntax.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { text: text.to_owned() })
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
