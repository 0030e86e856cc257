//! The shape in which [`super::table`] describes a key: what drives the parser, its suggestions, the JSON schema,
//! `print-config` and the documentation alike.

/// One key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// One or two sentences for a user.
    pub(super) about: &'static str,
    pub(super) kind: Kind,
    pub(super) preset: Preset,
}

/// What a key has when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preset {
    /// This YAML text. `{}` for a mapping: each of its keys has its own preset.
    Is(&'static str),
    /// Nothing: what it describes is off or absent. The text is an example for the documentation.
    Absent(&'static str),
    /// Leaving it out is an error. The text is an example for the documentation.
    Required(&'static str),
}

/// What may stand behind a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// `true` or `false`
    Flag,
    /// A whole number within these bounds.
    Count { least: u64, most: u64 },
    /// A number from 0 to 1.
    Ratio,
    /// A duration, zero allowed or not.
    Span { zero: bool },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text but none.
    Text,
    /// A path of a file or directory.
    Path,
    /// An address, in the form this place takes.
    Address(Address),
    /// Header names with their secret values.
    Headers,
    /// The full name of an exporter that is configured.
    ExporterName,
    /// A list with this many items.
    List { item: &'static Kind, least: usize, most: usize },
    /// A mapping of these keys and no others.
    Map(&'static [Key]),
    /// Exporters by name.
    Exporters,
}

/// Forms of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Listened on: `host:port` or `unix:///path`.
    Listen,
    /// Listened on: `host:port` only.
    ListenTcp,
    /// A gRPC server: `host:port`, `http://host:port`, `https://host:port`, `dns:///host:port` or `unix:///path`.
    Grpc,
    /// `http://host[:port][/path]` or `https://…`
    Url,
    /// `unix:///path`
    Unix,
}

impl Address {
    /// The form in words, for messages and documentation.
    pub(super) const fn form(self) -> &'static str {
        match self {
            Self::Listen => "host:port or unix:///path",
            Self::ListenTcp => "host:port",
            Self::Grpc => "host:port, http://host:port, https://host:port, dns:///host:port or unix:///path",
            Self::Url => "http://host:port/path or https://host:port/path",
            Self::Unix => "unix:///path",
        }
    }

    /// The schemes allowed.
    pub(super) const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Listen | Self::Unix => &["unix"],
            Self::ListenTcp => &[],
            Self::Grpc => &["http", "https", "dns", "unix"],
            Self::Url => &["http", "https"],
        }
    }
}

/// One type of exporter.
#[derive(Debug)]
pub(super) struct ExporterType {
    /// The first is its name, the others are old names of it.
    pub(super) names: &'static [&'static str],
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
}
