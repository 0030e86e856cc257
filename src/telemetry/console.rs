//! How a log line looks.

use std::fmt::Write;
use std::sync::Arc;

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::{self, FmtContext};
use tracing_subscriber::registry::LookupSpan;

use super::Counters;
use super::limit::{Limiter, Ruling};
use super::lines::Lines;
use crate::config::meaning::LogEncoding;
use crate::model::LeftOutLine;
use crate::runtime::clock;

/// The layer that writes to standard error.
pub(super) fn layer<S>(encoding: LogEncoding, colors: bool, lines: Lines, counters: &Arc<Counters>) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let counters = Arc::clone(counters);
    match encoding {
        LogEncoding::Console => {
            let inner = format::Format::default().with_ansi(colors);
            let event_format = Limited { inner, encoding, limiter: Limiter::default(), counters };
            Box::new(fmt::layer().with_ansi(colors).event_format(event_format).with_writer(lines))
        }
        LogEncoding::Json => {
            let inner = format::Format::default().json().flatten_event(true).with_ansi(false);
            let event_format = Limited { inner, encoding, limiter: Limiter::default(), counters };
            Box::new(fmt::layer().with_ansi(false).fmt_fields(JsonFields::new()).event_format(event_format).with_writer(lines))
        }
    }
}

/// A format that leaves out what repeats too often, and says at the next line of the kind how many are missing.
struct Limited<F> {
    inner: F,
    encoding: LogEncoding,
    limiter: Limiter,
    counters: Arc<Counters>,
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        match self.limiter.rule(event.metadata().callsite(), clock::mono_now()) {
            Ruling::Pass { left_out: 0 } => self.inner.format_event(context, writer, event),
            Ruling::Pass { left_out } => {
                let mut line = String::new();
                self.inner.format_event(context, Writer::new(&mut line), event)?;
                writer.write_str(&with_missing(&line, left_out, self.encoding))
            }
            Ruling::LeaveOut => {
                self.counters.line_left_out(LeftOutLine::Repeated);
                Ok(())
            }
        }
    }
}

/// The line with the number of its like that were left out.
fn with_missing(line: &str, left_out: u64, encoding: LogEncoding) -> String {
    let line = line.trim_end();
    let mut noted = String::with_capacity(line.len() + 48);
    // Writing to a String cannot fail.
    let _infallible = match (encoding, line.strip_suffix('}')) {
        (LogEncoding::Json, Some(open)) => writeln!(noted, "{open},\"left_out\":{left_out}}}"),
        _ => writeln!(noted, "{line} ({left_out} more like this left out)"),
    };
    noted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_are_told_in_the_line_s_own_format() {
        assert_eq!(with_missing("WARN away\n", 3, LogEncoding::Console), "WARN away (3 more like this left out)\n");
        assert_eq!(with_missing("{\"a\":1}\n", 3, LogEncoding::Json), "{\"a\":1,\"left_out\":3}\n");
    }
}
