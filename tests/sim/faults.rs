//! What goes wrong: each seed draws which classes of faults its world knows, and when they strike.

use harness::Random;

use crate::scheduler::{MS, SECOND};

/// A class of faults.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Class {
    /// A connection breaks.
    ConnectionLoss,
    /// A connection breaks, and one end does not notice for long.
    HalfOpen,
    /// Bytes of some clients, or of all, stand still in one direction or both.
    Stall,
    /// Bytes take long.
    SlowNetwork,
    /// Packets are lost: what comes behind them on their stream waits until they were sent again.
    PacketLoss,
    /// The broker's process is killed.
    Kill,
    /// The broker's machine loses power.
    PowerCut,
    /// The process dies, or the power fails, in the middle of a call of the disk.
    CrashInCall,
    /// As before, while the broker recovers.
    CrashInRecovery,
    /// The broker is shut down in order.
    Stop,
    /// The broker stands still for up to a minute.
    BrokerPause,
    /// A client stands still for up to a minute.
    ClientPause,
    /// A client's process is killed.
    ClientKill,
    /// A client's process is killed, and the next one takes over the identity of a producer that may live.
    Fence,
    /// The wall clock jumps by up to an hour.
    ClockJump,
    /// A sync or write of the journal fails.
    JournalError,
    /// Another call of the disk fails; now and then while the broker recovers.
    DiskError,
    /// The disk has no space for a while.
    DiskFull,
    /// The disk is slow for a while.
    SlowDisk,
}

impl Class {
    pub(crate) const ALL: [Self; 19] = [
        Self::ConnectionLoss,
        Self::HalfOpen,
        Self::Stall,
        Self::SlowNetwork,
        Self::PacketLoss,
        Self::Kill,
        Self::PowerCut,
        Self::CrashInCall,
        Self::CrashInRecovery,
        Self::Stop,
        Self::BrokerPause,
        Self::ClientPause,
        Self::ClientKill,
        Self::Fence,
        Self::ClockJump,
        Self::JournalError,
        Self::DiskError,
        Self::DiskFull,
        Self::SlowDisk,
    ];

    /// About how long there is between two faults of the class.
    const fn pause(self) -> u64 {
        match self {
            Self::ConnectionLoss | Self::HalfOpen | Self::SlowDisk | Self::DiskError => 3 * SECOND,
            Self::Stall | Self::SlowNetwork | Self::PacketLoss | Self::ClockJump | Self::CrashInCall => {
                6 * SECOND
            }
            Self::Kill | Self::PowerCut | Self::CrashInRecovery | Self::JournalError => 8 * SECOND,
            Self::Stop
            | Self::ClientPause
            | Self::ClientKill
            | Self::Fence
            | Self::DiskFull
            | Self::BrokerPause => 12 * SECOND,
        }
    }
}

/// The faults of one world.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    random: Random,
    pub(crate) classes: Vec<Class>,
}

impl Faults {
    /// Draws each class with an even chance; `without` are left out.
    pub(crate) fn draw(mut random: Random, without: &[Class]) -> Self {
        let mut classes: Vec<Class> = Class::ALL.into_iter().filter(|_| random.percent(50)).collect();
        classes.retain(|class| !without.contains(class));
        Self { random, classes }
    }

    /// When the next fault of a class strikes.
    pub(crate) fn next(&mut self, now: u64, class: Class) -> u64 {
        now + self.random.between(50 * MS, 2 * class.pause())
    }

    pub(crate) fn has(&self, class: Class) -> bool {
        self.classes.contains(&class)
    }
}
