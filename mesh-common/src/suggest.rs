//! The name that somebody may have meant.

/// The candidate that is nearest to `name`, unless even that one is too far to be a slip: more than a third
/// of the letters, and more than two.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(2);
    let near = candidates.into_iter().map(|c| (distance(name, c), c));
    let (distance, candidate) = near.min()?;
    (distance <= most).then_some(candidate)
}

/// How many letters must be inserted, removed, replaced, or exchanged with the next one to make one word of
/// the other.
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    // The rows for one and two letters less of `a`.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(row[j] + 1).min(last[j + 1] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = ["shop/web", "shop/worker", "ops/db"];
        assert_eq!(nearest("shop/wbe", known), Some("shop/web"));
        assert_eq!(nearest("wbe", ["db", "web"]), Some("web"));
        assert_eq!(nearest("sohp/worker", known), Some("shop/worker"));
        assert_eq!(nearest("payments/ledger", known), None);
        assert_eq!(nearest("shop/web", []), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
        assert_eq!((distance("abc", ""), distance("abcd", "badc")), (3, 2));
    }
}
