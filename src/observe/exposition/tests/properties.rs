//! The scanner against the reference, against `prometheus-parse`, and against itself with pages cut anywhere.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::reference::{self, Row};
use super::*;
use crate::domain::observation::Sample;

/// The names that the scanner is asked for; the pages hold others too, some of which begin alike.
const WANTED: [&str; 4] = ["req", "req_total", "lat:p99", "a"];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["req", "req_total", "req_totals", "re", "lat:p99", "lat:p", "a", "ab", "other_thing"])
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u32>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| format!("{f:e}")),
        (-1e6..1e6).prop_map(|f: f64| f.to_string()),
        prop::sample::select(vec!["Inf", "-Inf", "+Inf"]).prop_map(str::to_owned),
    ]
}

/// Label values in which everything stands that has a meaning elsewhere on the page; already escaped.
fn label_value() -> impl Strategy<Value = String> {
    let piece = vec!["x", "=", ",", "{", "}", "#", " ", "\\\"", "\\\\", "\\n", "\n", "req 1", "é", "0"];
    prop::collection::vec(prop::sample::select(piece), 0..5).prop_map(|pieces| pieces.concat())
}

fn labels() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["code", "le", "path", "_x"]);
    (prop::collection::btree_map(names, label_value(), 0..4), any::<bool>()).prop_map(|(labels, comma)| {
        let mut labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        if comma && !labels.is_empty() {
            labels.push(String::new());
        }
        labels.join(",")
    })
}

fn line() -> impl Strategy<Value = String> {
    let sample = (name(), prop::option::of(labels()), value(), prop::option::of(0..9_999_999_u32)).prop_map(
        |(name, labels, value, timestamp)| {
            let labels = labels.map(|labels| format!("{{{labels}}}")).unwrap_or_default();
            let timestamp = timestamp.map(|timestamp| format!(" {timestamp}")).unwrap_or_default();
            format!("{name}{labels} {value}{timestamp}")
        },
    );
    let other = prop::sample::select(vec!["", "# HELP req a \"quote", "# TYPE req counter", "#", "  ", "# EOF"]);
    prop_oneof![9 => sample, 1 => other.prop_map(str::to_owned)]
}

fn page() -> impl Strategy<Value = String> {
    (prop::collection::vec(line(), 0..40), any::<bool>())
        .prop_map(|(lines, ended)| lines.join("\n") + if ended { "\n" } else { "" })
}

/// What is expected to be kept: the first sample of each wanted series.
fn expected(rows: &[Row]) -> Vec<f64> {
    let mut seen = std::collections::BTreeSet::new();
    let wanted = rows.iter().filter(|(name, ..)| WANTED.contains(&name.as_str()));
    wanted.filter(|(name, labels, _)| seen.insert((name, labels))).map(|(_, _, value)| *value).collect()
}

fn without_timestamps(page: &str) -> String {
    // Time stamps decide between duplicates; the reference knows nothing of that.
    let mut plain = String::new();
    for row in reference::read(page).unwrap_or_default() {
        plain.push_str(&rewrite(&row));
    }
    plain
}

fn rewrite((name, labels, value): &Row) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{name}{{{}}} {value}\n", labels.join(","))
}

fn cut<'p>(page: &'p [u8], cuts: &[prop::sample::Index]) -> Vec<&'p [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(page.len() + 1)).collect();
    places.extend([0, page.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &page[pair[0]..pair[1]]).collect()
}

/// Samples without their identity, NaN-proof.
fn bits(samples: &[Sample]) -> Vec<(u16, u64, u64, Option<i64>)> {
    samples
        .iter()
        .map(|s| (s.operand.0, s.bound.to_bits(), s.value.to_bits(), s.timestamp.map(|t| t.as_millis())))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn wanted_series_are_read_as_the_reference_reads_them(pages in prop::collection::vec(page(), 1..4)) {
        let operands = operands(&WANTED);
        let (mut scanner, mut table) = (Scanner::new(Limits::DEFAULT), SeriesTable::new(&operands));
        // The same target lists other series each time, then the same ones again: the layout must never mislead.
        for page in pages.iter().chain(&pages) {
            let rows = reference::read(page);
            let result = scan_pieces(&mut scanner, &mut table, Format::Text, &[page.as_bytes()]);
            let Some(rows) = rows else {
                prop_assert!(false, "the generator makes good pages: {page:?}");
                return Ok(());
            };
            prop_assert!(result.is_ok(), "{page:?}: {result:?}");
            let plain = without_timestamps(page);
            let read = scan_pieces(&mut scanner, &mut table, Format::Text, &[plain.as_bytes()]).unwrap();
            let values: Vec<f64> = read.samples.iter().map(|sample| sample.value).collect();
            prop_assert_eq!(values, expected(&rows));
        }
    }

    #[test]
    fn series_keep_their_identity_from_page_to_page(page in page()) {
        let operands = operands(&WANTED);
        let mut table = SeriesTable::new(&operands);
        let rows = reference::read(&page).unwrap();
        let mut ids: BTreeMap<u32, (String, BTreeMap<String, String>)> = BTreeMap::new();
        for reversed in [false, true, false] {
            let mut rows: Vec<&Row> = rows.iter().filter(|row| WANTED.contains(&row.0.as_str())).collect();
            if reversed {
                rows.reverse();
            }
            let text: String = rows.iter().map(|row| rewrite(row)).collect();
            let page = scan_pieces(&mut Scanner::new(Limits::DEFAULT), &mut table, Format::Text, &[text.as_bytes()]);
            let mut seen = std::collections::BTreeSet::new();
            rows.retain(|(name, labels, _)| seen.insert((name, labels)));
            for (sample, (name, labels, _)) in page.unwrap().samples.iter().zip(rows) {
                let series = (name.clone(), labels.clone());
                prop_assert_eq!(ids.entry(sample.series.0).or_insert_with(|| series.clone()), &series);
            }
        }
        let distinct: std::collections::BTreeSet<_> = ids.values().collect();
        prop_assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn pieces_do_not_matter(page in page(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), openmetrics: bool) {
        let format = if openmetrics { Format::OpenMetrics } else { Format::Text };
        let page = if openmetrics { format!("{}# EOF\n", without_timestamps(&page)) } else { page };
        let operands = operands(&WANTED);
        let mut table = SeriesTable::new(&operands);
        let whole = scan_pieces(&mut Scanner::new(Limits::DEFAULT), &mut table, format, &[page.as_bytes()]);
        let mut scanner = Scanner::new(Limits::DEFAULT);
        for round in 0..2 {
            let pieces = cut(page.as_bytes(), &cuts);
            let cut = scan_pieces(&mut scanner, &mut table, format, &pieces);
            let (whole, cut) = (whole.as_ref().unwrap(), cut.unwrap());
            prop_assert_eq!(bits(&whole.samples), bits(&cut.samples));
            let has = |operand: usize| cut.samples.iter().any(|sample| usize::from(sample.operand.0) == operand);
            // The first page tells its families in any case, others where something is missing.
            let is_told = round == 0 || !(0..WANTED.len()).all(has);
            prop_assert_eq!(whole.families.as_ref().filter(|_| is_told), cut.families.as_ref());
        }
    }

    #[test]
    fn damage_is_judged_the_same_however_it_arrives(
        page in page(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"\\{}=,\n #1a\xff\0".to_vec())), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = page.into_bytes();
        for (place, byte) in damage {
            let place = place.index(bytes.len() + 1);
            bytes.insert(place, byte);
        }
        let everything = operands(&[EVERYTHING]);
        let mut table = SeriesTable::new(&everything);
        let whole = scan_pieces(&mut Scanner::new(Limits::DEFAULT), &mut table, Format::Text, &[&bytes]);
        let pieces = cut(&bytes, &cuts);
        let cut = scan_pieces(&mut Scanner::new(Limits::DEFAULT), &mut table, Format::Text, &pieces);
        prop_assert_eq!(whole.as_ref().map(|page| bits(&page.samples)), cut.as_ref().map(|page| bits(&page.samples)));
        // The inspector judges more lines, never fewer.
        if let Ok(inspection) = inspect(&bytes, Format::Text, &[selector(EVERYTHING)]) {
            prop_assert!(whole.is_ok(), "{whole:?}");
            prop_assert!(inspection.matches[0].series.len() >= whole.unwrap().samples.len());
        }
    }

    #[test]
    fn prometheus_parse_reads_the_same_from_what_it_understands(
        rows in prop::collection::btree_map((prop::sample::select(vec!["req", "req_total", "other"]), "[a-z/]{1,5}"), -1e9..1e9, 0..20),
    ) {
        let page: String =
            rows.iter().map(|((name, path), value)| format!("{name}{{path=\"{path}\"}} {value}\n")).collect();
        let lines = page.lines().map(|line| Ok(line.to_owned()));
        let theirs = prometheus_parse::Scrape::parse(lines).unwrap();
        let theirs: Vec<f64> = theirs
            .samples
            .iter()
            .map(|sample| match sample.value {
                prometheus_parse::Value::Untyped(value) => value,
                ref other => panic!("{other:?}"),
            })
            .collect();
        let everything = operands(&[EVERYTHING]);
        let mut table = SeriesTable::new(&everything);
        let ours = scan_pieces(&mut Scanner::new(Limits::DEFAULT), &mut table, Format::Text, &[page.as_bytes()]).unwrap();
        prop_assert_eq!(ours.samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), theirs);
    }
}
