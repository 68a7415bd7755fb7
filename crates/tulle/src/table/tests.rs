use super::*;

#[test]
fn columns_line_up_and_lines_have_no_trailing_blanks() {
    let mut table = Table::new(&["NAME", "N", "LAST"]);
    table.row(["a", "1000", ""]);
    table.row(["längere", "2", "x"]);
    assert_eq!(
        table.render(),
        "NAME    N    LAST\na       1000\nlängere 2    x\n"
    );
}
