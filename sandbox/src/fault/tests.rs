use super::*;

#[test]
fn every_documented_fault_reads_and_prints_back() {
    for text in [
        "cluster=backend,kind=DaemonSet,name=ztunnel,ready=3",
        "cluster=backend,kind=Deployment,namespace=istio-system,name=istiod,pull=fail",
        "cluster=backend,node=3,join=never",
        "cluster=backend,infrastructure=stall",
        "cluster=backend,node=backend-cp,infrastructure=stall",
        "cluster=backend,uplink=down",
        "cluster=backend,agent=kill",
        "cluster=backend,actor=panic",
    ] {
        let fault: Fault = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(fault.to_string(), text);
    }
}

#[test]
fn order_and_blanks_do_not_matter() {
    let one: Fault = "ready=3, name=ztunnel,kind=DaemonSet ,cluster=backend".parse().unwrap();
    assert_eq!(one.to_string(), "cluster=backend,kind=DaemonSet,name=ztunnel,ready=3");
}

#[test]
fn a_wrong_fault_says_what_to_write_instead() {
    for (text, wanted) in [
        ("uplink=down", "cluster= is missing"),
        ("cluster=x", "nothing goes wrong in it"),
        ("cluster=x,uplink=up", "uplink=up is not possible: use down"),
        ("cluster=x,uplnk=down", "\"uplnk\" is no key"),
        ("cluster=x,uplink", "\"uplink\" is not of the form key=value"),
        ("cluster=x,cluster=y,uplink=down", "\"cluster\" is given twice"),
        ("cluster=x,join=never", "node= is missing"),
        ("cluster=x,kind=Pod,name=a,ready=1", "kind=Pod is not possible: use DaemonSet"),
        ("cluster=x,kind=DaemonSet,name=a,ready=-1", "ready=-1 is not possible: use a whole number"),
        ("cluster=x,uplink=down,agent=kill", "\"agent\" does not go with the rest"),
    ] {
        let why = text.parse::<Fault>().map(|fault| fault.to_string()).expect_err(text).to_string();
        assert!(why.contains(wanted), "{text}: {why}");
    }
}
