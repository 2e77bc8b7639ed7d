//! What befalls a broker and its clients, drawn from a seed.

use std::time::Duration;

use harness::Random;
use harness::relay::{Direction, Way};

/// Longer than the 30 s after which both sides of a connection give up a silent peer.
const ASLEEP: Duration = Duration::from_secs(32);

/// A storm.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Whether datagrams are as on a network. Only then may a client change its address in the middle of a connection.
    pub(crate) as_on_network: bool,
    /// Longest pause of publishers between bursts.
    pub(crate) pause_ms: u64,
    pub(crate) steps: Vec<Step>,
}

/// Something that happens after some quiet.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) quiet: Duration,
    pub(crate) fault: Fault,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The broker is killed and started again.
    Kill,
    /// The broker is killed, and again so long after its next start has begun.
    KillTwice(Duration),
    /// The broker stands still for some time.
    PauseBroker(Duration),
    /// Some clients stand still for some time.
    PauseClients(Vec<usize>, Duration),
    /// A client is killed, and another one takes its place.
    KillClient(usize),
    /// The network gets better or worse, and stays so.
    Weather(Way, Way),
    /// Nothing gets through in these directions for some time.
    Cut(Vec<Direction>, Duration),
    /// The broker sees all clients come from other ports.
    Rebind,
}

/// Clients of each storm.
pub(crate) const CLIENTS: usize = 5;

fn ms(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.between(from, to))
}

fn client(random: &mut Random) -> usize {
    usize::try_from(random.below(CLIENTS as u64)).unwrap()
}

/// Faults with up to so much quiet before each.
fn plan(random: &mut Random, quiet_ms: u64, faults: Vec<Fault>) -> Plan {
    let step = |fault| Step { quiet: ms(random, 50, quiet_ms), fault };
    let steps = faults.into_iter().map(step).collect();
    Plan { as_on_network: random.percent(50), pause_ms: random.between(5, 30), steps }
}

/// The broker is killed again and again, under load and while it starts.
pub(crate) fn kills(random: &mut Random) -> Plan {
    let mut faults: Vec<Fault> = (0..8).map(|_| kill(random)).collect();
    faults.insert(4, Fault::KillClient(client(random)));
    plan(random, 800, faults)
}

fn kill(random: &mut Random) -> Fault {
    if random.percent(40) { Fault::KillTwice(ms(random, 0, 120)) } else { Fault::Kill }
}

/// Everything that a network can do, one after the other.
pub(crate) fn network(random: &mut Random) -> Plan {
    let one_way = if random.percent(50) { Direction::ToBroker } else { Direction::ToClients };
    let mut faults = vec![
        Fault::Weather(weather(random), weather(random)),
        Fault::Rebind,
        // Longer than a client waits for an answer before it takes its broker for gone.
        Fault::Cut(vec![one_way], ms(random, 2500, 3500)),
        Fault::Weather(weather(random), weather(random)),
        Fault::Cut(vec![Direction::ToBroker, Direction::ToClients], ms(random, 200, 3500)),
        Fault::Rebind,
        Fault::Weather(weather(random), Way::default()),
    ];
    let turn = usize::try_from(random.below(faults.len() as u64)).unwrap();
    faults.rotate_left(turn);
    // A connection that was lost needs some time to come back.
    plan(random, 2000, faults)
}

fn weather(random: &mut Random) -> Way {
    let least = random.between(0, 20);
    Way {
        loss: random.between(0, 15),
        double: random.between(0, 20),
        delay: (least, least + random.between(0, 20)),
        late: random.between(0, 10),
        late_by: random.between(10, 200),
    }
}

/// Anything, in any order, over a network that is bad most of the time.
pub(crate) fn mixtures(random: &mut Random) -> Plan {
    let faults = (0..8).map(|_| any(random)).collect();
    plan(random, 1000, faults)
}

fn any(random: &mut Random) -> Fault {
    match random.below(9) {
        0 | 1 => kill(random),
        2 => Fault::PauseBroker(ms(random, 100, 6000)),
        3 => Fault::PauseClients(vec![client(random), client(random)], ms(random, 100, 3000)),
        4 => Fault::KillClient(client(random)),
        5 => Fault::Rebind,
        6 => Fault::Cut(vec![Direction::ToClients], ms(random, 100, 2500)),
        _ => Fault::Weather(weather(random), weather(random)),
    }
}

/// The broker sleeps so long that its clients have given it up, and finds that its connections are past their time.
pub(crate) fn broker_asleep(random: &mut Random) -> Plan {
    Plan { pause_ms: 300, ..plan(random, 1000, vec![Fault::PauseBroker(ASLEEP)]) }
}

/// A publisher and a reader sleep until the broker has given them up, while the others go on.
pub(crate) fn clients_asleep(random: &mut Random) -> Plan {
    let sleepers = vec![usize::try_from(random.below(3)).unwrap(), 4];
    Plan { pause_ms: 300, ..plan(random, 1000, vec![Fault::PauseClients(sleepers, ASLEEP)]) }
}
