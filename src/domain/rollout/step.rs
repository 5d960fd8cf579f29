//! One step of a rollout: what became of the devices under way, whether the stage is passed or too much has failed, and who
//! is told next.
//!
//! Invariants: a device is told only while the rollout runs, in its stage's turn, when it is online and a place is free; a
//! device that has come to an end stays there, but for one that failed and says the new version after all.

use super::{Change, PauseReason, Plan, Progress, RolloutState, Step, Tally, Update, UpdateReason, UpdateState};
use crate::domain::Timestamp;
use crate::domain::command::CommandStatus;
use crate::domain::message::OtaState;

/// Steps a rollout. `tally`: one a stage, of all its devices. `updates`: all devices under way, those that failed and have the
/// version now, and, in their order, some that wait. What is not among them is looked at in a later step.
pub fn step(plan: &Plan, progress: Progress, tally: &[Tally], updates: &[Update], now: Timestamp) -> Step {
    if !progress.state.is_open() {
        return Step::default();
    }
    let mut counts = Counts { stages: tally.to_vec(), changes: Vec::new() };
    for update in updates.iter().filter(|update| update.state != UpdateState::Waiting) {
        if let Some((to, reason)) = follow(update, plan, now) {
            counts.change(update, to, reason);
        }
    }
    let mut next = judge(plan, progress, &counts.stages, now);
    if next.state == RolloutState::Running {
        tell(plan, next, &mut counts, updates);
        // What was skipped may have been all that was missing.
        next = judge(plan, next, &counts.stages, now);
    }
    Step { progress: (next != progress).then_some(next), changes: counts.changes }
}

/// The counts, kept in step with what changes.
struct Counts {
    stages: Vec<Tally>,
    changes: Vec<Change>,
}

impl Counts {
    fn change(&mut self, update: &Update, to: UpdateState, reason: Option<UpdateReason>) {
        if let Some(stage) = self.stages.get_mut(update.stage as usize) {
            let count = stage.count_of(update.state, update.is_forgiven);
            *count = count.saturating_sub(1);
            *stage.count_of(to, false) += 1;
        }
        let detail = update.seen.words.clone().filter(|_| to == UpdateState::Failed);
        self.changes.push(Change { device: update.device.clone(), from: update.state, to, reason, detail });
    }
}

fn sum(stages: &[Tally], stage: u32) -> Tally {
    stages.iter().take(stage as usize + 1).copied().fold(Tally::default(), Tally::plus)
}

/// What becomes of a device that was told.
fn follow(update: &Update, plan: &Plan, now: Timestamp) -> Option<(UpdateState, Option<UpdateReason>)> {
    let failed = |reason| Some((UpdateState::Failed, Some(reason)));
    let seen = &update.seen;
    if seen.has_target && (update.state == UpdateState::Failed || update.state.is_under_way()) {
        return Some((UpdateState::Confirmed, None));
    }
    if !update.state.is_under_way() {
        return None;
    }
    if !seen.is_there {
        return Some((UpdateState::Skipped, Some(UpdateReason::Gone)));
    }
    match (seen.report, seen.command) {
        (Some(OtaState::Failed), _) => return failed(UpdateReason::UpdateFailed),
        (_, Some(CommandStatus::Rejected)) => return failed(UpdateReason::Refused),
        (_, Some(CommandStatus::Unsupported)) => return failed(UpdateReason::Unsupported),
        (_, Some(CommandStatus::Error)) => return failed(UpdateReason::Broken),
        (_, Some(CommandStatus::Cancelled)) => return failed(UpdateReason::Withdrawn),
        (None, Some(CommandStatus::Timeout)) => return failed(UpdateReason::Unanswered),
        // It never got the command: it waits until it is there again.
        (None, Some(CommandStatus::Expired) | None) => return Some((UpdateState::Waiting, None)),
        // It has not got it yet; the command expires at the moment at which the device's time is up, and says so itself.
        (None, Some(CommandStatus::Pending | CommandStatus::Sent)) => return None,
        _ => {}
    }
    if update.sent_at.is_some_and(|sent| now >= sent.plus(plan.limits.device_timeout)) {
        return failed(UpdateReason::TimedOut);
    }
    let reached = match seen.report? {
        OtaState::Downloading => UpdateState::Downloading,
        OtaState::Verifying => UpdateState::Verifying,
        OtaState::Applying | OtaState::Success => UpdateState::Applying,
        OtaState::Failed => return None,
    };
    (reached > update.state).then_some((reached, None))
}

/// Whether the stage is passed, the rollout over, or too much has failed.
fn judge(plan: &Plan, progress: Progress, stages: &[Tally], now: Timestamp) -> Progress {
    let Some(&size) = plan.ends.get(progress.stage as usize) else { return progress };
    if progress.state != RolloutState::Running {
        return progress;
    }
    let paused = |reason| Progress { state: RolloutState::Paused, pause: Some(reason), ..progress };
    let so_far = sum(stages, progress.stage);
    if u64::from(so_far.failed) * 100 > u64::from(plan.limits.max_failed_pct) * u64::from(size) {
        return paused(PauseReason::TooManyFailed);
    }
    let (is_settled, is_last) =
        (so_far.waiting + so_far.under_way == 0, progress.stage as usize + 1 == plan.ends.len());
    if is_last {
        let state = if is_settled { RolloutState::Completed } else { RolloutState::Running };
        return Progress { state, ..progress };
    }
    let good = u64::from(so_far.confirmed + so_far.skipped + so_far.forgiven);
    let is_enough = good * 100 >= u64::from(plan.limits.min_confirmed_pct) * u64::from(size);
    match (progress.passed_at, is_enough) {
        (None, false) if is_settled => paused(PauseReason::TooFewConfirmed),
        (None, false) => progress,
        (passed_at, _) => {
            let passed_at = passed_at.unwrap_or(now);
            match now >= passed_at.plus(plan.limits.soak) {
                true => Progress { stage: progress.stage + 1, passed_at: None, ..progress },
                false => Progress { passed_at: Some(passed_at), ..progress },
            }
        }
    }
}

/// Tells devices that wait, in their order, as many as there is room for.
fn tell(plan: &Plan, progress: Progress, counts: &mut Counts, updates: &[Update]) {
    let under_way = counts.stages.iter().map(|stage| stage.under_way).sum();
    let mut room = plan.limits.max_parallel.saturating_sub(under_way);
    let is_turn = |update: &&Update| update.state == UpdateState::Waiting && update.stage <= progress.stage;
    for update in updates.iter().filter(is_turn) {
        if !update.seen.is_there {
            counts.change(update, UpdateState::Skipped, Some(UpdateReason::Gone));
        } else if update.seen.has_target {
            counts.change(update, UpdateState::Skipped, Some(UpdateReason::AlreadyThere));
        } else if update.seen.is_online && room > 0 {
            counts.change(update, UpdateState::Sent, None);
            room -= 1;
        }
    }
}
