use super::*;

const DURATION: Span = Span::from_secs(12);

fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs * 1000)
}

fn election() -> Election {
    Election::new("me", DURATION, at(0))
}

fn claim(holder: &str, renewed: &str) -> Claim {
    let holder = Some(holder.to_owned()).filter(|holder| !holder.is_empty());
    Claim { holder, renewed: Some(renewed.to_owned()), duration: DURATION }
}

fn found(holder: &str, renewed: &str, version: &str) -> Option<Found> {
    Some(Found { claim: claim(holder, renewed), version: version.to_owned() })
}

fn over(version: &str) -> Option<Bid> {
    Some(Bid { over: Some(version.to_owned()), takes: true })
}

/// One that leads since `sent`.
fn leader(sent: i64) -> Election {
    let mut election = election();
    assert_eq!(election.looked(None, at(sent)), Some(Bid { over: None, takes: true }));
    election.tries("r1");
    election.wrote("1".to_owned(), at(sent));
    election
}

#[test]
fn a_lease_that_is_renewed_is_never_taken_however_old_its_times_look() {
    let mut election = election();
    for second in 0..100 {
        // The holder's clock stands still in 1970 but for its last digit; that is no concern of ours.
        let renewed = format!("1970-01-01T00:00:00.00000{}Z", second / 4 % 10);
        assert_eq!(election.looked(found("other", &renewed, &second.to_string()), at(second)), None);
    }
}

#[test]
fn a_lease_is_taken_once_it_was_seen_unchanged_for_its_whole_duration() {
    let mut election = election();
    assert_eq!(election.looked(found("other", "r", "7"), at(100)), None);
    assert_eq!(election.looked(found("other", "r", "7"), at(111)), None);
    // It looks again at the very moment, and not a whole pause later.
    assert_eq!(election.next(at(111)), Next::Look(at(112)));
    assert_eq!(election.looked(found("other", "r", "8"), at(112)), over("8"));
}

#[test]
fn a_lease_is_left_alone_for_as_long_as_it_says() {
    let mut election = election();
    let patient = || {
        let claim = Claim { duration: Span::from_secs(60), ..claim("other", "r") };
        Some(Found { claim, version: "7".to_owned() })
    };
    assert_eq!(election.looked(patient(), at(0)), None);
    assert_eq!(election.looked(patient(), at(59)), None);
    assert_eq!(election.looked(patient(), at(60)), over("7"));
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_once() {
    let mut election = election();
    assert_eq!(election.looked(found("other", "r", "7"), at(0)), None);
    assert_eq!(election.looked(found("", "r2", "8"), at(1)), over("8"));
}

#[test]
fn who_held_a_lease_that_was_deleted_may_not_know_yet() {
    let mut election = election();
    assert_eq!(election.looked(found("other", "r", "7"), at(0)), None);
    assert_eq!(election.looked(None, at(3)), None);
    assert_eq!(election.looked(None, at(11)), None);
    assert_eq!(election.looked(None, at(12)), Some(Bid { over: None, takes: true }));
}

#[test]
fn a_lease_with_ones_own_name_that_somebody_else_wrote_is_somebody_elses() {
    let mut election = election();
    assert_eq!(election.looked(found("me", "r", "7"), at(0)), None);
    assert_eq!(election.looked(found("me", "r", "7"), at(12)), over("7"));
}

#[test]
fn it_is_surely_held_for_two_thirds_from_when_the_renewal_was_sent() {
    let election = leader(100);
    assert_eq!(election.tenure(), Some((1, at(108))));
    assert_eq!(election.next(at(100)), Next::Renew(at(104)));
    assert_eq!(election.next(at(107)), Next::Renew(at(104)));
    assert_eq!(election.next(at(108)), Next::Lapsed);
}

#[test]
fn a_renewal_goes_on_with_the_term_and_another_taking_begins_a_new_one() {
    let mut election = leader(100);
    election.tries("r2");
    election.wrote("2".to_owned(), at(104));
    assert_eq!(election.tenure(), Some((1, at(112))));
    election.lose(at(112));
    // Its own, as it left it: nobody else can have led meanwhile.
    assert_eq!(election.looked(found("me", "r2", "2"), at(113)), over("2"));
    election.tries("r3");
    election.wrote("3".to_owned(), at(113));
    assert_eq!(election.tenure(), Some((2, at(121))));
}

#[test]
fn a_renewal_that_was_refused_ends_the_term_where_another_holds_the_lease() {
    let mut election = leader(100);
    election.tries("r2");
    election.refused(found("other", "r9", "5"), at(104));
    assert_eq!((election.tenure(), election.leader()), (None, Some("other")));
    assert_eq!(election.looked(found("other", "r9", "5"), at(115)), None);
    assert_eq!(election.looked(found("other", "r9", "5"), at(116)), over("5"));
}

#[test]
fn a_renewal_that_arrived_without_an_answer_is_known_as_ones_own() {
    let mut election = leader(100);
    election.tries("r2");
    election.missed(at(106), Span::from_millis(500));
    election.tries("r3");
    // The write before was carried out after all, or somebody labelled the lease.
    for own in ["r1", "r2", "r3"] {
        election.refused(found("me", own, "6"), at(106));
        assert_eq!(election.renewal(), Some(Bid { over: Some("6".to_owned()), takes: false }));
    }
    // It counts only once it is sure: the end of the term has not moved.
    assert_eq!(election.tenure(), Some((1, at(108))));
}

#[test]
fn a_lease_that_is_gone_is_made_again_by_who_holds_it() {
    let mut election = leader(100);
    election.refused(None, at(104));
    assert_eq!(election.renewal(), Some(Bid { over: None, takes: false }));
    assert_eq!(election.tenure(), Some((1, at(108))));
    // Somebody else was quicker.
    election.refused(found("other", "r9", "5"), at(105));
    assert_eq!(election.tenure(), None);
}
