//! Single steps by table, and whole rollouts over a fleet that does what it likes.

use proptest::prelude::*;

use super::*;

const TIMEOUT_S: u64 = 600;

fn plan(ends: &[u32]) -> Plan {
    let limits = Limits {
        max_parallel: 3,
        max_failed_pct: 20,
        min_confirmed_pct: 80,
        device_timeout: Duration::from_secs(TIMEOUT_S),
        soak: Duration::ZERO,
    };
    Plan { limits, ends: ends.to_vec() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

fn update(state: UpdateState, seen: Seen) -> Update {
    let device = DeviceId::parse("m-0").unwrap();
    Update { device, stage: 0, state, is_forgiven: false, sent_at: Some(at(0)), seen }
}

fn there() -> Seen {
    Seen { is_there: true, is_online: true, command: Some(CommandStatus::Accepted), ..Seen::default() }
}

#[test]
fn what_a_device_says_and_does_not_say_decides_what_becomes_of_it() {
    use CommandStatus::{Accepted, Cancelled, Delivered, Error, Expired, Pending, Rejected, Timeout, Unsupported};
    use UpdateState::{Applying, Confirmed, Downloading, Failed, Sent, Skipped, Verifying, Waiting};
    let check = |state, seen: Seen, now: i64, expected: Option<(UpdateState, Option<UpdateReason>)>| {
        let mut tally = Tally::default();
        *tally.count_of(state, false) = 1;
        let step = step(&plan(&[1]), Progress::START, &[tally], &[update(state, seen.clone())], at(now));
        let change = step.changes.first().map(|c| (c.to, c.reason));
        assert_eq!(change, expected, "{state:?} {seen:?}");
    };
    let said = |report| Seen { report: Some(report), ..there() };
    let command = |command| Seen { command: Some(command), ..there() };
    check(Sent, there(), 1, None);
    check(Sent, said(OtaState::Downloading), 1, Some((Downloading, None)));
    check(Downloading, said(OtaState::Applying), 1, Some((Applying, None)));
    check(Applying, said(OtaState::Success), 1, None);
    check(Applying, said(OtaState::Downloading), 1, None);
    check(Verifying, said(OtaState::Failed), 1, Some((Failed, Some(UpdateReason::UpdateFailed))));
    check(Applying, Seen { has_target: true, ..said(OtaState::Success) }, 1, Some((Confirmed, None)));
    check(Sent, Seen { has_target: true, ..command(Timeout) }, 1, Some((Confirmed, None)));
    check(Failed, Seen { has_target: true, ..there() }, 1, Some((Confirmed, None)));
    check(Failed, there(), 1, None);
    check(Sent, command(Rejected), 1, Some((Failed, Some(UpdateReason::Refused))));
    check(Sent, command(Unsupported), 1, Some((Failed, Some(UpdateReason::Unsupported))));
    check(Sent, command(Error), 1, Some((Failed, Some(UpdateReason::Broken))));
    check(Sent, command(Cancelled), 1, Some((Failed, Some(UpdateReason::Withdrawn))));
    check(Sent, command(Timeout), 1, Some((Failed, Some(UpdateReason::Unanswered))));
    check(Sent, Seen { report: Some(OtaState::Verifying), ..command(Timeout) }, 1, Some((Verifying, None)));
    check(Sent, command(Expired), 1, Some((Waiting, None)));
    check(Sent, Seen { command: None, ..there() }, 1, Some((Waiting, None)));
    check(Sent, Seen { is_there: false, ..there() }, 1, Some((Skipped, Some(UpdateReason::Gone))));
    check(Downloading, there(), TIMEOUT_S as i64 - 1, None);
    check(Downloading, there(), TIMEOUT_S as i64, Some((Failed, Some(UpdateReason::TimedOut))));
    check(Downloading, command(Accepted), TIMEOUT_S as i64 + 5, Some((Failed, Some(UpdateReason::TimedOut))));
    check(Sent, command(Delivered), TIMEOUT_S as i64, Some((Failed, Some(UpdateReason::TimedOut))));
    for not_received in [Pending, CommandStatus::Sent] {
        check(Sent, command(not_received), 1, None);
        check(Sent, command(not_received), TIMEOUT_S as i64, None);
        let said = Seen { command: Some(not_received), ..said(OtaState::Downloading) };
        check(Downloading, said, TIMEOUT_S as i64, Some((Failed, Some(UpdateReason::TimedOut))));
    }
    check(Waiting, there(), 1, Some((Sent, None)));
    check(Waiting, Seen { is_online: false, ..there() }, 1, None);
    check(Waiting, Seen { has_target: true, ..there() }, 1, Some((Skipped, Some(UpdateReason::AlreadyThere))));
    check(Waiting, Seen::default(), 1, Some((Skipped, Some(UpdateReason::Gone))));
}

#[test]
fn a_stage_is_passed_paused_or_waited_for_by_its_counts() {
    let check = |tally: &[Tally], progress: Progress, now: i64, soak_s: u64, expected: Progress| {
        let mut plan = plan(&[10, 20]);
        plan.limits.soak = Duration::from_secs(soak_s);
        let step = step(&plan, progress, tally, &[], at(now));
        assert_eq!(step.progress.unwrap_or(progress), expected, "{tally:?}");
    };
    let begun = Progress::START;
    let counts =
        |waiting, under_way, confirmed, failed| Tally { waiting, under_way, confirmed, failed, ..Tally::default() };
    let rest = counts(10, 0, 0, 0);
    let paused = |reason| Progress { state: RolloutState::Paused, pause: Some(reason), ..begun };
    check(&[counts(3, 0, 7, 0), rest], begun, 9, 0, begun);
    check(&[counts(2, 0, 8, 0), rest], begun, 9, 0, Progress { stage: 1, ..begun });
    check(&[counts(0, 0, 8, 2), rest], begun, 9, 0, Progress { stage: 1, ..begun });
    check(&[counts(4, 3, 0, 3), rest], begun, 9, 0, paused(PauseReason::TooManyFailed));
    let gone_on = Tally { forgiven: 3, confirmed: 5, waiting: 2, ..Tally::default() };
    check(&[gone_on, rest], begun, 9, 0, Progress { stage: 1, ..begun });
    let passed = Progress { passed_at: Some(at(9)), ..begun };
    check(&[counts(2, 0, 8, 0), rest], begun, 9, 60, passed);
    check(&[counts(2, 0, 8, 0), rest], passed, 68, 60, passed);
    check(&[counts(2, 0, 8, 0), rest], passed, 69, 60, Progress { stage: 1, ..begun });
    let last = Progress { stage: 1, ..begun };
    check(&[counts(0, 0, 10, 0), counts(0, 1, 9, 0)], last, 9, 0, last);
    check(&[counts(0, 0, 10, 0), counts(0, 0, 9, 1)], last, 9, 0, Progress { state: RolloutState::Completed, ..last });
}

#[test]
fn a_settled_stage_with_too_few_confirmed_pauses() {
    let mut strict = plan(&[10, 20]);
    strict.limits.max_failed_pct = 100;
    let tally = [Tally { confirmed: 7, failed: 3, ..Tally::default() }, Tally { waiting: 10, ..Tally::default() }];
    let next = step(&strict, Progress::START, &tally, &[], at(1)).progress.unwrap();
    assert_eq!((next.state, next.pause), (RolloutState::Paused, Some(PauseReason::TooFewConfirmed)));
}

#[test]
fn only_what_runs_is_paused_and_only_what_is_paused_resumed() {
    let of = |state| Progress { state, ..Progress::START };
    let resume = Action::Resume { retry: false };
    let check = |action: Action, from, to: Option<RolloutState>| {
        assert_eq!(action.apply(of(from)).map(|p| p.state), to, "{action:?} {from:?}");
    };
    use RolloutState::{Aborted, Completed, Paused, Running};
    check(Action::Pause, Running, Some(Paused));
    check(Action::Pause, Paused, None);
    check(resume, Paused, Some(Running));
    check(resume, Running, None);
    check(Action::Abort, Running, Some(Aborted));
    check(Action::Abort, Paused, Some(Aborted));
    for action in [Action::Pause, resume, Action::Abort] {
        check(action, Completed, None);
        check(action, Aborted, None);
    }
}

/// How a device of the model behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    Good,
    /// It has the version before anybody asks.
    Ahead,
    Refuses,
    FailsItsCheck,
    /// It never says a word.
    Mute,
    /// It is deleted once it was told.
    Vanishes,
    /// It is away every other round.
    Rare,
    /// It confirms after its time is up.
    Late,
}

/// The simplest world that a rollout can run in: lists, no store.
struct World {
    plan: Plan,
    progress: Progress,
    devices: Vec<(Habit, Update)>,
    round: i64,
}

impl World {
    fn new(habits: &[Habit], plan: Plan) -> Self {
        let devices = habits.iter().enumerate().map(|(index, habit)| {
            let stage = plan.ends.iter().take_while(|end| **end as usize <= index).count() as u32;
            let seen = Seen { is_there: true, is_online: true, has_target: *habit == Habit::Ahead, ..Seen::default() };
            let device = DeviceId::parse(&format!("m-{index}")).unwrap();
            (*habit, Update { device, stage, state: UpdateState::Waiting, is_forgiven: false, sent_at: None, seen })
        });
        Self { devices: devices.collect(), plan, progress: Progress::START, round: 0 }
    }

    fn tally(&self) -> Vec<Tally> {
        let mut stages = vec![Tally::default(); self.plan.ends.len()];
        for (_, update) in &self.devices {
            *stages[update.stage as usize].count_of(update.state, update.is_forgiven) += 1;
        }
        stages
    }

    /// Devices do what they do; a round is a minute.
    fn live(&mut self) {
        self.round += 1;
        for (habit, update) in &mut self.devices {
            update.seen.is_online = *habit != Habit::Rare || self.round % 2 == 0;
            let Some(sent_at) = update.sent_at else { continue };
            if !update.state.is_under_way() && update.state != UpdateState::Failed {
                continue;
            }
            let minutes = (at(self.round * 60).0 - sent_at.0) / 60_000_000;
            let seen = &mut update.seen;
            match habit {
                Habit::Good | Habit::Ahead | Habit::Rare => {
                    seen.command = Some(CommandStatus::Accepted);
                    seen.report = [OtaState::Downloading, OtaState::Applying].get(minutes as usize).copied();
                    seen.report = seen.report.or(Some(OtaState::Success));
                    seen.has_target = minutes >= 2;
                }
                Habit::Refuses => seen.command = Some(CommandStatus::Rejected),
                Habit::FailsItsCheck => seen.report = Some(OtaState::Failed),
                Habit::Mute => seen.command = Some(CommandStatus::Timeout),
                Habit::Vanishes => seen.is_there = false,
                Habit::Late => {
                    seen.command = Some(CommandStatus::Accepted);
                    seen.has_target = minutes > TIMEOUT_S as i64 / 60;
                }
            }
        }
    }

    /// One step, with what must hold of it.
    fn step(&mut self) {
        let before = self.progress;
        let updates: Vec<Update> = self.devices.iter().map(|(_, update)| update.clone()).collect();
        let now = at(self.round * 60);
        let step = step(&self.plan, before, &self.tally(), &updates, now);
        self.progress = step.progress.unwrap_or(before);
        assert!(self.progress.stage >= before.stage, "stages go forward");
        let mut seen = std::collections::HashSet::new();
        for change in step.changes {
            assert!(seen.insert(change.device.clone()), "one change a device");
            let (_, update) = self.devices.iter_mut().find(|(_, u)| u.device == change.device).unwrap();
            assert_eq!(update.state, change.from);
            let is_over = matches!(change.from, UpdateState::Confirmed | UpdateState::Skipped | UpdateState::Cancelled);
            assert!(!is_over, "an end is an end: {change:?}");
            if change.to == UpdateState::Sent {
                assert_eq!(before.state, RolloutState::Running, "nobody is told while it is paused");
                assert!(update.stage <= self.progress.stage, "nobody is told before its turn");
                assert!(update.seen.is_online && update.seen.is_there && !update.seen.has_target);
                update.sent_at = Some(now);
                update.seen.command = Some(CommandStatus::Pending);
                update.seen.report = None;
            }
            if change.to == UpdateState::Confirmed {
                assert!(update.seen.has_target, "only a hello confirms");
            }
            update.state = change.to;
        }
        let tally = self.tally();
        let sum = tally.iter().copied().fold(Tally::default(), Tally::plus);
        assert!(sum.under_way <= self.plan.limits.max_parallel);
        assert_eq!(sum.total() as usize, self.devices.len());
    }

    fn act(&mut self, action: Action) {
        let Some(next) = action.apply(self.progress) else { return };
        self.progress = next;
        for (_, update) in &mut self.devices {
            match action {
                Action::Resume { retry: true } if update.state == UpdateState::Failed => {
                    update.state = UpdateState::Waiting;
                    update.is_forgiven = false;
                    update.seen.report = None;
                }
                Action::Resume { .. } if update.state == UpdateState::Failed => update.is_forgiven = true,
                Action::Abort if update.state == UpdateState::Waiting || update.state.is_under_way() => {
                    update.state = UpdateState::Cancelled;
                }
                _ => {}
            }
        }
    }
}

fn habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        8 => Just(Habit::Good),
        1 => Just(Habit::Ahead),
        1 => Just(Habit::Refuses),
        1 => Just(Habit::FailsItsCheck),
        1 => Just(Habit::Mute),
        1 => Just(Habit::Vanishes),
        2 => Just(Habit::Rare),
        1 => Just(Habit::Late),
    ]
}

fn wish() -> impl Strategy<Value = Option<Action>> {
    prop_oneof![
        20 => Just(None),
        2 => Just(Some(Action::Pause)),
        4 => Just(Some(Action::Resume { retry: false })),
        1 => Just(Some(Action::Resume { retry: true })),
        1 => Just(Some(Action::Abort)),
    ]
}

proptest! {
    #[test]
    fn whatever_the_fleet_does_a_rollout_keeps_its_rules_and_comes_to_an_end(
        habits in prop::collection::vec(habit(), 1..40),
        cut in prop::collection::vec(1u8..100, 0..3),
        (max_parallel, max_failed_pct, min_confirmed_pct) in (1u32..8, 0u8..=100, 1u8..=100),
        wishes in prop::collection::vec(wish(), 0..60),
    ) {
        let mut cut = cut;
        cut.sort_unstable();
        let mut sizes: Vec<_> = cut.into_iter().map(StageSize::Percent).collect();
        sizes.push(StageSize::Percent(100));
        let mut plan = plan(&stage_ends(&sizes, habits.len() as u32).unwrap());
        plan.limits = Limits { max_parallel, max_failed_pct, min_confirmed_pct, ..plan.limits };
        let mut world = World::new(&habits, plan);
        for wish in wishes {
            world.live();
            world.step();
            if let Some(action) = wish {
                world.act(action);
            }
        }
        // Left alone, and resumed whenever it pauses, it ends.
        let mut rounds = 0;
        while world.progress.state.is_open() {
            world.live();
            world.step();
            world.act(Action::Resume { retry: false });
            rounds += 1;
            prop_assert!(rounds < 2000, "it never ends: {:?} {:?}", world.progress, world.tally());
        }
        let sum = world.tally().iter().copied().fold(Tally::default(), Tally::plus);
        if world.progress.state == RolloutState::Completed {
            prop_assert_eq!(sum.waiting + sum.under_way + sum.cancelled, 0);
            for (habit, update) in &world.devices {
                if *habit == Habit::Good {
                    prop_assert_eq!(update.state, UpdateState::Confirmed);
                }
            }
        }
    }
}
