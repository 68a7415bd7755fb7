//! Policy routing: packets with the connection mark are delivered locally, whatever their destination.

use std::io;

use tulle_api::contract::{MARK_CONN, MARK_MASK, ROUTE_TABLE, RULE_PRIORITY};

use super::RedirectError;
use crate::netlink::{Answer, CREATE, DUMP, EXCLUSIVE, Family, Request, ask, attribute};

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_RULE: u16 = 34;

/// Loopback is the first interface of each namespace.
const LOOPBACK: u32 = 1;
const TYPE_LOCAL: u8 = 2;
const FIXED_PART: usize = 12;
const RULE_TABLE: u16 = 15;
const RULE_MARK: u16 = 10;
const ROUTE_TABLE_ATTRIBUTE: u16 = 15;
/// How many equal rules an earlier owner can have left.
const DUPLICATES: usize = 16;

const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

/// Adds route and rule of both families in the thread's namespace; what exists stays.
pub(super) fn add() -> Result<(), RedirectError> {
    for family in FAMILIES {
        for (what, request) in [
            (
                "adding the local route",
                route(NEW_ROUTE, CREATE | EXCLUSIVE, family),
            ),
            (
                "adding the rule",
                rule(NEW_RULE, CREATE | EXCLUSIVE, family),
            ),
        ] {
            match ask(Family::Route, request) {
                Err(error) if !exists(&error) && !without_ipv6(family, &error) => {
                    return Err(RedirectError::Routing {
                        what,
                        source: error,
                    });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes what [`add`] added; what is absent is fine.
pub(super) fn remove() -> Result<(), RedirectError> {
    for family in FAMILIES {
        for (what, kind) in [
            ("removing the rule", DELETE_RULE),
            ("removing the local route", DELETE_ROUTE),
        ] {
            for _ in 0..DUPLICATES {
                let request = if kind == DELETE_RULE {
                    rule(kind, 0, family)
                } else {
                    route(kind, 0, family)
                };
                match ask(Family::Route, request) {
                    Ok(_) => {}
                    Err(error) if absent(&error) || without_ipv6(family, &error) => break,
                    Err(source) => return Err(RedirectError::Routing { what, source }),
                }
            }
        }
    }
    Ok(())
}

/// Whether rule and route are there, in each family that the namespace has.
pub(super) fn present() -> io::Result<bool> {
    for family in FAMILIES {
        let rules = ask(
            Family::Route,
            Request::new(GET_RULE, DUMP, &header(family, 0, 0)),
        )?;
        let routes = ask(
            Family::Route,
            Request::new(GET_ROUTE, DUMP, &header(family, 0, 0)),
        )?;
        let complete =
            rules.iter().any(is_our_rule) && routes.iter().any(|r| is_our_route(r, family));
        if !complete && (family == FAMILIES[0] || has_ipv6()?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether this namespace has IPv6: any address, and be it `::1`.
fn has_ipv6() -> io::Result<bool> {
    const GET_ADDRESS: u16 = 22;
    let mut fixed = [0; 8];
    fixed[0] = FAMILIES[1];
    let addresses = ask(Family::Route, Request::new(GET_ADDRESS, DUMP, &fixed))?;
    Ok(addresses
        .iter()
        .any(|answer| answer.body.first() == Some(&FAMILIES[1])))
}

fn is_our_rule(answer: &Answer) -> bool {
    number(answer, RULE_MARK) == Some(MARK_CONN) && number(answer, RULE_TABLE) == Some(ROUTE_TABLE)
}

fn is_our_route(answer: &Answer, family: u8) -> bool {
    answer.body.first() == Some(&family)
        && answer.body.get(7) == Some(&TYPE_LOCAL)
        && number(answer, ROUTE_TABLE_ATTRIBUTE) == Some(ROUTE_TABLE)
}

fn number(answer: &Answer, kind: u16) -> Option<u32> {
    attribute(&answer.body, FIXED_PART, kind)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

/// `ip route add local default dev lo table 100`
fn route(kind: u16, flags: u16, family: u8) -> Request {
    const SCOPE_HOST: u8 = 254;
    const PROTOCOL_STATIC: u8 = 4;
    let mut fixed = header(family, ROUTE_TABLE, 0);
    fixed[5] = PROTOCOL_STATIC;
    fixed[6] = SCOPE_HOST;
    fixed[7] = TYPE_LOCAL;
    Request::new(kind, flags, &fixed)
        .attribute(ROUTE_TABLE_ATTRIBUTE, &ROUTE_TABLE.to_ne_bytes())
        .attribute(4, &LOOPBACK.to_ne_bytes())
}

/// `ip rule add fwmark 0x111/0xfff priority 32764 lookup 100`
fn rule(kind: u16, flags: u16, family: u8) -> Request {
    const TO_TABLE: u8 = 1;
    Request::new(kind, flags, &header(family, ROUTE_TABLE, TO_TABLE))
        .attribute(6, &RULE_PRIORITY.to_ne_bytes())
        .attribute(RULE_MARK, &MARK_CONN.to_ne_bytes())
        .attribute(16, &MARK_MASK.to_ne_bytes())
        .attribute(RULE_TABLE, &ROUTE_TABLE.to_ne_bytes())
}

/// struct rtmsg and struct fib_rule_hdr agree in these places.
fn header(family: u8, table: u32, action: u8) -> [u8; FIXED_PART] {
    let mut fixed = [0; FIXED_PART];
    fixed[0] = family;
    fixed[4] = u8::try_from(table).unwrap_or(0);
    fixed[7] = action;
    fixed
}

fn exists(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EEXIST)
}

fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The kernel or this namespace has IPv6 switched off: nothing to route.
fn without_ipv6(family: u8, error: &io::Error) -> bool {
    family == FAMILIES[1]
        && matches!(
            error.raw_os_error(),
            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES | libc::ENODEV)
        )
}
