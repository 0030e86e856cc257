//! The nearest of a set of names, for `did you mean 'X'?`.

/// The candidate nearest to `typed`, if one is near enough to be what was meant.
pub(super) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = folded(typed);
    candidates
        .into_iter()
        .filter_map(|name| {
            let name_chars = folded(name);
            // A third of the letters may be wrong, and never more than three.
            let allowed = (name_chars.len().max(typed.len()) / 3).clamp(1, 3);
            (name_chars.len().abs_diff(typed.len()) <= allowed)
                .then(|| distance(&typed, &name_chars))
                .filter(|edits| *edits <= allowed && *edits < name_chars.len())
                .map(|edits| (edits, name))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Case and the choice between `-`, ` ` and `_` are no difference between names.
fn folded(name: &str) -> Vec<char> {
    const LONGEST: usize = 256;
    name.chars().take(LONGEST).map(|c| if matches!(c, '-' | ' ') { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous_from = None;
    for (row, &a) in from.iter().enumerate() {
        let mut current = Vec::with_capacity(to.len() + 1);
        let mut left = row + 1;
        current.push(left);
        let mut previous_to = None;
        for (column, &b) in to.iter().enumerate() {
            let diagonal = last.get(column).copied().unwrap_or(usize::MAX);
            let above = last.get(column + 1).copied().unwrap_or(usize::MAX);
            let mut best = diagonal.saturating_add(usize::from(a != b)).min(above.saturating_add(1)).min(left + 1);
            if previous_from == Some(b) && previous_to == Some(a) {
                let swapped = column.checked_sub(1).and_then(|c| before_last.get(c)).copied().unwrap_or(usize::MAX);
                best = best.min(swapped.saturating_add(1));
            }
            current.push(best);
            left = best;
            previous_to = Some(b);
        }
        before_last = std::mem::replace(&mut last, current);
        previous_from = Some(a);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_key_and_only_when_near() {
        let keys = ["endpoint", "timeout", "tls", "headers", "compression", "retry_on_failure"];
        let check = |typed: &str, expected: Option<&str>| assert_eq!(nearest(typed, keys), expected, "{typed}");
        check("endpont", Some("endpoint"));
        check("endpiont", Some("endpoint"));
        check("Time-Out", Some("timeout"));
        check("tsl", Some("tls"));
        check("retryOnFailure", Some("retry_on_failure"));
        check("sending_queue", None);
        check("x", None);
        check("", None);
    }

    #[test]
    fn distance_counts_a_swap_as_one() {
        let check = |a: &str, b: &str, expected| {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            assert_eq!(distance(&chars(a), &chars(b)), expected, "{a} {b}");
        };
        check("abc", "abc", 0);
        check("abc", "acb", 1);
        check("abc", "", 3);
        check("kitten", "sitting", 3);
    }
}
