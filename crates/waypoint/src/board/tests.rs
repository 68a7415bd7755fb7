use super::*;

#[test]
fn connections_go_where_there_are_fewest_and_stay_when_it_makes_no_difference() {
    let (board, _receivers) = Board::new(3);
    // Nobody has any: stay.
    let (first, one) = board.seat(1);
    assert_eq!(first, 1);
    // One more than others is no reason to move.
    let (second, two) = board.seat(1);
    assert_eq!(second, 1);
    // Two more is.
    let (third, three) = board.seat(1);
    assert_eq!(third, 0);
    let (fourth, four) = board.seat(1);
    assert_eq!(fourth, 2);
    assert_eq!(board.loads(), [1, 2, 1]);
    drop((one, two, three, four));
    assert_eq!(board.loads(), [0, 0, 0]);
}
