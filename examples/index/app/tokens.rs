//! What a word is: a run of letters, digits and underscores; and the parts of an identifier.

/// The words of `text`, as they stand there.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The parts of an identifier: `max_map_count` has three, `HashMap` two, `heap` one.
///
/// A part ends at an underscore, or where a capital follows something else.
pub(crate) fn parts(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for piece in word.split('_') {
        let mut start = 0;
        let mut before_is_capital = true;
        for (at, c) in piece.char_indices() {
            if c.is_uppercase() && !before_is_capital {
                parts.push(&piece[start..at]);
                start = at;
            }
            before_is_capital = c.is_uppercase();
        }
        if start < piece.len() {
            parts.push(&piece[start..]);
        }
    }
    parts
}
