//! A broker, its clients, and the relay between them; and what befalls them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use harness::check::{Event, Level, Recorded};
use harness::relay::{Direction, Relay, Way};
use harness::workload::{Plan as ClientPlan, Role};
use harness::{Broker, Process, Random, Recorder};
use rustix::process::Signal;

use crate::plan::{Fault, Plan};

/// Longest a client may run.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) const PARTITIONS: u32 = 3;

pub(crate) const TOPIC: &str = "orders";

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) relay: Relay,
    pub(crate) clients: Vec<Client>,
    /// Where the histories are: one of each client that ever was.
    pub(crate) histories: Vec<PathBuf>,
    /// What the world itself knows.
    pub(crate) own: Recorder,
    pub(crate) directory: PathBuf,
    as_on_network: bool,
    random: Random,
}

/// A client process.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) plan: ClientPlan,
    pub(crate) process: Process,
}

impl Client {
    pub(crate) const fn publishes(&self) -> bool {
        matches!(self.plan.role, Role::Publish { .. })
    }
}

impl World {
    /// A broker with a topic, and clients that begin.
    pub(crate) fn begin(name: &str, seed: u64, plan: &Plan) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("storm").join(name);
        std::fs::remove_dir_all(&directory).ok();
        std::fs::create_dir_all(&directory).unwrap();
        let transport = if plan.as_on_network { "network" } else { "loopback" };
        // So small that segments and checkpoints are written all the time.
        let small = ["--memory", "64MiB", "--flush-bytes", "256KiB"];
        let broker = Broker::start_with(&[&small[..], &["--transport", transport]].concat());
        broker.text(&["topic", "create", TOPIC, "--partitions", &PARTITIONS.to_string()]);
        let mut random = Random::new(seed);
        let relay = Relay::start(random.next(), broker.address());
        let own = Recorder::create(&directory.join("world.jsonl")).unwrap();
        let mut world = Self {
            broker,
            relay,
            clients: Vec::new(),
            histories: Vec::new(),
            own,
            directory,
            as_on_network: plan.as_on_network,
            random,
        };
        let publish = |level, timeout_ms| Role::Publish { level, timeout_ms, pause_ms: plan.pause_ms };
        let read = |resume_after| Role::Read { resume_after };
        let roles = [
            publish(Level::Durable, 120_000),
            publish(Level::Written, 120_000),
            // It gives up early, but later than it notices a lost connection: what was sent on that is in doubt then.
            publish(Level::Durable, 4_000),
            read(u64::MAX),
            read(200),
        ];
        for role in roles {
            let client = world.start(role);
            world.clients.push(client);
        }
        world
    }

    fn start(&mut self, role: Role) -> Client {
        let number = u32::try_from(self.histories.len() + 1).unwrap();
        let history = self.directory.join(format!("client-{number}.jsonl"));
        self.histories.push(history.clone());
        let (broker, relay) = (self.broker.address().to_string(), self.relay.address().to_string());
        let plan = ClientPlan {
            url: self.broker.url().replace(&broker, &relay),
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS,
            client: number,
            history,
            seed: self.random.next(),
            as_on_network: self.as_on_network,
            role,
        };
        let process = Process::start(plan.command(env!("CARGO_BIN_EXE_weir-workload")), LIMIT);
        Client { plan, process }
    }

    pub(crate) fn strike(&mut self, fault: &Fault) {
        match fault {
            Fault::Kill => {
                self.broker.kill();
                self.broker.restart();
            }
            Fault::KillTwice(after) => {
                self.broker.kill();
                let began = Instant::now();
                self.broker.restart_and_kill(|| began.elapsed() >= *after);
                self.broker.restart();
            }
            Fault::PauseBroker(time) => {
                self.broker.process().signal(Signal::STOP);
                thread::sleep(*time);
                self.broker.process().signal(Signal::CONT);
            }
            Fault::PauseClients(clients, time) => {
                let clients: BTreeSet<usize> = clients.iter().copied().collect();
                let signal = |signal| {
                    let chosen = clients.iter().filter_map(|client| self.clients.get(*client));
                    chosen.for_each(|client| client.process.signal(signal));
                };
                signal(Signal::STOP);
                thread::sleep(*time);
                signal(Signal::CONT);
            }
            Fault::KillClient(client) => self.kill_client(*client),
            Fault::Weather(to_broker, to_clients) => {
                self.relay.set(Direction::ToBroker, *to_broker);
                self.relay.set(Direction::ToClients, *to_clients);
            }
            Fault::Cut(directions, time) => {
                directions.iter().for_each(|direction| self.relay.set(*direction, Way::CUT));
                thread::sleep(*time);
                self.relay.heal();
            }
            Fault::Rebind => self.relay.rebind(),
        }
    }

    /// Kills a client. What it left without an outcome is in doubt. Another one takes its place.
    fn kill_client(&mut self, client: usize) {
        let killed = self.clients.remove(client);
        killed.process.signal(Signal::KILL);
        let ended = killed.process.finish();
        assert_eq!(ended.code, None, "{} ended by itself: {}", ended.what, ended.stderr);
        match killed.plan.role {
            Role::Read { .. } => self.own.note(&[Event::Stop { reader: killed.plan.client }]).unwrap(),
            // It may have been killed before it had a history.
            Role::Publish { .. } if killed.plan.history.exists() => {
                let left = Recorded::read(&[&killed.plan.history]).unwrap();
                let doubts: Vec<Event> = left.unanswered().map(|value| Event::InDoubt { value }).collect();
                self.own.note(&doubts).unwrap();
            }
            Role::Publish { .. } => {}
        }
        let started = self.start(killed.plan.role);
        self.clients.insert(client, started);
    }
}
