//! Which of the ways to compute a signal is in use, and what lies nearest where none is.

use crate::domain::policy::{Candidate, Formula, OperandId, Operands};

/// How alike two names must be to be worth telling, from 0 to 1.
const ALIKE: f64 = 0.6;

/// Most names told.
const MAX_NEAREST: usize = 3;

/// The first candidate whose series are seen. Of several ratios that share their total, that whose bad series are seen:
/// a page that counts all requests in one family and labels them `status` also has the total of the convention that
/// labels them `code`.
pub(super) fn in_use(candidates: &[Candidate], is_seen: impl Fn(OperandId) -> bool) -> Option<&Candidate> {
    let first = candidates.iter().find(|candidate| base(candidate.formula).is_some_and(&is_seen))?;
    let Formula::Ratio { total, .. } = first.formula else { return Some(first) };
    let with_bad = candidates.iter().find(|candidate| match candidate.formula {
        Formula::Ratio { bad, total: same } => same == total && is_seen(bad),
        Formula::Histogram { .. }
        | Formula::Summary { .. }
        | Formula::Gauge { .. }
        | Formula::Rate { .. }
        | Formula::Query
        | Formula::Builtin(_) => false,
    });
    Some(with_bad.unwrap_or(first))
}

/// The operand without which a formula says nothing.
pub(super) fn base(formula: Formula) -> Option<OperandId> {
    match formula {
        Formula::Ratio { total, .. } => Some(total),
        Formula::Histogram { buckets, .. } => Some(buckets),
        Formula::Summary { quantiles, .. } => Some(quantiles),
        Formula::Gauge { gauge, .. } => Some(gauge),
        Formula::Rate { counter } => Some(counter),
        Formula::Query | Formula::Builtin(_) => None,
    }
}

/// Whether a formula counts what happens, so that it may have no series before anything did.
pub(super) fn counts(formula: Formula) -> bool {
    match formula {
        Formula::Ratio { .. } | Formula::Histogram { .. } | Formula::Summary { .. } | Formula::Rate { .. } => true,
        Formula::Gauge { .. } | Formula::Query | Formula::Builtin(_) => false,
    }
}

/// Further ways than the one in use whose series are seen. Two ways of one convention count where they are of the same
/// kind: a gauge that is the bad part of a ratio as well is no second choice.
pub(super) fn others<'c>(
    candidates: &'c [Candidate],
    used: &Candidate,
    is_seen: impl Fn(OperandId) -> bool,
) -> Vec<&'c Candidate> {
    let is_same_kind =
        |other: &Candidate| std::mem::discriminant(&other.formula) == std::mem::discriminant(&used.formula);
    let seen = candidates.iter().filter(|other| base(other.formula).is_some_and(&is_seen));
    seen.filter(|other| base(other.formula) != base(used.formula))
        .filter(|other| other.convention != used.convention || is_same_kind(other))
        .collect()
}

/// Families whose names are most like those that the candidates ask for, most alike first.
pub(super) fn nearest(candidates: &[Candidate], operands: &Operands, families: &[String]) -> Vec<String> {
    let wanted: Vec<&str> =
        candidates.iter().filter_map(|candidate| operands.get(base(candidate.formula)?)?.selector.name()).collect();
    alike(&wanted, families)
}

/// Families whose names are most like one of those wanted, most alike first.
pub(super) fn alike(wanted: &[&str], families: &[String]) -> Vec<String> {
    let mut scored: Vec<(f64, &String)> = families
        .iter()
        .map(|family| {
            let best = wanted.iter().map(|name| strsim::normalized_damerau_levenshtein(name, family));
            (best.fold(0.0, f64::max), family)
        })
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().take(MAX_NEAREST).map(|(_, family)| family.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(bad: u16, total: u16) -> Candidate {
        let formula = Formula::Ratio { bad: OperandId(bad), total: OperandId(total) };
        Candidate { convention: Some("test"), formula, scale: 1.0 }
    }

    #[test]
    fn the_first_that_is_seen_is_used_and_its_errors_decide_among_equals() {
        let candidates = [ratio(1, 0), ratio(2, 0), ratio(4, 3)];
        let cases: [(&[u16], Option<usize>); 6] = [
            (&[], None),
            (&[0], Some(0)),
            (&[0, 2], Some(1)),
            (&[0, 1, 2], Some(0)),
            (&[3, 4], Some(2)),
            (&[0, 3, 4], Some(0)),
        ];
        for (seen, expected) in cases {
            let used = in_use(&candidates, |operand| seen.contains(&operand.0));
            assert_eq!(used, expected.map(|index| &candidates[index]), "{seen:?}");
        }
    }
}
