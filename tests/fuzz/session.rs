//! Sessions and the node behind them: clients that say whatever an input makes them say.
//!
//! An input is a list of steps: connections come and go, streams carry proper frames, frames with wrong bytes in them, and
//! plain noise; the disk is quick or slow, full or damaged. Whatever happens, no step breaks anything, nobody is sent
//! more than they allowed, what is under way stays within its bounds, and in the end everything comes back.

mod broker;
mod frames;
mod peer;
mod stored;

use harness::fuzz::{Choices, outcome};

use broker::Broker;

/// Steps of one input at most.
const STEPS_MAX: usize = 400;

pub(crate) fn check(input: &[u8]) -> u64 {
    let mut choices = Choices::new(input);
    let mut broker = Broker::new();
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        step(&mut broker, &mut choices);
        broker.check_bounds();
    }
    broker.finish();
    outcome(&broker.reached)
}

fn step(broker: &mut Broker, choices: &mut Choices<'_>) {
    let who = choices.below(broker::PEERS);
    match choices.below(16) {
        0 => broker.connect(who),
        1 => broker.disconnect(who),
        2 => broker.end_stream(who, choices.below(broker::STREAMS)),
        3..=8 => {
            let stream = choices.below(broker::STREAMS);
            let frame = frames::proper(choices, broker);
            broker.say(who, stream, &frame);
        }
        9 => {
            let stream = choices.below(broker::STREAMS);
            let mut frame = frames::proper(choices, broker).to_vec();
            let at = choices.below(frame.len());
            frame[at] ^= choices.byte();
            broker.say(who, stream, &frame);
        }
        10 => {
            let (stream, count) = (choices.below(broker::STREAMS), choices.below(40));
            broker.say(who, stream, choices.take(count));
        }
        11 => broker.write(choices.below(8)),
        12 => broker.sync(choices.below(8)),
        13 => broker.flush(),
        14 => broker.answer_reads(choices.below(4), choices.byte()),
        _ => broker.other(choices.byte()),
    }
}

/// Conversations that go well, so that changes of them get far.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let greet = |who| vec![who, 0, who, 3, 0, 0, 0, 0];
    let create = |who| vec![who, 3, 0, 1, 0, 7, 2, 0, 12, 7];
    let publish = |who| {
        let open = vec![who, 3, 1, 8, 0, 1];
        let batch = |records, length, odd| vec![who, 3, 1, 9, 0, who, records, length, odd];
        [open, batch(2, 10, 0), batch(0, 200, 1), batch(1, 3, 0), batch(1, 3, 205)].concat()
    };
    let settle = vec![0, 11, 3, 0, 12, 7, 0, 13, 0, 15, 0];
    // A reader of one partition from its start, and of another from a time.
    let read = |who| {
        let open = vec![who, 3, 2, 11, 0, 1, 208];
        let start = |partition, start, number| vec![who, 3, 2, 12, 0, start, partition, number];
        let moved = [start(0, 9, 0), start(0, 7, 0), start(1, 12, 1), start(0, 7, 1)].concat();
        [open, start(0, 4, 0), start(1, 7, 1), moved, vec![0, 14, 3, 0, 0, 15, 0]].concat()
    };
    let mut whole = [greet(0), create(0), publish(0)].concat();
    let mut seeds = vec![greet(0), whole.clone()];
    for part in
        [settle.clone(), read(0), greet(1), publish(1), read(1), settle.clone(), publish(0), read(0), settle]
    {
        whole.extend(part);
        seeds.push(whole.clone());
    }
    // Each kind of frame on the control stream and on a stream of its own, asked twice before the disk answers.
    for (kind, number) in (0..16).flat_map(|kind| [(kind, 0), (kind, 2), (kind, 3), (kind, 208)]) {
        let asked = |stream| vec![0, 3, stream, kind, 0, 6, 0, number];
        let ends = vec![0, 14, 3, 0, 0, 15, 130, 0, 12, 7, 0, 15, 0];
        seeds.push([whole.clone(), asked(0), asked(0), ends.clone()].concat());
        seeds.push([whole.clone(), asked(3), asked(3), ends].concat());
    }
    seeds
}
