//! The vocabulary every room shares. Names nothing of this crate, does no I/O, reads no clock.

pub mod agent;
pub mod answer;
pub mod claims;
pub mod container;
pub mod delay;
pub mod facts;
pub mod reading;
pub mod singles;
pub mod snapshot;
pub mod source;
pub mod time;
pub mod wait;
pub mod window;

pub use agent::{AgentCounters, DoorCounters, Ending, ExitOutcome, LeftOutLine, SpanOutcome, TurnedAway, Unenriched, Unserved};
pub use answer::{Answer, Code, Refusal, Signal};
pub use claims::{ClaimValue, Claims, Match, Mesh, NODE_ID, Peer, Stamps};
pub use container::{Container, ContainerKey, Pod, ProcessKey, Subject, TaskKey};
pub use delay::{DelayKind, Delays};
pub use facts::{BpfFacts, Capabilities, Capability, CgroupFacts, CgroupLayout, Facts, Namespaces, TaskstatsFacts};
pub use reading::{CgroupStat, Reading, Totals};
pub use singles::{Blamed, CulpritKind, Durations, SingleWaits};
pub use snapshot::{ContainerSnapshot, EventSource, NodeCpu, NodeSnapshot};
pub use source::{Absence, Evidence, SourceName};
pub use time::{Mono, Wall, seconds};
pub use wait::{CulpritKey, EventFields, MAX_CULPRITS, OpenWait, Wait};
pub use window::{Culprit, Scope, Stall, Verdict, Window};
