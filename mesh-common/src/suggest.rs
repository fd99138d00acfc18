//! The name that somebody may have meant.

/// Of the names, the one that differs least from `wanted`, unless even that one is too far to be a slip: more than
/// a third of the letters, and more than two, or every letter. Of equals the first in order.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = wanted.chars().count();
    let most = (letters / 3).max(2).min(letters.saturating_sub(1));
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// The end of an error message: `; did you mean "shop"?`, or nothing.
pub fn suggestion<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wanted, names).map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let names = ["shop/web", "shop/worker", "ops/db", "db", "web", "wen"];
        for (wanted, found) in [
            ("shop/wbe", Some("shop/web")),
            ("sohp/worker", Some("shop/worker")),
            ("Web", Some("web")),
            ("we", Some("web")),
            ("payments/ledger", None),
            ("xy", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names), found, "{wanted}");
        }
        assert_eq!(nearest("shop/web", []), None);
        assert_eq!(suggestion("ops/bd", names), "; did you mean \"ops/db\"?");
        assert_eq!(suggestion("payments/ledger", names), "");
    }
}
