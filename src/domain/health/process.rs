//! What is known of the process behind an instance: when it was started, and as which release it answers.

use super::Health;
use super::looks::{Look, Outcome};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::time::{Span, Timestamp};

/// How far a process may be off about its own start: many round it to seconds, and some count from a while after.
const START_PRECISION: Span = Span::from_secs(1);

impl Health {
    /// Whether anything was seen of an instance's own addresses.
    #[must_use]
    pub fn has_seen(&self, instance: &InstanceId) -> bool {
        self.scraped.values().any(|scraped| scraped.instance.as_ref() == Some(instance))
            || self.probed.values().any(|probed| probed.instance.as_ref() == Some(instance))
    }

    /// Whether all pages of an instance say, with a good look that is still fresh, that their process was started after
    /// `since`, and one does.
    #[must_use]
    pub fn is_started_after(&self, instance: &InstanceId, since: Timestamp, now: Timestamp) -> bool {
        let edge = since + START_PRECISION;
        let its = self.scraped.values().filter(|scraped| scraped.instance.as_ref() == Some(instance));
        let mut starts = its.filter_map(|scraped| Some((scraped.began?, scraped.looks.last()))).peekable();
        starts.peek().is_some() && starts.all(|(began, look)| began >= edge && self.is_well(look, now))
    }

    /// Whether every health endpoint of an instance answers well, and as this release, since then. None where they don't say
    /// which release it is.
    #[must_use]
    pub fn answers_as(
        &self,
        instance: &InstanceId,
        release: &RevisionId,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<bool> {
        let its = self.probed.values().filter(|probed| probed.instance.as_ref() == Some(instance));
        let looks: Vec<Option<&Look>> = its.map(|probed| probed.looks.last()).collect();
        let names = |look: &&Look| look.revision.is_some();
        looks.iter().copied().flatten().find(names)?;
        let is_of = |look: &Look| look.revision.as_ref() == Some(release) && look.at > since;
        Some(looks.into_iter().all(|look| self.is_well(look, now) && look.is_some_and(is_of)))
    }

    fn is_well(&self, look: Option<&Look>, now: Timestamp) -> bool {
        let scope = self.scope(None, now, None);
        look.is_some_and(|look| look.outcome == Outcome::Good && scope.is_fresh(look.at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Scene, at, policy, requests, started};
    use crate::domain::observation::Answer;

    const A: &str = "a";

    /// The address of an instance shows a page of a process that says this of its start.
    fn page(scene: &mut Scene, seconds: i64, start: Option<i64>) {
        let page = requests(0.0, 0.0);
        let page = start.map_or_else(|| page.clone(), |start| started(page.clone(), start));
        scene.scrape_result(seconds, "a:1", Some(A), Ok(page));
    }

    fn answer(scene: &mut Scene, seconds: i64, healthy: bool, revision: &str) {
        let answer = Answer { healthy, detail: String::new(), revision: Some(revision.into()) };
        scene.probe_result(seconds, "a:1", Some(A), Ok(answer));
    }

    #[test]
    fn a_process_is_new_only_where_it_says_so_itself() {
        let is_new = |start: Option<i64>, now: i64| {
            let mut scene = Scene::new(policy());
            page(&mut scene, 200, start);
            scene.health.is_started_after(&A.into(), at(100), at(now))
        };
        assert!(is_new(Some(101), 201));
        assert!(!is_new(Some(100), 201), "starts may be rounded");
        assert!(!is_new(Some(99), 201) && !is_new(None, 201));
        assert!(!is_new(Some(101), 900), "nobody has seen it lately");
    }

    #[test]
    fn an_answer_counts_that_is_good_and_new_and_of_the_release() {
        let answers = |healthy, revision, since| {
            let mut scene = Scene::new(policy());
            answer(&mut scene, 200, healthy, revision);
            scene.health.answers_as(&A.into(), &"v1".into(), at(since), at(201))
        };
        assert_eq!(answers(true, "v1", 100), Some(true));
        for (healthy, revision, since) in [(true, "v2", 100), (false, "v1", 100), (true, "v1", 200)] {
            assert_eq!(answers(healthy, revision, since), Some(false), "{healthy} {revision} {since}");
        }
        let scene = Scene::new(policy());
        assert_eq!(scene.health.answers_as(&A.into(), &"v1".into(), at(100), at(201)), None, "nobody answered");
    }
}
