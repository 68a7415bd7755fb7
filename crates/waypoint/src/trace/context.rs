//! Which trace a request is part of, as its headers say: W3C `traceparent`, or B3 in one header or several.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// A place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// `None`: nobody has decided yet.
    pub(super) sampled: Option<bool>,
    /// `tracestate`, passed on as it is.
    pub(super) state: String,
    /// How it came, and goes on.
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    W3c,
    B3,
    B3Several,
}

impl Context {
    /// A new trace.
    pub(super) fn new(trace: u128) -> Self {
        Self {
            trace,
            span: 0,
            sampled: None,
            state: String::new(),
            form: Form::W3c,
        }
    }

    /// What a request says; nothing if what it says is no context.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        w3c(headers)
            .or_else(|| b3(headers))
            .or_else(|| b3_several(headers))
    }

    /// Says it in the form in which it came; what came in other forms beside it is made to agree.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let (trace, span) = (self.trace, self.span);
        let flag = u8::from(self.sampled == Some(true));
        let wanted = |form: Form, sign: &HeaderName, headers: &HeaderMap| {
            self.form == form || headers.contains_key(sign)
        };
        let set = |headers: &mut HeaderMap, name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        if wanted(Form::W3c, &TRACEPARENT, headers) {
            let value = format!("00-{trace:032x}-{span:016x}-0{flag}");
            set(headers, TRACEPARENT, value);
        }
        if wanted(Form::B3, &B3, headers) {
            set(headers, B3, format!("{trace:032x}-{span:016x}-{flag}"));
        }
        if wanted(Form::B3Several, &B3_TRACE, headers) {
            set(headers, B3_TRACE, format!("{trace:032x}"));
            set(headers, B3_SPAN, format!("{span:016x}"));
            set(headers, B3_SAMPLED, flag.to_string());
            headers.remove(B3_PARENT);
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Lower-case hex of exactly so many digits, not all zeros.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fine = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let value = u128::from_str_radix(text, 16).ok().filter(|_| fine)?;
    (value != 0).then_some(value)
}

fn w3c(headers: &HeaderMap) -> Option<Context> {
    let mut parts = text(headers, TRACEPARENT)?.split('-');
    let version = parts.next()?;
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let known = version == "00" && parts.next().is_none();
    let later = version.len() == 2 && version != "00" && version != "ff";
    if !known && !later {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(Context {
        trace: hex(trace, 32)?,
        span: u64::try_from(hex(span, 16)?).ok()?,
        sampled: Some(flags & 1 == 1),
        state: text(headers, TRACESTATE).unwrap_or_default().to_owned(),
        form: Form::W3c,
    })
}

fn b3(headers: &HeaderMap) -> Option<Context> {
    let mut parts = text(headers, B3)?.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    Some(Context {
        trace: b3_trace(trace)?,
        span: u64::try_from(hex(span, 16)?).ok()?,
        sampled: parts.next().and_then(decision),
        state: String::new(),
        form: Form::B3,
    })
}

fn b3_several(headers: &HeaderMap) -> Option<Context> {
    let debug = text(headers, B3_FLAGS) == Some("1");
    let decided = text(headers, B3_SAMPLED).and_then(decision);
    Some(Context {
        trace: b3_trace(text(headers, B3_TRACE)?)?,
        span: u64::try_from(hex(text(headers, B3_SPAN)?, 16)?).ok()?,
        sampled: if debug { Some(true) } else { decided },
        state: String::new(),
        form: Form::B3Several,
    })
}

fn b3_trace(text: &str) -> Option<u128> {
    hex(text, 32).or_else(|| hex(text, 16))
}

fn decision(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    const W3C: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_goes_on_in_the_form_in_which_it_came() {
        for pairs in [
            &[("traceparent", W3C)][..],
            &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")],
            &[
                ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
                ("x-b3-spanid", "00f067aa0ba902b7"),
                ("x-b3-sampled", "1"),
            ],
        ] {
            let context = Context::read(&headers(pairs)).unwrap();
            assert_eq!(context.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
            assert_eq!(
                (context.span, context.sampled),
                (0x00f0_67aa_0ba9_02b7, Some(true))
            );
            let mut out = HeaderMap::new();
            context.write(&mut out);
            assert_eq!(out, headers(pairs));
        }
    }

    #[test]
    fn forms_beside_the_one_that_counts_agree_with_it() {
        let both = headers(&[("traceparent", W3C), ("b3", "1-2-0")]);
        let context = Context::read(&both).unwrap();
        let mut out = both.clone();
        context.write(&mut out);
        assert_eq!(out["traceparent"], W3C);
        assert_eq!(
            out["b3"],
            "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"
        );
    }

    #[test]
    fn what_is_no_context_begins_a_new_trace() {
        for value in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(
                Context::read(&headers(&[("traceparent", value)])),
                None,
                "{value}"
            );
        }
        // A version of the future may say more.
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        let context = Context::read(&headers(&[("traceparent", later)])).unwrap();
        assert_eq!(context.sampled, Some(false));
    }
}
