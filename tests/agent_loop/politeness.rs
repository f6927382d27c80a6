//! How CAs are spared: what they sent is not asked for again, and who wants to be left alone is.

use super::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Scene {
    /// The last request about a certificate.
    fn last(&self, which: usize) -> Asked {
        self.cas.asked.lock().unwrap().iter().rfind(|asked| asked.which == which).unwrap().clone()
    }

    /// Forgets the requests so far.
    fn forget(&self) {
        self.cas.asked.lock().unwrap().clear();
    }

    fn all(&self) -> Vec<Asked> {
        self.cas.asked.lock().unwrap().clone()
    }

    /// Lets virtual time pass until a certificate is asked about again; says how long it took.
    async fn until_asked(&self, which: usize) -> Duration {
        let (start, before) = (self.cas.clock.now().monotonic, self.asked(which).len());
        while self.asked(which).len() == before {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(self.cas.clock.now().monotonic.since(start) < 48 * HOUR, "it is not asked about any more");
        }
        self.cas.clock.now().monotonic.since(start)
    }
}

fn tag(asked: &Asked) -> Option<&str> {
    if let Copies::InHand(tag) = &asked.copies { Some(tag.as_str()) } else { None }
}

#[tokio::test(start_paused = true)]
async fn a_response_in_hand_is_named_by_its_tag_and_a_304_means_that_nothing_is_newer() {
    let scene = Scene::new(1);
    let signed = scene.cas.clock.now().wall;
    scene.set(0, Mood::Kept(signed, DAY, &[("etag", "W/\"first\"")]));
    scene.until(0, State::Stapled).await;
    assert_eq!(scene.last(0).copies, Copies::Welcome, "nothing was in hand");
    let held = scene.staple(0).unwrap();
    scene.until_asked(0).await;
    assert_eq!(tag(&scene.last(0)), Some("W/\"first\""));
    tokio::time::sleep(MINUTE).await;
    assert_eq!((scene.state(0), scene.staple(0).unwrap()), (State::Stapled, held), "unchanged is no failure");
    assert_eq!(scene.certificate(0).failures, 0);
    assert!(scene.until_asked(0).await > 50 * MINUTE, "and no reason to ask at once");
    // The CA signs anew, under another tag.
    let signed = scene.cas.clock.now().wall;
    scene.set(0, Mood::Kept(signed, DAY, &[("etag", "\"second\"")]));
    scene.until_asked(0).await;
    assert_eq!(tag(&scene.last(0)), Some("W/\"first\""));
    scene.until_asked(0).await;
    assert_eq!(tag(&scene.last(0)), Some("\"second\""));
}

#[tokio::test(start_paused = true)]
async fn a_staple_from_the_disk_has_no_tag_and_is_asked_for_without() {
    let mut scene = Scene::new(1);
    scene.set(0, Mood::Kept(scene.cas.clock.now().wall, DAY, &[("etag", "\"a\"")]));
    scene.until(0, State::Stapled).await;
    scene.restart().await;
    scene.until(0, State::Stapled).await;
    scene.until_asked(0).await;
    assert_eq!(scene.last(0).copies, Copies::Welcome);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_to_be_fresh_for_hours_is_asked_for_after_hours() {
    let scene = Scene::new(1);
    let signed = scene.cas.clock.now().wall;
    scene.set(0, Mood::Kept(signed, 2 * DAY, &[("cache-control", "max-age=10800")]));
    scene.until(0, State::Stapled).await;
    scene.until_asked(0).await;
    let pause = scene.until_asked(0).await;
    assert!(pause > 179 * MINUTE && pause < 182 * MINUTE, "{pause:?}");
    // Years are not believed: a quarter of what is left is, as it shrinks.
    scene.set(0, Mood::Kept(signed, 2 * DAY, &[("cache-control", "max-age=999999999999")]));
    scene.until_asked(0).await;
    let left = Duration::try_from((signed + 2 * DAY).duration_since(scene.cas.clock.now().wall)).unwrap();
    let pause = scene.until_asked(0).await;
    assert!(pause > left / 6 && pause < left / 4, "{pause:?} of {left:?}");
}

#[tokio::test(start_paused = true)]
async fn caches_are_welcome_until_what_they_have_is_of_no_use() {
    let scene = Scene::new(1);
    let signed = scene.cas.clock.now().wall;
    scene.set(0, Mood::Kept(signed, DAY, &[("etag", "\"a\""), ("cache-control", "max-age=60"), ("age", "30")]));
    scene.until(0, State::Stapled).await;
    scene.until_asked(0).await;
    // Nothing newer, and past its own time: next time the cache is passed by, and nothing it believes is asked about.
    scene.set(0, Mood::Kept(signed, DAY, &[("etag", "\"a\""), ("cache-control", "max-age=60"), ("age", "90")]));
    scene.until_asked(0).await;
    assert_eq!(tag(&scene.last(0)), Some("\"a\""));
    scene.until_asked(0).await;
    assert_eq!(scene.last(0).copies, Copies::Unwanted);
    // What is older than what is held is of no use, either.
    scene.set(0, Mood::Kept(signed, DAY, &[]));
    scene.until_asked(0).await;
    scene.until_asked(0).await;
    assert_ne!(scene.last(0).copies, Copies::Unwanted);
    scene.set(0, Mood::Kept(signed - SignedDuration::from_hours(1), DAY, &[]));
    scene.until_asked(0).await;
    scene.until_asked(0).await;
    assert_eq!(scene.last(0).copies, Copies::Unwanted);
    // And a cache that says it is fresh for ever is passed by in the last quarter.
    scene.set(0, Mood::Kept(signed, DAY, &[("cache-control", "max-age=999999999")]));
    while scene.cas.clock.now().wall < signed + SignedDuration::from_hours(22) {
        scene.until_asked(0).await;
    }
    scene.until_asked(0).await;
    assert_eq!(scene.last(0).copies, Copies::Unwanted);
    scene.set(0, Mood::Good(DAY));
    scene.until_asked(0).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(scene.state(0), State::Stapled);
    scene.until_asked(0).await;
    assert_eq!(scene.last(0).copies, Copies::Welcome, "a renewal makes up for it");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_tells_one_certificate_to_wait_is_left_alone_by_all() {
    let scene = Scene::new(40);
    for which in 0..40 {
        scene.set(which, Mood::Busy(600));
    }
    tokio::time::sleep(MINUTE).await;
    // All that were let in at once before the first was told.
    assert_eq!(scene.all().len(), 32, "one host has so many at once");
    tokio::time::sleep(8 * MINUTE).await;
    assert_eq!(scene.all().len(), 32, "nobody asks, told or not");
    for which in 0..40 {
        scene.set(which, Mood::Good(DAY));
    }
    tokio::time::sleep(MINUTE + Duration::from_secs(5)).await;
    for which in 0..40 {
        assert_eq!(scene.state(which), State::Stapled);
    }
    assert_eq!(scene.all().len(), 72);
}

#[tokio::test(start_paused = true)]
async fn what_one_is_told_costs_no_other_its_staple() {
    let scene = Scene::new(2);
    let short = SignedDuration::from_hours(2);
    scene.set(0, Mood::Good(short));
    scene.set(1, Mood::Busy(3600));
    scene.until(0, State::Stapled).await;
    let mut end = scene.certificate(0).served[0].next_update;
    for _ in 0..24 {
        tokio::time::sleep(30 * MINUTE).await;
        assert_eq!(scene.state(0), State::Stapled);
        let next = scene.certificate(0).served[0].next_update;
        assert!(next >= end && next > scene.cas.clock.now().wall + SignedDuration::from_mins(15));
        end = next;
    }
    // The one that is told is asked about once an hour, as it wishes.
    assert!((10..=13).contains(&scene.asked(1).len()), "{}", scene.asked(1).len());
}

#[tokio::test(start_paused = true)]
async fn of_two_responders_the_one_that_wants_to_be_left_alone_is() {
    let scene = Scene::with_responders(1, &["a.test", "b.test"]);
    scene.set(0, Mood::Busy(1200));
    scene.cas.other_moods.lock().unwrap().insert(0, Mood::Down);
    tokio::time::sleep(19 * MINUTE).await;
    let asked = scene.all();
    let (a, b): (Vec<_>, Vec<_>) = asked.iter().partition(|asked| asked.host == "a.test");
    assert_eq!(a.len(), 1, "its wish is kept though the other one was asked after it");
    assert!(b.len() > 4, "and the other one is not spared");
    scene.forget();
    tokio::time::sleep(10 * MINUTE).await;
    assert!(scene.all().iter().any(|asked| asked.host == "a.test"), "it is asked once its time is over");
    // A wish of both holds the certificate back until the first is over.
    scene.cas.other_moods.lock().unwrap().insert(0, Mood::Busy(300));
    scene.until_asked(0).await;
    scene.forget();
    tokio::time::sleep(4 * MINUTE).await;
    assert!(scene.all().is_empty(), "{}", scene.all().len());
    scene.cas.other_moods.lock().unwrap().insert(0, Mood::Good(DAY));
    scene.until(0, State::Stapled).await;
    assert!(scene.all().iter().all(|asked| asked.host == "b.test"));
}

#[tokio::test(start_paused = true)]
async fn what_one_ca_wishes_through_a_cache_is_none_of_anothers_business() {
    let overrides = "a.test=http://cache.test/0,b.test=http://cache.test/1";
    let scene = Scene::set_up(&[&["a.test"], &["b.test"]], &[("STAPLER_RESPONDERS", overrides)]);
    scene.set(0, Mood::Busy(3600));
    scene.set(1, Mood::Down);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(scene.asked(0).len(), 1);
    assert!(scene.asked(1).len() > 4, "{}", scene.asked(1).len());
    assert!(scene.all().iter().all(|asked| asked.host == "cache.test"));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_holds_on_to_what_has_ended_is_passed_by_and_then_asked_again() {
    let scene = Scene::new(1);
    scene.set(0, Mood::Behind);
    assert!(scene.until(0, State::Stapled).await < Duration::from_secs(1), "by POST at once");
    let how = |scene: &Scene| -> Vec<_> { scene.all().into_iter().map(|asked| (asked.method, asked.copies)).collect() };
    assert_eq!(how(&scene), [("GET", Copies::Welcome), ("POST", Copies::Welcome)]);
    scene.forget();
    // That a copy was too old is no word against GET.
    scene.until_asked(0).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(how(&scene), [("GET", Copies::Unwanted)]);
    scene.set(0, Mood::Good(DAY));
    scene.forget();
    scene.until_asked(0).await;
    assert_eq!(how(&scene), [("GET", Copies::Welcome)]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_always_tells_one_to_wait_is_asked_about_the_others_in_turn() {
    let scene = Scene::new(100);
    // More than are asked about at once, by whichever order.
    for which in 0..40 {
        scene.set(which, Mood::Busy(60));
    }
    tokio::time::sleep(10 * MINUTE).await;
    for which in 0..100 {
        assert!(!scene.asked(which).is_empty(), "{which} is not asked about");
        assert_eq!(scene.state(which) == State::Stapled, which >= 40, "{which}");
    }
}
