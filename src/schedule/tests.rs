//! The schedule by example, and what holds of it whatever CAs, clocks and the agent do.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn start() -> Timestamp {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

fn life(validity: Duration) -> Life {
    let end = later(start(), validity);
    Life { this_update: start(), end, effective_end: later(start(), validity.saturating_sub(Duration::from_secs(300))) }
}

fn moment(since: Duration) -> Moment {
    Moment { wall: later(start(), since), monotonic: Monotonic::new(since) }
}

#[test]
fn a_fresh_staple_waits_for_half_of_its_life() {
    let progress = Progress::default();
    let due = progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.0), HOUR, moment(Duration::ZERO));
    assert_eq!(due, Monotonic::new(12 * HOUR));
    let due = progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.999), HOUR, moment(Duration::ZERO));
    assert!(due < Monotonic::new(15 * HOUR) && due > Monotonic::new(14 * HOUR));
}

#[test]
fn a_response_of_ten_minutes_is_refreshed_before_haproxy_drops_it() {
    let point = refresh_point(life(Duration::from_secs(600)), Jitter(0.9));
    assert_eq!(point, later(start(), Duration::from_secs(225)));
}

#[test]
fn nothing_held_is_due_at_once() {
    let now = moment(HOUR);
    assert_eq!(Progress::default().next_attempt(None, Jitter(0.5), HOUR, now), now.monotonic);
    let expired = Some(life(Duration::from_secs(900)));
    assert_eq!(Progress::default().next_attempt(expired, Jitter(0.5), HOUR, now), now.monotonic);
}

#[test]
fn after_a_short_fault_the_next_attempt_comes_within_thirty_seconds() {
    for (jitter, cost, by_two_methods, fault) in [0.0, 0.3, 0.7, 0.999]
        .into_iter()
        .flat_map(|jitter| (1..=9).map(move |cost| (jitter, cost)))
        .flat_map(|(jitter, cost)| [false, true].map(|by_two_methods| (jitter, cost, by_two_methods)))
        .flat_map(|(jitter, cost, two)| (1..=15).map(move |fault| (jitter, cost, two, Duration::from_secs(fault))))
    {
        let (mut progress, mut budget) = (Progress::default(), Budget::default());
        let mut now = moment(Duration::ZERO);
        while now.monotonic < Monotonic::new(fault) {
            let Allowance { requests, luxuries } = budget.allowance(now.monotonic);
            // What needs a second method, and what is led on.
            let cost = if by_two_methods { cost.min(luxuries).max(1) } else { cost.min(requests) };
            budget.record(std::iter::repeat_n(now.monotonic, cost));
            progress.record(Attempt::Failed, cost, None, now.monotonic);
            let due = budget.within(progress.next_attempt(None, Jitter(jitter), HOUR, now));
            now = moment(due.since(Monotonic::default()));
        }
        let after = now.monotonic.since(Monotonic::new(fault));
        assert!(after <= Duration::from_secs(30), "jitter {jitter}, {cost} requests, {fault:?}: {after:?}");
        assert!(by_two_methods || budget.allowance(now.monotonic).requests >= cost.min(2));
    }
}

#[test]
fn a_wish_for_patience_is_honoured_but_never_costs_the_staple() {
    let mut progress = Progress::default();
    let now = moment(20 * HOUR);
    progress.record(Attempt::Failed, 1, None, now.monotonic);
    let patience = Patience::new(Duration::from_secs(120), None, now.monotonic);
    assert_eq!(progress.released(patience, None, now), now.monotonic.after(Duration::from_secs(120)));
    let patience = Patience::new(365 * 24 * HOUR, None, now.monotonic);
    assert_eq!(progress.released(patience, None, now), now.monotonic.after(HOUR));
    let due = progress.released(patience, Some(life(21 * HOUR)), now);
    assert_eq!(due, now.monotonic.after(Duration::from_secs(55 * 60 / 4)));
}

#[test]
fn what_a_host_tells_one_certificate_holds_for_the_others_and_no_longer_than_had_they_been_told() {
    let (told_at, now) = (moment(20 * HOUR).monotonic, moment(20 * HOUR + Duration::from_secs(60)));
    let untold = Progress::default();
    let patience = Patience::new(HOUR, None, told_at);
    assert_eq!(untold.released(patience, None, now), told_at.after(HOUR));
    assert!(untold.released(patience, Some(life(21 * HOUR)), now) <= told_at.after(Duration::from_secs(55 * 60 / 4)));
    // Others go on being told the same; this one waits from when it first could have been told.
    let mut repeated = patience;
    for minutes in 1..300 {
        repeated = Patience::new(HOUR, Some(repeated), told_at.after(Duration::from_secs(60 * minutes)));
    }
    assert_eq!(untold.released(repeated, None, now), told_at.after(HOUR));
    // Once that is over, a new wish begins anew.
    let later = told_at.after(300 * HOUR);
    assert!(repeated.is_over(later));
    assert_eq!(untold.released(Patience::new(HOUR, Some(repeated), later), None, now), later.after(HOUR));
    // The last word counts, also a milder one.
    let milder = Patience::new(Duration::from_secs(5), Some(patience), told_at);
    assert_eq!(untold.released(milder, None, now), told_at.after(Duration::from_secs(5)));
}

#[test]
fn what_is_said_to_be_fresh_is_not_asked_for_but_never_past_a_quarter_of_what_is_left() {
    let now = moment(24 * HOUR);
    let due = |left: Duration, fresh_for: Option<Duration>| {
        let mut progress = Progress::default();
        progress.record(Attempt::Unchanged, 1, fresh_for, now.monotonic);
        let due =
            progress.next_attempt(Some(life(24 * HOUR + left + Duration::from_secs(300))), Jitter(0.0), HOUR, now);
        due.since(now.monotonic)
    };
    assert_eq!(due(20 * HOUR, None), HOUR);
    assert_eq!(due(20 * HOUR, Some(Duration::ZERO)), HOUR, "at least the timer");
    assert_eq!(due(20 * HOUR, Some(3 * HOUR)), 3 * HOUR);
    assert_eq!(due(20 * HOUR, Some(Duration::MAX)), 5 * HOUR, "whatever is said");
    assert_eq!(due(2 * HOUR, Some(3 * HOUR)), HOUR / 2);
}

#[test]
fn an_answer_that_comes_past_half_of_its_life_is_not_followed_by_a_question() {
    let mut progress = Progress::default();
    let now = moment(16 * HOUR);
    progress.record(Attempt::Renewed, 1, None, now.monotonic);
    let due = progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.0), HOUR, now);
    assert_eq!(due, now.monotonic.after(HOUR));
    let then = moment(17 * HOUR);
    assert_eq!(progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.0), HOUR, then), then.monotonic);
    // One that came young is asked for when it is due.
    progress.record(Attempt::Renewed, 0, None, moment(HOUR).monotonic);
    assert_eq!(progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.0), HOUR, now), now.monotonic);
}

#[test]
fn a_ca_that_has_nothing_newer_is_not_asked_over_and_over() {
    let mut progress = Progress::default();
    let now = moment(13 * HOUR);
    progress.record(Attempt::Unchanged, 1, None, now.monotonic);
    let due = progress.next_attempt(Some(life(24 * HOUR)), Jitter(0.0), HOUR, now);
    assert_eq!(due, now.monotonic.after(HOUR));
}

/// One certificate as the agent treats it: looks come when they like, and an attempt is made when the last look said.
struct Desk {
    progress: Progress,
    budget: Budget,
    held: Option<Life>,
    jitter: Jitter,
    refresh_interval: Duration,
    now: Moment,
    requests: Vec<Monotonic>,
    patience: Option<Patience>,
}

impl Desk {
    fn new(jitter: f64, refresh_interval: Duration) -> Self {
        let now = moment(1000 * HOUR);
        let (progress, budget, jitter) = (Progress::default(), Budget::default(), Jitter(jitter));
        Self { progress, budget, held: None, jitter, refresh_interval, now, requests: Vec::new(), patience: None }
    }

    fn due(&self) -> Monotonic {
        let due = self.progress.next_attempt(self.held, self.jitter, self.refresh_interval, self.now);
        let released = self.patience.map(|patience| self.progress.released(patience, self.held, self.now));
        self.budget.within(released.map_or(due, |released| due.max(released)))
    }

    fn left(&self) -> Duration {
        self.held.map(|life| between(self.now.wall, life.effective_end)).unwrap_or_default()
    }

    fn pass(&mut self, time: Duration) {
        let Moment { wall, monotonic } = self.now;
        self.now = Moment { wall: later(wall, time), monotonic: monotonic.after(time) };
    }

    fn step_wall_clock(&mut self, seconds: i64) {
        let by = Duration::from_secs(seconds.unsigned_abs());
        let wall = self.now.wall;
        self.now.wall = if seconds < 0 { crate::clock::earlier(wall, by) } else { later(wall, by) };
    }

    /// Looks again every `tick` until an attempt is due, and is there then.
    fn wait(&mut self, tick: Duration) {
        loop {
            let ahead = self.due().since(self.now.monotonic);
            self.pass(ahead.min(tick));
            if ahead <= tick {
                return;
            }
        }
    }

    /// An attempt that ends at once.
    fn attempt(&mut self, attempt: Attempt, requests: usize, retry_after: Option<Duration>) {
        let requests = requests.min(self.budget.allowance(self.now.monotonic).requests);
        let sent = std::iter::repeat_n(self.now.monotonic, requests);
        self.requests.extend(sent.clone());
        self.budget.record(sent);
        self.progress.record(attempt, requests, None, self.now.monotonic);
        self.hear(retry_after);
    }

    /// The host says, to whomever, that it wants to be left alone.
    fn hear(&mut self, retry_after: Option<Duration>) {
        let patience = retry_after.map(|wish| Patience::new(wish, self.patience, self.now.monotonic));
        self.patience = patience.or(self.patience);
    }

    /// The CA signs a staple that is `age` old already.
    fn renew(&mut self, age: Duration, left: Duration, spare: Duration, requests: usize) {
        let this_update = crate::clock::earlier(self.now.wall, age);
        let effective_end = later(self.now.wall, left);
        self.held = Some(Life { this_update, end: later(effective_end, spare), effective_end });
        self.attempt(Attempt::Renewed, requests, None);
    }

    fn most_in_a_minute(&self) -> usize {
        let within = |at: &Monotonic| {
            self.requests.iter().filter(|other| *other >= at && other.since(*at) < BUDGET_WINDOW).count()
        };
        self.requests.iter().map(within).max().unwrap_or_default()
    }
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn outcome() -> impl Strategy<Value = Attempt> {
    prop_oneof![Just(Attempt::Renewed), Just(Attempt::Unchanged), Just(Attempt::Failed)]
}

proptest! {
    // Each case plays hours of looks.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_refresh_is_due_before_the_effective_end(seconds in 301_u64..40_000_000, jitter in 0.0..1.0_f64) {
        let life = life(Duration::from_secs(seconds));
        let point = refresh_point(life, Jitter(jitter));
        prop_assert!(point >= life.this_update);
        prop_assert!(point < life.effective_end);
    }

    /// Whatever lives a CA gives that a budget of requests can keep up with: no staple ends while the CA answers.
    #[test]
    fn a_staple_is_renewed_before_its_end_while_the_ca_answers(
        jitter in 0.0..1.0_f64,
        interval in seconds(10..40_000),
        tick in seconds(20..300),
        answers in proptest::collection::vec(
            (seconds(0..20_000), seconds(61..20_000), seconds(0..301), 1_usize..=9), 1..20,
        ),
    ) {
        let mut desk = Desk::new(jitter, interval);
        for (age, left, spare, requests) in answers {
            desk.renew(age, left, spare, requests);
            desk.wait(tick);
            prop_assert!(desk.left() > Duration::ZERO, "{left:?} were left of {age:?} and more");
        }
    }

    /// A CA that fails is asked again before the staple's end as long as a minute is left, whatever it wishes.
    #[test]
    fn a_failing_ca_is_asked_again_until_the_last_minute(
        jitter in 0.0..1.0_f64,
        interval in seconds(10..40_000),
        tick in seconds(20..300),
        left in seconds(61..20_000),
        failures in proptest::collection::vec(
            (1_usize..=9, proptest::option::of(seconds(0..10_000))), 200,
        ),
    ) {
        let mut desk = Desk::new(jitter, interval);
        desk.renew(Duration::ZERO, left, Duration::from_secs(300), 1);
        for (requests, retry_after) in failures {
            desk.wait(tick);
            prop_assert!(desk.left() > Duration::ZERO);
            desk.attempt(Attempt::Failed, requests, retry_after);
            if desk.left() <= Duration::from_secs(61) {
                return Ok(());
            }
        }
        prop_assert!(false, "{:?} are left after 200 attempts", desk.left());
    }

    /// What a CA wishes is honoured up to a quarter of what is left, and no further, however often it is looked at.
    #[test]
    fn retry_after_is_honoured_unless_that_would_cost_the_staple(
        jitter in 0.0..1.0_f64,
        interval in seconds(10..40_000),
        tick in seconds(20..300),
        left in proptest::option::of(seconds(61..20_000)),
        wish in seconds(0..10_000),
    ) {
        let mut desk = Desk::new(jitter, interval);
        if let Some(left) = left {
            desk.renew(Duration::ZERO, left, Duration::from_secs(300), 0);
        }
        let ended = desk.now.monotonic;
        desk.attempt(Attempt::Failed, 1, Some(wish));
        desk.wait(tick);
        let pause = desk.now.monotonic.since(ended);
        let granted = wish.min(HOUR).min(left.map_or(HOUR, |left| left / 4));
        // Looks that come later see less left and may grant less; the last comes at most a tick before the attempt.
        let least = left.map_or(granted, |left| granted.min((left.saturating_sub(pause)) / 4));
        prop_assert!(pause >= least, "{pause:?} instead of {granted:?}");
        prop_assert!(pause <= granted.max(Duration::from_secs(10)), "{pause:?} instead of {granted:?}");
    }

    /// What other certificates are told in between keeps no staple waiting until its end.
    #[test]
    fn a_host_that_wishes_all_the_time_is_asked_before_the_end_all_the_same(
        jitter in 0.0..1.0_f64,
        interval in seconds(10..40_000),
        left in seconds(600..20_000),
        wishes in proptest::collection::vec((seconds(1..60), seconds(0..10_000)), 400..401),
    ) {
        let mut desk = Desk::new(jitter, interval);
        desk.renew(Duration::ZERO, left, Duration::from_secs(300), 0);
        let mut attempts = 0;
        for (pause, wish) in wishes {
            if desk.due() <= desk.now.monotonic {
                desk.attempt(Attempt::Failed, 1, Some(wish));
                attempts += 1;
            }
            desk.pass(pause);
            desk.hear(Some(wish));
            if desk.left() == Duration::ZERO {
                prop_assert!(attempts >= 2, "{attempts} attempts");
                return Ok(());
            }
        }
    }

    /// Whatever a cache says about freshness, a staple that is due is asked for within a quarter of what is left of it.
    #[test]
    fn what_goes_by_life_alone_is_due_at_the_same_instant_whenever_that_is_worked_out(
        validity in seconds(301..5_000_000),
        jitter in 0.0..1.0_f64,
        (ended, then, later_on) in (0.0..1.0_f64, 0.0..1.0_f64, 0.0..1.0_f64),
        attempt in proptest::option::of(outcome()),
    ) {
        let held = life(validity);
        let served = between(start(), held.effective_end);
        let mut progress = Progress::default();
        if let Some(attempt) = attempt {
            progress.record(attempt, 1, None, Monotonic::new(served.mul_f64(ended)));
        }
        let at = |share: f64| moment(served.mul_f64(ended + (0.999 - ended).max(0.0) * share));
        let (then, now) = (at(then.min(later_on)), at(then.max(later_on)));
        prop_assume!(then.wall < held.effective_end && now.wall < held.effective_end);
        if progress.goes_by_life(held, Jitter(jitter), then) {
            prop_assert!(progress.goes_by_life(held, Jitter(jitter), now));
            let due = |now: Moment| progress.next_attempt(Some(held), Jitter(jitter), HOUR, now);
            // Past its refresh point it is due at once, at any time.
            prop_assert!(due(then) == due(now) || due(now) <= now.monotonic);
        }
    }

    #[test]
    fn no_freshness_keeps_a_renewal_away(
        jitter in 0.0..1.0_f64,
        interval in seconds(10..40_000),
        tick in seconds(20..300),
        left in seconds(61..20_000),
        fresh_for in proptest::option::of(prop_oneof![seconds(0..100_000), Just(Duration::MAX)]),
    ) {
        let mut desk = Desk::new(jitter, interval);
        // Its refresh was due already.
        desk.renew(4 * left, left, Duration::from_secs(300), 0);
        let (now, least) = (desk.now.monotonic, interval.max(fresh_for.unwrap_or_default()).min(left / 5));
        desk.progress.record(Attempt::Unchanged, 1, fresh_for, now);
        desk.wait(tick);
        let pause = desk.now.monotonic.since(now);
        prop_assert!(pause <= (left / 4).max(FIRST_RETRY), "{pause:?} of {left:?}");
        prop_assert!(pause >= least, "{pause:?} instead of {least:?}");
    }

    /// Whatever happened and wherever the wall clock was stepped, the next attempt comes after the last one.
    #[test]
    fn an_attempt_is_never_due_before_the_last_one_ended(
        jitter in 0.0..1.0_f64,
        interval in seconds(10..40_000),
        (age, left) in (seconds(0..1_000_000), seconds(0..1_000_000)),
        attempts in proptest::collection::vec(
            (outcome(), 1_usize..=9, seconds(0..10_000), -1_000_000_i64..1_000_000), 1..20,
        ),
    ) {
        let mut desk = Desk::new(jitter, interval);
        desk.renew(age, left, Duration::from_secs(300), 0);
        for (outcome, requests, pause, step) in attempts {
            let ended = desk.now.monotonic;
            desk.attempt(outcome, requests, None);
            desk.step_wall_clock(step);
            desk.pass(pause);
            // Ten seconds less the jitter.
            let least = if outcome == Attempt::Renewed { Duration::ZERO } else { Duration::from_secs(8) };
            prop_assert!(desk.due() >= ended.after(least), "after {outcome:?}");
        }
    }

    /// A budget of requests a minute, whatever a CA answers and whatever it wishes.
    #[test]
    fn never_more_than_the_budget_in_any_minute(
        jitter in 0.0..1.0_f64,
        interval in seconds(1..4000),
        tick in seconds(20..300),
        attempts in proptest::collection::vec(
            (outcome(), 1_usize..=9, seconds(0..2000), seconds(1..2000), proptest::option::of(seconds(0..20))), 40,
        ),
        step in -100_000_i64..100_000,
    ) {
        let mut desk = Desk::new(jitter, interval);
        for (outcome, requests, age, left, retry_after) in attempts {
            prop_assert!(desk.budget.allowance(desk.now.monotonic).requests > 0, "an attempt is due and may ask nothing");
            match outcome {
                Attempt::Renewed => desk.renew(age, left, Duration::from_secs(300), requests),
                other => desk.attempt(other, requests, retry_after),
            }
            desk.step_wall_clock(step);
            desk.wait(tick);
        }
        prop_assert!(desk.most_in_a_minute() <= BUDGET);
    }

    /// A CA that signs anew at every request, but what was true long ago, is no more asked than one that signs nothing.
    #[test]
    fn an_answer_that_is_old_already_is_no_reason_to_ask_at_once(
        jitter in 0.0..1.0_f64,
        interval in seconds(10..40_000),
        tick in seconds(20..300),
        left in seconds(61..20_000),
    ) {
        let mut desk = Desk::new(jitter, interval);
        let ended = desk.now.monotonic;
        desk.renew(4 * left, left, Duration::from_secs(300), 1);
        desk.wait(tick);
        let pause = desk.now.monotonic.since(ended);
        prop_assert!(pause >= interval.min(left / 5), "{pause:?}");
    }

    /// While nothing is stapled and nothing comes: six attempts in the first two minutes at most, one in four minutes later.
    #[test]
    fn a_dead_ca_is_left_more_and_more_alone(jitter in 0.0..1.0_f64, tick in seconds(20..300)) {
        let mut desk = Desk::new(jitter, HOUR);
        let start = desk.now.monotonic;
        let mut attempts = Vec::new();
        while desk.now.monotonic < start.after(6 * HOUR) {
            attempts.push(desk.now.monotonic);
            desk.attempt(Attempt::Failed, 2, None);
            desk.wait(tick);
        }
        let until = |end: Duration| attempts.iter().filter(|at| at.since(start) < end).count();
        prop_assert!((4..=6).contains(&until(Duration::from_secs(120))), "{}", until(Duration::from_secs(120)));
        let later = attempts.iter().zip(attempts.iter().skip(8)).skip(8).map(|(a, b)| b.since(*a));
        for eight in later {
            prop_assert!(eight >= 8 * Duration::from_secs(240) && eight <= 8 * UNSTAPLED_RETRY, "{eight:?}");
        }
    }
}

/// A provider renews ten thousand certificates in one night, and their CA signs for all of them in the same minute. Their
/// refreshes fall evenly into the eighth after half of that life. `cargo test --lib histogram -- --nocapture` draws it.
#[test]
fn the_histogram_of_ten_thousand_refreshes_is_flat() {
    let life = life(7 * 24 * HOUR);
    let (half, window) = (7 * 12 * HOUR, 21 * HOUR);
    let mut tenths = [0_u32; 10];
    let mut minutes = std::collections::BTreeMap::<u64, u32>::new();
    for serial in 0..10_000_u32 {
        // As of a CertID: one issuer, serial numbers in a row.
        let jitter = Jitter::from_hash(&openssl::sha::sha1(
            &[b"the issuer's hashes".as_slice(), &serial.to_be_bytes()].concat(),
        ));
        let after = between(later(start(), half), refresh_point(life, jitter));
        assert!(after < window, "{after:?}");
        let tenth = usize::try_from(after.as_secs() * 10 / window.as_secs()).unwrap();
        tenths[tenth] += 1;
        *minutes.entry(after.as_secs() / 60).or_default() += 1;
    }
    for (tenth, count) in tenths.iter().enumerate() {
        println!("{:>3} % {count:>5} {}", (tenth + 1) * 10, "#".repeat(usize::try_from(count / 20).unwrap()));
        assert!((700..=1300).contains(count), "{tenths:?}");
    }
    let busiest = minutes.values().max().unwrap();
    println!("busiest minute: {busiest}, of {} minutes", window.as_secs() / 60);
    // Eight a minute on average.
    assert!(*busiest <= 30, "{busiest} in one minute");
}
