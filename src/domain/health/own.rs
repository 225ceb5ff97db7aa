//! What targets of the new release do by themselves, beside what those of the release before are known to have done, in words.

use serde::{Deserialize, Serialize};

use super::verdict::UnknownReason;
use crate::domain::id::TargetId;
use crate::domain::time::Span;
use crate::domain::units::{Finite, Unit};

/// What the new release's targets do, beside the bursts that single targets of the release before had.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OwnBursts {
    /// The target whose burst is the longest.
    pub target: TargetId,
    /// Its share of errors in it, or of requests above a bound.
    pub value: Finite,
    /// That bound, in the signal's base unit; none for errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Finite>,
    /// How long it has lasted.
    pub held: Span,
    /// Bursts of single targets of the release before that are known.
    pub known: u32,
    /// The highest of them.
    pub highest: Finite,
    /// The longest of those that are about as high.
    pub longest: Span,
    /// How long it has to last to be proof; none where it is higher than any of them explains.
    pub needed: Option<Span>,
}

impl OwnBursts {
    /// Whether they explain it.
    #[must_use]
    pub fn explain(&self) -> bool {
        self.as_reason().is_some()
    }

    /// What was seen and what is known.
    #[must_use]
    pub fn in_words(&self, unit: Unit) -> String {
        let Self { target, value, above, held, known, highest, longest, needed } = self;
        let [value, highest] = [value, highest].map(|share| Unit::Ratio.format(share.get()));
        let above = above.map(|above| format!(" above {}", unit.format(above.get()))).unwrap_or_default();
        let s = if *known == 1 { "" } else { "s" };
        let proof = match needed {
            Some(needed) => format!("about as high for up to {longest}, so that it is proof from {needed} on"),
            None => "none of them about as high".to_owned(),
        };
        format!(
            "a burst of {target}, {value}{above} for {held}: single targets had {known} burst{s} before, up to {highest}, {proof}"
        )
    }

    /// What speaks first: what is not explained, then what has lasted the longest, then what is the highest.
    pub(super) fn telling(of: impl Iterator<Item = Self>) -> Option<Self> {
        let key = |own: &Self| (!own.explain(), own.held);
        of.max_by(|a, b| key(a).cmp(&key(b)).then(a.value.get().total_cmp(&b.value.get())))
    }

    /// Why it proves nothing, where they explain it.
    pub(super) fn as_reason(&self) -> Option<UnknownReason> {
        let needed = self.needed.filter(|needed| self.held < *needed)?;
        Some(UnknownReason::OwnBurst { target: self.target.clone(), needed })
    }
}
