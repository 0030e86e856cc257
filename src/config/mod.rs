//! Room `config`: YAML text -> [`Config`], all mistakes told at once, each at its line and column.
//!
//! ```text
//! bytes ─ text ─► tree ─ assign (--set) ─ expand (${env:…}) ─► walk (types, unknown keys, defaults) ─► cross, files ─► build ─► Config
//!                                                   table ◄───────┘ also drives schema, print and document
//! ```
//!
//! Pure: opens no file and reads no environment; both are handed in. Does not decide what a value is good for (the
//! rooms do), does not resolve host names, and keeps no copy of the file.

mod assign;
mod build;
mod cross;
#[cfg(test)]
mod document;
mod duration;
mod endpoint;
mod expand;
mod files;
mod keys;
pub mod meaning;
mod near;
mod print;
mod problem;
mod scalar;
mod schema;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod value;
mod walk;

pub use assign::{Assignment, NotAnAssignment};
pub use expand::Environment;
pub use files::Files;
pub use meaning::Config;
pub use print::REDACTED;
pub use problem::Problem;
pub use schema::schema;
pub use text::MOST_BYTES;
pub use tree::{MOST_DEPTH, MOST_EXPANDED};

use problem::{Place, Problems};
use value::Value;

/// What `check` works with where no file is given: every default, and nowhere to send anything.
pub const BUILT_IN: &str = "\
exporters: { debug: {} }
service: { pipelines: { traces: { exporters: [debug] }, metrics: { exporters: [debug] }, logs: { exporters: [debug] } } }
";

/// What a configuration may look at beside its own text.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// For `${env:…}`.
    pub environment: Environment<'a>,
    /// For the TLS files named; `None`: they are not looked at.
    pub files: Option<Files<'a>>,
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What is odd but no error.
    pub warnings: Vec<Problem>,
    effective: Value,
    /// The left sides of the `--set`s, by index.
    sets: Vec<String>,
}

impl Loaded {
    /// The effective configuration as YAML: defaults filled in, secrets as [`REDACTED`]; is accepted again by [`load`].
    pub fn print(&self) -> String {
        print::print(&self.effective)
    }

    /// Problems that only using the values showed: keys by their parts, and what is wrong with each. Told where the key was
    /// written, or, where it has its default, the nearest one around it.
    pub fn unusable(&self, wrong: impl IntoIterator<Item = (Vec<String>, String)>) -> Vec<Problem> {
        let mut problems = Problems::new(self.sets.clone());
        for (parts, why) in wrong {
            let place = self.effective.place(&parts);
            let key = parts.join(".");
            // The word of a `--set` begins with its key.
            let message = if matches!(place, Place::Set(_)) { why } else { format!("{key}: {why}") };
            problems.add(place, &key, message);
        }
        problems.into_sorted()
    }
}

/// Reads, expands and checks `bytes`; all errors in the order of the file, those of `sets` last.
pub fn load(bytes: &[u8], sets: &[Assignment], world: World<'_>) -> Result<Loaded, Vec<Problem>> {
    let names: Vec<String> = sets.iter().map(|set| set.path.clone()).collect();
    let mut errors = Problems::new(names.clone());
    let mut warnings = Problems::new(names.clone());
    let effective = checked(bytes, sets, world, &mut errors, &mut warnings);
    match effective {
        Some(effective) if errors.is_empty() => {
            Ok(Loaded { config: build::build(&effective), warnings: warnings.into_sorted(), effective, sets: names })
        }
        _ => Err(errors.into_sorted()),
    }
}

fn checked(bytes: &[u8], sets: &[Assignment], world: World<'_>, errors: &mut Problems, warnings: &mut Problems) -> Option<Value> {
    let text = text::decode(bytes, errors)?;
    let parsed = tree::build(text, errors);
    if parsed.is_none() && !errors.is_empty() {
        return None;
    }
    let mut root = parsed.unwrap_or_else(|| tree::Node::new(Place::START, tree::What::Mapping(Vec::new())));
    for (index, set) in sets.iter().enumerate() {
        assign::apply(&mut root, set, index, errors);
    }
    let empty = root.is_null() || matches!(&*root.what, tree::What::Mapping(entries) if entries.is_empty());
    if empty {
        let needed =
            "the configuration is empty: it needs an exporter under `exporters` and a pipeline under `service.pipelines` that names it";
        errors.add(Place::START, "", needed);
        return None;
    }
    let expanded = expand::expand(&root, world.environment, errors);
    let effective = walk::check(&expanded, errors);
    cross::check(&effective, errors, warnings);
    if let Some(files) = world.files {
        files::check(&effective, files, errors);
    }
    Some(effective)
}
