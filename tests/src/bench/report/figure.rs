//! Numbers for people.

/// A value with three significant digits, or all digits before the point when those are more.
pub(super) fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor();
    // The range of a finite f64's magnitude is small; a float-to-int cast saturates anyway.
    let decimals = (2.0 - magnitude).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    if magnitude < 3.0 {
        text
    } else {
        grouped(&text)
    }
}

/// A quotient.
pub(super) fn quotient(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.2}")
    } else {
        figure(value)
    }
}

/// Commas between each three digits of a whole number.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (n, c) in digits.chars().enumerate() {
        let left = digits.len() - n;
        if left.is_multiple_of(3) && text.ends_with(|last: char| last.is_ascii_digit()) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_the_digits_that_matter() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_123_4, "0.000123"),
            (0.5, "0.500"),
            (4.1, "4.10"),
            (35.27, "35.3"),
            (351.9, "352"),
            (999.6, "1000"),
            (3_700.4, "3,700"),
            (88_012.0, "88,012"),
            (1_234_567.8, "1,234,568"),
            (-1_234.0, "-1,234"),
            (-123_456.0, "-123,456"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn a_quotient_has_two_decimals() {
        assert_eq!(quotient(2.0), "2.00");
        assert_eq!(quotient(0.267), "0.27");
        assert_eq!(quotient(1234.5), "1,234");
    }
}
