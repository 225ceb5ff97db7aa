//! The score, family by family.

use std::fmt::Write;

use super::play::Verdict;
use super::truth::Right;

/// What came of one family.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) family: &'static str,
    pub(super) right: Right,
    pub(super) verdicts: Vec<Verdict>,
}

impl Row {
    pub(super) fn count(&self, what: Verdict) -> usize {
        self.verdicts.iter().filter(|verdict| **verdict == what).count()
    }

    pub(super) fn delays(&self) -> Vec<f64> {
        let found = |verdict: &Verdict| match verdict {
            Verdict::Found(delay) => Some(*delay),
            Verdict::False | Verdict::Missed | Verdict::Left | Verdict::Rolled | Verdict::Told | Verdict::Silent => {
                None
            }
        };
        let mut delays: Vec<f64> = self.verdicts.iter().filter_map(found).collect();
        delays.sort_by(f64::total_cmp);
        delays
    }
}

/// The nearest-rank quantile of sorted values.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0} s"))
}

/// The totals that the bars are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Total {
    pub(super) wrong: usize,
    pub(super) missed: usize,
    pub(super) needed: usize,
    /// Shares of those found of all that had to be, within one minute and within five.
    pub(super) within: [f64; 2],
}

pub(super) fn total(rows: &[Row]) -> Total {
    let count = |what| rows.iter().map(|row| row.count(what)).sum::<usize>();
    let delays: Vec<f64> = rows.iter().flat_map(Row::delays).collect();
    let needed = delays.len() + count(Verdict::Missed);
    let within = [60.0, 300.0].map(|limit| {
        let found = delays.iter().filter(|delay| **delay <= limit).count();
        if needed == 0 { 1.0 } else { found as f64 / needed as f64 }
    });
    Total { wrong: count(Verdict::False), missed: count(Verdict::Missed), needed, within }
}

/// As Markdown, which reads well on a terminal too.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| family | right | n | false | missed | median delay | p95 delay | rolled back / told / silent |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let right = match row.right {
            Right::Must(_) => "must",
            Right::MustNot => "must not",
            Right::Either(_) => "either",
        };
        let delays = row.delays();
        let free = [Verdict::Rolled, Verdict::Told, Verdict::Silent].map(|what| row.count(what));
        let free = if free == [0; 3] { String::new() } else { format!("{} / {} / {}", free[0], free[1], free[2]) };
        writeln!(
            text,
            "| {} | {right} | {} | {} | {} | {} | {} | {free} |",
            row.family,
            row.verdicts.len(),
            row.count(Verdict::False),
            row.count(Verdict::Missed),
            seconds(quantile(&delays, 0.5)),
            seconds(quantile(&delays, 0.95)),
        )
        .unwrap();
    }
    let total = total(rows);
    let cases: usize = rows.iter().map(|row| row.verdicts.len()).sum();
    writeln!(
        text,
        "\n{} families, {cases} cases, {} that must be rolled back: {} false, {} missed, {:.1} % within one minute of the \
         earliest moment that can be defended, {:.1} % within five",
        rows.len(),
        total.needed,
        total.wrong,
        total.missed,
        total.within[0] * 100.0,
        total.within[1] * 100.0
    )
    .unwrap();
    text
}
