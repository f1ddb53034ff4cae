//! Columns as Go's text/tabwriter makes them for Docker: at least ten wide, three spaces between.

/// The least width of a column, its spaces included.
const WIDTH_MIN: usize = 10;
const PADDING: usize = 3;

/// Puts what is between tabs below one another. A cell is in a column with those of the lines right above and below
/// that have one there, too; what comes after the last tab of a line is in none.
pub(crate) fn align(text: &str) -> String {
    align_to(text, WIDTH_MIN)
}

/// The same with columns that are at least twenty wide, as those of `top`.
pub(crate) fn align_wide(text: &str) -> String {
    align_to(text, 2 * WIDTH_MIN)
}

fn align_to(text: &str, least: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut line = 0;
        while line < lines.len() {
            let end = (line..lines.len()).find(|&n| widths[n].len() <= column).unwrap_or(lines.len());
            let width = (line..end).map(|n| lines[n][column].chars().count() + PADDING).max().unwrap_or(0);
            for widths in &mut widths[line..end] {
                widths[column] = width.max(least);
            }
            line = end + 1;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, &width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        out.push_str(cells.last().copied().unwrap_or_default());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        assert_eq!(
            align("A\tB\tC\nlonger than ten\tb\tc\n"),
            "A                 B         C\nlonger than ten   b         c\n"
        );
        assert_eq!(align("one\n"), "one\n");
        assert_eq!(align("a long cell\tx\nno cell\nb\ty\n"), "a long cell   x\nno cell\nb         y\n");
        assert_eq!(align(""), "");
    }
}
