//! The name that somebody may have meant.

/// The candidate that is nearest to `name`, unless even that one is too far to be a slip: more than a third
/// of the letters, and more than two.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(2);
    let near = candidates.into_iter().map(|c| (distance(name, c), c));
    let (distance, candidate) = near.min()?;
    (distance <= most).then_some(candidate)
}

/// How many letters must be inserted, removed or replaced to make one word of the other.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = ["shop/web", "shop/worker", "ops/db"];
        assert_eq!(nearest("shop/wbe", known), Some("shop/web"));
        assert_eq!(nearest("sohp/worker", known), Some("shop/worker"));
        assert_eq!(nearest("payments/ledger", known), None);
        assert_eq!(nearest("shop/web", []), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
    }
}
