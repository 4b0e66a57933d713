//! What happens in a trial, drawn.

use drawn::Draws;

use super::outside::Mode;
use super::{CHANNELS, FAULTS, SERVICES};

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    Down(usize),
    Up(usize),
    Channel(usize, Mode),
    /// The storage takes nothing, or does again.
    Full(bool),
    /// The process dies, and comes back after some seconds with a clock that is wrong by some.
    Crash(i64, i64),
    /// A stop as the team makes it.
    Stop(i64),
    /// The wall clock steps.
    Step(i64),
    /// Somebody acknowledges whatever fires.
    Acknowledge,
}

pub(super) fn plan(draws: &mut Draws) -> Vec<(i64, Act)> {
    let mut acts = Vec::new();
    let mut outage = |at: i64, index: usize, length: i64| {
        acts.push((at, Act::Down(index)));
        acts.push((at + length, Act::Up(index)));
    };
    for index in 0..SERVICES.len() {
        let mut at = draws.below(FAULTS);
        for _ in 0..draws.below(4_u8) {
            let length = draws.pick(&[2, 4, 20, 100, 600]);
            outage(at, index, length);
            at += length + draws.pick(&[3, 30, 400, 800]);
        }
    }
    if draws.chance(40) {
        let (at, length) = (draws.below(FAULTS), draws.pick(&[5, 60, 600]));
        for index in 0..4 {
            outage(at + draws.below(10_i64), index, length + draws.below(10_i64));
        }
    }
    for _ in 0..draws.below(5_u8) {
        let mode = draws.pick(&[Mode::Fails, Mode::Fails, Mode::Refuses, Mode::Hangs]);
        let (at, length) = (draws.below(FAULTS), draws.pick(&[10, 60, 300, 2000]));
        let everything = draws.chance(30);
        for channel in 0..CHANNELS.len() {
            if everything || draws.chance(30) {
                acts.push((at, Act::Channel(channel, mode)));
                acts.push((at + length, Act::Channel(channel, Mode::Well)));
            }
        }
    }
    // An answer that is lost costs a message that comes twice: rare, as in life.
    if draws.chance(2) {
        let (at, channel) = (draws.below(FAULTS), draws.below(CHANNELS.len()));
        acts.push((at, Act::Channel(channel, Mode::LosesAnswers)));
        acts.push((at + 5, Act::Channel(channel, Mode::Well)));
    }
    if draws.chance(30) {
        let at = draws.below(FAULTS);
        acts.extend([(at, Act::Full(true)), (at + draws.pick(&[3, 30, 400]), Act::Full(false))]);
    }
    for _ in 0..draws.below(4_u8) {
        let down = draws.pick(&[0, 1, 10, 300]);
        let wrong = if draws.chance(20) { draws.pick(&[-86_400, -600, 600, 86_400]) } else { 0 };
        let act = if draws.chance(25) { Act::Stop(down) } else { Act::Crash(down, wrong) };
        // Where something happens anyway, there is something to lose.
        let near: Vec<i64> =
            acts.iter().filter(|(_, act)| matches!(act, Act::Down(_) | Act::Up(_))).map(|it| it.0).collect();
        let at = if near.is_empty() { draws.below(FAULTS) } else { draws.pick(&near) + draws.below(4_i64) };
        acts.push((at, act));
    }
    if draws.chance(20) {
        acts.push((draws.below(FAULTS), Act::Step(draws.pick(&[-86_400, -300, 300, 86_400]))));
    }
    for _ in 0..draws.below(3_u8) {
        acts.push((draws.below(FAULTS), Act::Acknowledge));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}
