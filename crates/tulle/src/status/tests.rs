use super::*;
use tulle_install::ComponentStatus;

#[test]
fn the_picture_names_parts_nodes_and_problems() {
    let status = Status {
        components: vec![ComponentStatus {
            name: "ztunnel".to_owned(),
            versions: [("0.1.0".to_owned(), 2)].into(),
            ready: 1,
            desired: 2,
        }],
        nodes: vec![NodeStatus {
            name: "node1".to_owned(),
            ready: true,
            agent: true,
            ztunnel: false,
            enrolled: 3,
            pending: 1,
        }],
        enrolled: 3,
        pending: 1,
        problems: vec!["ztunnel: 1/2 ready: ztunnel-x runs, but is not ready yet".to_owned()],
    };
    let expected = "\
COMPONENT READY VERSION
ztunnel   1/2   0.1.0

NODE  READY AGENT ZTUNNEL ENROLLED PENDING
node1 yes   yes   no      3        1

3 pods are in the mesh, 1 more wait for their node proxy.

Problems:
- ztunnel: 1/2 ready: ztunnel-x runs, but is not ready yet
";
    assert_eq!(text(&status), expected);
}
