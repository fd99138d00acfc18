//! The name that was probably meant.

/// Of the names, the one that differs least from `wanted`, unless all differ too much. Of equals the first
/// in order.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Of a short name a third may be wrong; two letters of any.
    let most = (wanted.chars().count() / 3).max(2);
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
    fn the_nearest_is_found_and_nothing_far_away() {
        let names = ["frontend", "client", "clients", "server"];
        for (wanted, found) in [
            ("clinet", Some("client")),
            ("Server", Some("server")),
            ("fronted", Some("frontend")),
            ("database", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names), found, "{wanted}");
        }
        assert_eq!(nearest("ab", ["ad", "ac"]), Some("ac"));
        assert_eq!(suggestion("sever", names), "; did you mean \"server\"?");
        assert_eq!(suggestion("database", names), "");
    }
}
