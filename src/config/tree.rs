//! Text -> a tree of YAML nodes, each with the place where it was written.
//!
//! Built from parser events rather than by deserializing, because a derive stops at the first error and forgets
//! positions. Refused at once: nesting deeper than [`MOST_DEPTH`], aliases that expand past [`MOST_EXPANDED`], a second
//! document. Aliases share their node, so that an alias bomb costs nothing before it is counted.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::problem::{Place, Problems};

/// Deepest nesting of sequences and mappings, aliases expanded.
pub const MOST_DEPTH: usize = 64;
/// Largest tree with aliases and `${env:…}` expanded, in bytes of its scalars (two more for each node).
pub const MOST_EXPANDED: usize = 1 << 20;

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) what: Rc<What>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum What {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// Something already told to be wrong: no further word about it.
    Broken,
}

/// A scalar as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Not in quotes: may be a number, a truth value or nothing.
    pub(super) plain: bool,
    /// The text before `${env:…}` was expanded: what may be shown in a message.
    pub(super) typed: Option<String>,
}

/// One key of a mapping with its value; repeated keys are all kept.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn new(place: Place, what: What) -> Self {
        Self { place, what: Rc::new(what) }
    }

    /// A key without a value, `null` or `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&*self.what, What::Scalar(s) if s.plain && s.typed.is_none() && matches!(s.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// A finished node with what it costs.
#[derive(Clone)]
struct Built {
    node: Node,
    weight: usize,
    height: usize,
}

/// A collection whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    mapping: bool,
    items: Vec<Node>,
    entries: Vec<Entry>,
    pending: Option<(Option<String>, Place)>,
    weight: usize,
    height: usize,
}

/// The tree of the only document; `None` where there is none or where the reason for refusing it was told.
pub(super) fn build(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder { problems, open: Vec::new(), anchors: HashMap::new(), root: None, total: 0 };
    let mut documents = 0_usize;
    let mut options =
        granit_parser::options! { emit_unresolved_aliases: true, flow_nesting_limit: MOST_DEPTH, block_nesting_limit: MOST_DEPTH };
    options.set_emit_comments(false);
    for next in Parser::new_from_str_with_options(text, options) {
        let outcome = match next {
            Err(wrong) => Err((place_of(wrong.marker()), scan_message(&wrong))),
            Ok((Event::DocumentStart(..), span)) => {
                documents += 1;
                let second = "a second document begins here: a configuration is one document".to_owned();
                if documents > 1 { Err((place_of(&span.start), second)) } else { Ok(()) }
            }
            Ok((event, span)) => builder.take(event, place_of(&span.start), span.tag_start().map(|at| place_of(&at))),
        };
        if let Err((place, message)) = outcome {
            problems.add(place, "", message);
            return None;
        }
    }
    builder.root
}

fn place_of(mark: &Marker) -> Place {
    // The parser counts columns from 0.
    Place::File { line: mark.line().max(1), column: mark.col() + 1 }
}

fn scan_message(wrong: &ScanError) -> String {
    match wrong.kind() {
        ErrorKind::RecursionLimitExceeded => too_deep(),
        _ => format!("not YAML: {}", wrong.info()),
    }
}

fn too_deep() -> String {
    format!("nested deeper than {MOST_DEPTH}")
}

/// Why the whole document is refused.
type Refused = (Place, String);

struct Builder<'a> {
    problems: &'a mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    root: Option<Node>,
    total: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, place: Place, tag_place: Option<Place>) -> Result<(), Refused> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = self.tagged(tag.as_deref(), tag_place.unwrap_or(place), text.into_owned(), style);
                let weight = text_weight(&text);
                self.total = self.total.saturating_add(weight.saturating_sub(2));
                self.finish(Built { node: Node::new(place, text), weight, height: 0 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(place, anchor, false, tag.as_deref(), tag_place),
            Event::MappingStart(_, anchor, tag) => self.begin(place, anchor, true, tag.as_deref(), tag_place),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(built) => {
                    self.weigh(built.weight, place)?;
                    self.finish(built, 0)
                }
                None => Err((place, "an alias inside the node it stands for".to_owned())),
            },
            Event::UnresolvedAlias(name) => {
                self.problems.add(place, "", format!("the alias *{name} has no anchor &{name} before it"));
                self.finish(Built { node: Node::new(place, What::Broken), weight: 2, height: 0 }, 0)
            }
            _ => Ok(()),
        }
    }

    /// Counts an alias against [`MOST_EXPANDED`] before anything is kept. What stands in the file itself is bounded by
    /// the size of the file, so a file without aliases never meets this bound.
    fn weigh(&mut self, weight: usize, place: Place) -> Result<(), Refused> {
        self.total = self.total.saturating_add(weight);
        if self.total > MOST_EXPANDED {
            return Err((place, "anchors and aliases expand past 1 MiB".to_owned()));
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, mapping: bool, tag: Option<&Tag>, tag_place: Option<Place>) -> Result<(), Refused> {
        if self.open.len() >= MOST_DEPTH {
            return Err((place, too_deep()));
        }
        if tag.is_some_and(|tag| !(is_core(tag) && tag.suffix() == if mapping { "map" } else { "seq" })) {
            self.problems.add(tag_place.unwrap_or(place), "", "tags are not known here: leave it out");
        }
        self.open.push(Open { place, anchor, mapping, items: Vec::new(), entries: Vec::new(), pending: None, weight: 2, height: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Refused> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let what = if open.mapping { What::Mapping(merged(open.entries, self.problems)) } else { What::Sequence(open.items) };
        let built = Built { node: Node::new(open.place, what), weight: open.weight, height: open.height };
        self.finish(built, open.anchor)
    }

    /// Puts a finished node where it belongs: key, value, item or root.
    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), Refused> {
        if self.open.len() + built.height > MOST_DEPTH {
            return Err((built.node.place, too_deep()));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(built.node);
            return Ok(());
        };
        parent.weight = parent.weight.saturating_add(built.weight);
        parent.height = parent.height.max(built.height + 1);
        if !parent.mapping {
            parent.items.push(built.node);
            return Ok(());
        }
        match parent.pending.take() {
            None => {
                let key = match &*built.node.what {
                    What::Scalar(scalar) => Some(scalar.text.clone()),
                    _ => None,
                };
                if key.is_none() && !matches!(&*built.node.what, What::Broken) {
                    self.problems.add(built.node.place, "", "a key must be one word, not a list or a mapping");
                }
                parent.pending = Some((key, built.node.place));
            }
            Some((Some(key), place)) => parent.entries.push(Entry { key, place, value: built.node }),
            Some((None, _)) => {}
        }
        Ok(())
    }

    fn tagged(&mut self, tag: Option<&Tag>, place: Place, text: String, style: ScalarStyle) -> What {
        let plain = style == ScalarStyle::Plain;
        let plain = match tag {
            None => plain,
            Some(tag) if is_core(tag) && tag.suffix() == "str" => false,
            Some(tag) if is_core(tag) && matches!(tag.suffix(), "int" | "bool" | "float" | "null") => true,
            Some(_) => {
                self.problems.add(place, "", "tags are not known here: leave it out");
                return What::Broken;
            }
        };
        What::Scalar(Scalar { text, plain, typed: None })
    }
}

fn is_core(tag: &Tag) -> bool {
    tag.handle() == "tag:yaml.org,2002:"
}

fn text_weight(what: &What) -> usize {
    match what {
        What::Scalar(scalar) => scalar.text.len().saturating_add(2),
        _ => 2,
    }
}

/// Merge keys: `<<` brings the keys of other mappings that this one does not name itself.
fn merged(entries: Vec<Entry>, problems: &mut Problems) -> Vec<Entry> {
    if !entries.iter().any(|entry| entry.key == "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.key == "<<");
    let mut known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
    for merge in merges {
        let sources: &[Node] = match &*merge.value.what {
            What::Sequence(items) => items,
            _ => std::slice::from_ref(&merge.value),
        };
        for source in sources {
            let What::Mapping(brought) = &*source.what else {
                problems.add(merge.place, "<<", "'<<' merges mappings: write an alias of a mapping, or a list of them");
                continue;
            };
            for entry in brought {
                if known.insert(entry.key.clone()) {
                    own.push(entry.clone());
                }
            }
        }
    }
    own
}
