//! The figures that are promised of the hop and of the agent at rest, as tables on standard output: `make figures`.
//!
//! What is asserted is only that the work was really done: no errors, every span counted, attributes on each of them.
//! The figures themselves depend on the machine; what means something anywhere are the ratios, because every system is
//! measured in the same run, in turn with the others, on the same bytes. CPU time is what the scheduler charged to the
//! threads of the measured process, never wall time.
//!
//! `STALLSPAN_FIGURES=quick` makes shorter rounds and fewer of them; `STALLSPAN_BEFORE=path` has another build of stallspan
//! measured in turn.

mod full_node;
mod hop;
mod idle;
mod latency;
pub mod load;
mod meter;
mod peer;
mod pipe;
pub mod sink;
pub mod spans;
pub mod systems;

/// Whether short rounds are asked for.
fn quick() -> bool {
    std::env::var_os("STALLSPAN_FIGURES").is_some_and(|word| word == "quick")
}

/// Median, least and largest.
struct Summary {
    median: f64,
    least: f64,
    most: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { median: quantile(&sorted, 0.5), least: sorted[0], most: sorted[sorted.len() - 1] }
    }

    fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.least, self.most)
    }
}

/// Of sorted values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (0..sorted.len()).find(|index| (*index + 1) as f64 >= share * sorted.len() as f64);
    sorted[index.unwrap_or(sorted.len() - 1)]
}
