use crate::domain::health::selector::Selector;
use crate::domain::observation::Page;
use crate::domain::policy::{Operand, OperandKind};

use super::super::{Format, Limits, ScanError, Scanner};
use super::*;

fn table(budget: usize) -> SeriesTable {
    let mut operands = Operands::default();
    for text in ["a", "b{x=~\"1.*\"}"] {
        operands.intern(Operand { selector: Selector::parse(text).unwrap(), kind: OperandKind::Value }).unwrap();
    }
    SeriesTable::with_budget(&operands, budget)
}

fn scan(scanner: &mut Scanner, table: &mut SeriesTable, page: &str) -> Result<Page, ScanError> {
    let mut scan = scanner.begin(Format::Text);
    scan.push(table, page.as_bytes())?;
    scan.finish(table)
}

fn page(series: std::ops::Range<u32>) -> String {
    series.map(|n| format!("a{{n=\"{n}\"}} {n}\n")).collect()
}

#[test]
fn churn_is_bounded_and_what_is_in_use_keeps_its_identity() {
    let budget = 100 * (ENTRY_OVERHEAD + 50);
    let mut table = table(budget);
    let mut scanner = Scanner::new(Limits::DEFAULT);
    let mut first_id = None;
    for round in 0..200 {
        let page = scan(&mut scanner, &mut table, &format!("a 1\n{}", page(round * 20..round * 20 + 20))).unwrap();
        assert_eq!(page.samples.len(), 21);
        assert_eq!(*first_id.get_or_insert(page.samples[0].series), page.samples[0].series);
        assert!(table.bytes <= budget);
        assert!(table.by_labels.len() <= table.len());
    }
    let ids: HashSet<SeriesId> = table.by_labels.values().copied().collect();
    assert_eq!(ids.len(), table.by_labels.len());
}

#[test]
fn one_page_that_does_not_fit_is_over_a_limit() {
    let mut table = table(10 * ENTRY_OVERHEAD);
    let error = scan(&mut Scanner::new(Limits::DEFAULT), &mut table, &page(0..20)).unwrap_err();
    assert!(error.to_string().contains("bytes of series text kept for the workload"), "{error}");
    assert!(scan(&mut Scanner::new(Limits::DEFAULT), &mut table, &page(20..22)).is_ok());
}

#[test]
fn slots_that_move_while_a_page_comes_in_do_no_harm() {
    let mut table = table(60 * (ENTRY_OVERHEAD + 30));
    let (mut slow, mut quick) = (Scanner::new(Limits::DEFAULT), Scanner::new(Limits::DEFAULT));
    let text = page(0..10);
    scan(&mut slow, &mut table, &text).unwrap();
    let (start, end) = text.split_at(text.len() / 2);
    let epoch = table.epoch();
    let mut coming_in = slow.begin(Format::Text);
    coming_in.push(&mut table, start.as_bytes()).unwrap();
    let mut round = 0;
    while table.epoch() == epoch {
        round += 10;
        scan(&mut quick, &mut table, &page(round..round + 10)).unwrap();
    }
    coming_in.push(&mut table, end.as_bytes()).unwrap();
    let values: Vec<f64> = coming_in.finish(&mut table).unwrap().samples.iter().map(|sample| sample.value).collect();
    assert_eq!(values, (0..10).map(f64::from).collect::<Vec<_>>());
    assert_eq!(scan(&mut slow, &mut table, &text).unwrap().samples.len(), 10);
}

#[test]
fn a_flood_of_unmatched_labels_takes_its_share_and_no_more() {
    let budget = 200 * (ENTRY_OVERHEAD + 50);
    let mut table = table(budget);
    let flood: String = (2000..3000).map(|n| format!("b{{x=\"{n}\"}} 1\n")).collect();
    let mut scanner = Scanner::new(Limits::DEFAULT);
    for _ in 0..3 {
        let page = scan(&mut scanner, &mut table, &format!("{flood}b{{x=\"1\"}} 7\n")).unwrap();
        assert_eq!(page.samples.len(), 1);
        assert!(table.unmatched_bytes <= budget / UNMATCHED_SHARE);
    }
}

#[test]
fn targets_with_the_same_pages_share_one_layout() {
    let mut table = table(TABLE_BYTES);
    let text = page(0..10);
    let slots: Vec<u32> = (0..10).collect();
    scan(&mut Scanner::new(Limits::DEFAULT), &mut table, &text).unwrap();
    let shared = table.share_layout(&slots);
    scan(&mut Scanner::new(Limits::DEFAULT), &mut table, &text).unwrap();
    assert!(Arc::ptr_eq(&shared, &table.share_layout(&slots)));
    assert_eq!(table.len(), 10);
}
