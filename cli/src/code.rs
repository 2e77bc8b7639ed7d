//! Error codes of the command line itself. Codes of the broker and the client come with their errors.

/// Why a command could not do what was asked, when neither broker nor client was the reason.
///
/// The texts are stable, like those of the broker: each names its page in the docs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Code {
    /// An argument is missing, unknown or out of range.
    Usage,
    /// The configuration of the broker is wrong.
    Configuration,
    /// A file or stream cannot be read or written.
    File,
    /// The input of a command is not what it should be.
    Input,
    /// Some records have no receipt.
    NoReceipt,
    /// A context is missing or its file is unreadable.
    Context,
    /// Records that should be there are damaged.
    Missing,
    /// A load run found records lost, duplicated or reordered.
    Unverified,
    /// The broker could not start.
    Start,
    /// The broker could not go on.
    Broken,
    /// A data directory is damaged.
    Damaged,
    /// A repair could not be done.
    Repair,
    /// What is allowed or asked for does not fit the memory.
    Memory,
    /// A topic exists with other settings: the code that the broker has for it.
    TopicExists,
    /// There is no such consumer group: the code that the broker has for it.
    GroupNotFound,
}

impl Code {
    /// The text that stands in front of the message.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Usage => "WEIR-5001",
            Self::Configuration => "WEIR-5002",
            Self::File => "WEIR-5003",
            Self::Input => "WEIR-5004",
            Self::NoReceipt => "WEIR-5005",
            Self::Context => "WEIR-5006",
            Self::Missing => "WEIR-5007",
            Self::Unverified => "WEIR-5008",
            Self::Start => "WEIR-5009",
            Self::Broken => "WEIR-5010",
            Self::Damaged => "WEIR-5011",
            Self::Repair => "WEIR-5012",
            Self::Memory => "WEIR-5013",
            Self::TopicExists => "WEIR-2002",
            Self::GroupNotFound => "WEIR-4101",
        }
    }
}
