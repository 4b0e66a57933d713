//! "Did you mean …?"

/// Longest word compared: the distance costs the product of two lengths, and nobody mistypes a name of this size.
const WORD_BYTES_MAX: usize = 64;

/// The candidate that the user most likely meant: at most a third of the letters changed, swapped, added or left out.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let near = |candidate: &'c str| {
        let distance = strsim::osa_distance(word, candidate);
        let letters = word.chars().count().max(candidate.chars().count());
        (distance <= (letters / 3).max(1) && distance < letters).then_some((distance, candidate))
    };
    candidates.into_iter().filter(|c| c.len() <= WORD_BYTES_MAX).filter_map(near).min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["every", "url", "service", "timeout", "id"];
        for (word, meant) in [
            ("evry", Some("every")),
            ("evrey", Some("every")),
            ("services", Some("service")),
            ("time_out", Some("timeout")),
            ("uri", Some("url")),
            ("region", None),
            ("x", None),
            ("", None),
            ("ab", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), keys), None);
    }
}
