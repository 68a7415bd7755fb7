use super::*;

fn line(json: bool, fields: &Fields) -> String {
    let lines = Lines {
        component: "ztunnel",
        json,
    };
    let mut out = String::new();
    lines
        .line(
            &mut out,
            &Level::WARN,
            lines.scope("tulle_ztunnel::xds"),
            fields,
        )
        .unwrap();
    out
}

fn fields(json: bool) -> Fields {
    let mut fields = Fields::new(json);
    fields.message = "no certificate".to_owned();
    fields.pair("identity", "a \"b\"", true);
    fields.pair("count", "3", false);
    fields
}

#[test]
fn text_is_tab_separated() {
    let line = line(false, &fields(false));
    let parts: Vec<&str> = line.split('\t').collect();
    assert_eq!(
        parts[1..],
        [
            "warn",
            "xds",
            "no certificate",
            "identity=a \"b\" count=3\n"
        ]
    );
    assert!(parts[0].ends_with('Z') && parts[0].len() == "2025-12-31T23:59:59.000042Z".len());
}

#[test]
fn json_is_one_object() {
    let line = line(true, &fields(true));
    let end = "\",\"scope\":\"xds\",\"message\":\"no certificate\",\"identity\":\"a \\\"b\\\"\",\"count\":3}\n";
    assert!(
        line.starts_with("{\"level\":\"warn\",\"time\":\"") && line.ends_with(end),
        "{line}"
    );
}

#[test]
fn scopes_are_short() {
    let lines = Lines {
        component: "ztunnel",
        json: false,
    };
    assert_eq!(lines.scope("tulle_ztunnel::xds"), "xds");
    assert_eq!(lines.scope("tulle_ztunnel"), "ztunnel");
    assert_eq!(lines.scope("tulle_hbone::pool"), "hbone::pool");
    assert_eq!(lines.scope("hyper::proto"), "hyper::proto");
}

#[test]
fn levels_of_admin_clients() {
    assert_eq!(directives("debug").unwrap(), "debug");
    assert_eq!(
        directives("access:debug,tulle_xds::client:off").unwrap(),
        "access=debug,tulle_xds::client=off"
    );
    for wrong in ["", "verbose", "access", "access:loud", ":debug", "access:"] {
        assert!(
            matches!(directives(wrong), Err(LogError::Level(_))),
            "{wrong:?}"
        );
    }
}

#[test]
fn the_access_level_follows_the_filter() {
    let cases = [
        ("warn", 2),
        ("info", 3),
        ("warn,access=debug", 4),
        ("info,access=off", 0),
    ];
    for (filter, level) in cases {
        let targets: Targets = filter.parse().unwrap();
        let order = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG];
        let on = order
            .iter()
            .take_while(|l| targets.would_enable("access", l))
            .count();
        assert_eq!(on, level, "{filter}");
    }
}

#[test]
fn before_the_start_levels_cannot_change() {
    assert!(matches!(set_log_levels("debug"), Err(LogError::NotRunning)));
}
