//! Looks that go well, for a while: connections are kept, changes of configuration and of files are followed, nothing
//! piles up.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rollbackd::config::model::FileTargets;
use rollbackd::domain::id::WorkloadId;
use rollbackd::domain::observation::Seen;
use rollbackd::domain::time::Timestamp;
use rollbackd::engine::ports::Looks;

use super::server::{Act, Server, answer, ok};
use super::{Eyes, PATIENCE, pages};

const PAGE: &[u8] = b"http_requests_total{code=\"200\"} 5\n";

fn shop() -> WorkloadId {
    WorkloadId::new("shop")
}

#[tokio::test]
async fn one_connection_serves_all_scrapes_of_a_target() {
    let server = Server::start(ok(PAGE)).await;
    let mut eyes = Eyes::on(&pages("200ms", &[server.url("/metrics?collect=all")]));
    for _ in 0..5 {
        let (target, result) = eyes.scrape().await;
        assert_eq!((target, result.is_ok()), (format!("127.0.0.1:{}", server.port), true));
    }
    assert_eq!(server.connections(), 1);
    assert!(server.requests() >= 5);
    let head = server.heads()[0].to_ascii_lowercase();
    for line in [
        "get /metrics?collect=all http/1.1",
        &format!("host: 127.0.0.1:{}", server.port),
        "accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "accept-encoding: gzip",
        "x-prometheus-scrape-timeout-seconds: 0.2",
        concat!("user-agent: rollbackd/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
    }
    assert!(eyes.stats.scrapes.good() >= 5 && eyes.stats.connections() == 1);
}

/// A balancer leads each new connection to what serves now, and a kept one to what served when it was made.
#[tokio::test]
async fn each_question_about_health_comes_as_a_new_client_does() {
    let server = Server::start(ok(b"{}")).await;
    let url = server.url("/health");
    let mut eyes = Eyes::on(&format!("interval = \"200ms\"\nhealth = {{ url = \"{url}\" }}"));
    for _ in 0..4 {
        assert!(eyes.probe().await.1.is_ok());
    }
    assert!(server.connections() >= 4, "{}", server.connections());
    assert!(server.heads().iter().all(|head| head.to_ascii_lowercase().contains("connection: close")));
}

#[tokio::test]
async fn a_peer_that_closes_between_two_scrapes_is_not_at_fault() {
    let server = Server::start(Act::SayAndClose(answer("200 OK", &["connection: keep-alive"], PAGE))).await;
    let mut eyes = Eyes::on(&pages("200ms", &[server.url("/metrics")]));
    for _ in 0..4 {
        assert!(eyes.scrape().await.1.is_ok());
    }
    assert!(server.connections() >= 4);
}

#[tokio::test]
async fn a_change_of_configuration_leaves_what_did_not_change_alone() {
    let [kept, gone, new] =
        [Server::start(ok(PAGE)).await, Server::start(ok(PAGE)).await, Server::start(ok(PAGE)).await];
    let mut eyes = Eyes::on(&pages("200ms", &[kept.url("/metrics"), gone.url("/metrics")]));
    eyes.scrapes(2).await;
    eyes.apply(&pages("200ms", &[kept.url("/metrics"), new.url("/metrics")]));
    let asked = gone.requests();
    let mut seen = BTreeSet::new();
    while !seen.contains(&format!("127.0.0.1:{}", new.port)) || seen.len() < 2 {
        seen.insert(eyes.scrape().await.0);
    }
    for _ in 0..6 {
        assert!(eyes.scrape().await.1.is_ok());
    }
    assert_eq!((kept.connections(), new.connections()), (1, 1));
    // A look that was under way when its target went may have been asked for.
    assert!(gone.requests() <= asked + 1, "{} after {asked}", gone.requests());
    assert_eq!(eyes.observers.stalled(), None);
}

#[tokio::test]
async fn what_is_looked_at_no_more_is_told_after_all_that_was_seen_of_it() {
    let [kept, gone] = [Server::start(ok(PAGE)).await, Server::start(ok(PAGE)).await];
    let mut eyes = Eyes::on(&pages("200ms", &[kept.url("/metrics"), gone.url("/metrics")]));
    eyes.scrapes(2).await;
    // Another pace is another duty, in the place of the one before.
    eyes.apply(&pages("300ms", &[kept.url("/metrics")]));
    assert_eq!(until_gone(&mut eyes).await, format!("127.0.0.1:{}", gone.port));
    for _ in 0..6 {
        assert_eq!(eyes.scrape().await.0, format!("127.0.0.1:{}", kept.port));
    }
    // With its file goes what it names.
    let file = eyes.place.path().join("targets.json");
    fs::write(&file, format!(r#"[{{"targets": ["127.0.0.1:{}"]}}]"#, gone.port)).unwrap();
    let by_file = format!("interval = \"300ms\"\nscrape = {{ sd_file = \"{}\" }}", file.display());
    eyes.apply(&by_file);
    assert_eq!(until_gone(&mut eyes).await, format!("127.0.0.1:{}", kept.port));
    assert!(eyes.scrape().await.1.is_ok());
    fs::write(file.with_extension("next"), "[]").unwrap();
    fs::rename(file.with_extension("next"), &file).unwrap();
    assert_eq!(until_gone(&mut eyes).await, format!("127.0.0.1:{}", gone.port));
    eyes.apply(&pages("300ms", &[gone.url("/metrics")]));
    assert!(eyes.scrape().await.1.is_ok());
    eyes.observers.shutdown().await;
    while let Ok(next) = eyes.seen.try_recv() {
        assert!(!matches!(next.seen, Seen::PageGone { .. }), "when everything ends nothing is gone: {next:?}");
    }
}

/// The address that is told to be gone next.
async fn until_gone(eyes: &mut Eyes) -> String {
    loop {
        if let Seen::PageGone { target } = eyes.next().await.seen {
            return target.to_string();
        }
    }
}

#[tokio::test]
async fn targets_follow_their_file_and_a_broken_one_changes_nothing() {
    let [first, second] = [Server::start(ok(PAGE)).await, Server::start(ok(PAGE)).await];
    let mut eyes = Eyes::new(64);
    let file = eyes.place.path().join("targets.json");
    let list = |port: u16| format!(r#"[{{"targets": ["127.0.0.1:{port}"], "labels": {{"job": "shop"}}}}]"#);
    let replace = |text: &str| {
        fs::write(file.with_extension("next"), text).unwrap();
        fs::rename(file.with_extension("next"), &file).unwrap();
    };
    replace(&list(first.port));
    eyes.apply(&format!("interval = \"200ms\"\nscrape = {{ sd_file = \"{}\" }}", file.display()));
    assert_eq!(eyes.scrape().await.0, format!("127.0.0.1:{}", first.port));
    replace(&list(second.port));
    while eyes.scrape().await.0 != format!("127.0.0.1:{}", second.port) {}
    replace("[{");
    let asked = first.requests();
    for _ in 0..6 {
        assert_eq!(eyes.scrape().await.0, format!("127.0.0.1:{}", second.port));
    }
    assert_eq!((second.connections(), first.requests()), (1, asked));
    fs::remove_file(&file).unwrap();
    for _ in 0..3 {
        assert_eq!(eyes.scrape().await.0, format!("127.0.0.1:{}", second.port));
    }
}

#[tokio::test]
async fn what_a_file_names_goes_on_over_another_interval_and_other_operands() {
    let [kept, gone] = [Server::start(ok(PAGE)).await, Server::start(ok(PAGE)).await];
    let mut eyes = Eyes::new(64);
    let file = eyes.place.path().join("targets.json");
    list(&file, &[kept.port, gone.port]);
    let by_file = |interval: &str, more: &str| {
        format!("interval = \"{interval}\"\nscrape = {{ sd_file = \"{}\" }}\n{more}", file.display())
    };
    eyes.apply(&by_file("200ms", ""));
    eyes.scrapes(2).await;
    let other = "signal.depth.gauge = \"queue_depth\"";
    for lines in [by_file("300ms", ""), by_file("300ms", other)] {
        eyes.apply(&lines);
        let mut looks = 0;
        while looks < 6 {
            match eyes.next().await.seen {
                Seen::Scrape { result, .. } => looks += u32::from(result.is_ok()),
                Seen::PageGone { target } => panic!("{target} is looked at on and on"),
                _ => {}
            }
        }
    }
    list(&file, &[kept.port]);
    assert_eq!(until_gone(&mut eyes).await, format!("127.0.0.1:{}", gone.port));
    eyes.apply(&pages("300ms", &[gone.url("/metrics")]));
    assert_eq!(until_gone(&mut eyes).await, format!("127.0.0.1:{}", kept.port));
}

#[tokio::test]
async fn what_two_files_name_is_looked_at_once_until_neither_does() {
    let [both, second] = [Server::start(ok(PAGE)).await, Server::start(ok(PAGE)).await];
    let mut eyes = Eyes::new(64);
    let files = ["a.json", "b.json"].map(|name| eyes.place.path().join(name));
    list(&files[0], &[both.port]);
    list(&files[1], &[both.port, second.port]);
    let mut config = eyes.config(&format!("interval = \"200ms\"\nscrape = {{ sd_file = \"{}\" }}", files[0].display()));
    let entries = &mut config.workloads.get_mut(&shop()).unwrap().sources.scrape_files;
    entries.push(FileTargets { path: files[1].clone(), ..entries[0].clone() });
    eyes.observers.apply(&config);
    eyes.scrapes(2).await;
    list(&files[0], &[]);
    list(&files[1], &[both.port]);
    assert_eq!(until_gone(&mut eyes).await, format!("127.0.0.1:{}", second.port));
    for _ in 0..6 {
        assert_eq!(eyes.scrape().await.0, format!("127.0.0.1:{}", both.port));
    }
    assert_eq!(both.connections(), 1);
    list(&files[1], &[]);
    assert_eq!(until_gone(&mut eyes).await, format!("127.0.0.1:{}", both.port));
}

/// Has a file name these ports of this host.
fn list(file: &Path, ports: &[u16]) {
    let targets: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let next = file.with_extension("next");
    fs::write(&next, format!("[{{\"targets\": [{}]}}]", targets.join(", "))).unwrap();
    fs::rename(next, file).unwrap();
}

#[tokio::test]
async fn a_switched_release_is_seen_at_once_and_an_unchanged_one_now_and_then() {
    let mut eyes = Eyes::on("interval = \"1m\"\nscrape = { url = \"http://127.0.0.1:1/metrics\" }");
    let first = releases(&mut eyes).await;
    assert_eq!(first.1, Ok(("v1".to_owned(), 2)));
    eyes.switch("v2");
    let second = releases(&mut eyes).await;
    assert_eq!(second.1, Ok(("v2".to_owned(), 2)));
    // Nothing changed since: only a nudge brings another word before the interval is over.
    eyes.observers.nudge(&shop());
    let third = releases(&mut eyes).await;
    assert_eq!(third.1, second.1);
    assert!(third.0.since(second.0).as_secs_f64() < 50.0);
    fs::remove_file(eyes.place.path().join("current")).unwrap();
    let fault = releases(&mut eyes).await.1.unwrap_err();
    assert!(fault.starts_with("local: "), "{fault}");
}

/// The next word about releases: when, and what the only instance is at and how many there are.
async fn releases(eyes: &mut Eyes) -> (Timestamp, Result<(String, usize), String>) {
    loop {
        let next = eyes.next().await;
        if let Seen::Releases(view) = next.seen {
            let view = view.map(|view| (view.instances[0].1.to_string(), view.available.len()));
            return (next.at, view.map_err(|fault| fault.to_string()));
        }
    }
}

#[tokio::test]
async fn looks_come_faster_while_an_incident_is_acted_upon() {
    let server = Server::start(ok(PAGE)).await;
    let mut eyes = Eyes::on(&pages("2s", &[server.url("/metrics")]));
    eyes.observers.pace(&shop(), true);
    let mut times = Vec::new();
    while times.len() < 4 {
        let next = eyes.next().await;
        if let Seen::Scrape { .. } = next.seen {
            times.push(next.at);
        }
    }
    // Three rounds of 400 ms; the machine may add to that, but not the grid.
    let fast = times[3].since(times[0]).as_millis();
    assert!((1_000..5_000).contains(&fast), "{fast}");
}

#[tokio::test]
async fn rounds_are_left_out_while_nobody_takes_what_was_seen() {
    let server = Server::start(ok(PAGE)).await;
    let mut eyes = Eyes::new(1);
    eyes.apply(&pages("100ms", &[server.url("/metrics")]));
    let waiting = async {
        while eyes.stats.skipped() < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("rounds are left out");
    assert!(server.requests() <= 3, "{} looks for a queue of one", server.requests());
    let asked = server.requests();
    while server.requests() < asked + 3 {
        eyes.next().await;
    }
}

#[tokio::test]
async fn an_end_does_not_wait_for_a_look_that_hangs() {
    let server = Server::start(Act::Say(Vec::new())).await;
    let eyes = Eyes::on(&pages("10s", &[server.url("/metrics")]));
    eyes.observers.nudge(&shop());
    let asked = async {
        while server.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the look begins");
    let began = tokio::time::Instant::now();
    eyes.observers.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
