//! Tables as CSV (RFC 4180).

use csv::{Terminator, WriterBuilder};

/// A table with its header. Texts that a spreadsheet would run as a formula get a `'` in front (OWASP ASVS 1.2.10).
pub(super) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    // Writing into memory fails only where rows differ in length, and each has the header's.
    let _ = writer.write_record(header);
    for row in rows {
        let _ = writer.write_record(&row);
    }
    writer.into_inner().unwrap_or_default()
}

/// A text of the client's as a cell.
pub(super) fn text(value: &str) -> String {
    match value.bytes().next() {
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\0') => format!("'{value}"),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_defused_and_a_comma_is_quoted() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"] {
            assert_eq!(text(formula), format!("'{formula}"));
        }
        let bytes = table(&["route", "n"], [vec![text("/a,\"b\""), "1".to_owned()]].into_iter());
        assert_eq!(String::from_utf8(bytes).unwrap(), "route,n\r\n\"/a,\"\"b\"\"\",1\r\n");
    }
}
