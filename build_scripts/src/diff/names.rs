//! Names by which things of two builds are brought together. Symbols do not do: they hold numbers of impls, which shift
//! when another impl is written above, and hashes of crates. What is left without them is a path as a person writes it.

use std::borrow::Cow;

/// A symbol's path: demangled, without hashes, numbers of impls, and what was appended behind a dot, which no mangled name has.
pub fn path(symbol: &str) -> String {
    let symbol = if symbol.starts_with("_R") { symbol.split('.').next().unwrap_or(symbol) } else { symbol };
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// A type's path as debug information has it, without the numbers of impls it lies in.
pub fn type_path(name: &str) -> Cow<'_, str> {
    const IMPL: &str = "{impl#";
    if !name.contains(IMPL) {
        return Cow::Borrowed(name);
    }
    let (mut out, mut rest) = (String::with_capacity(name.len()), name);
    while let Some(at) = rest.find(IMPL) {
        out.push_str(&rest[..at]);
        rest = match rest[at..].find("}::") {
            Some(end) => &rest[at + end + 3..],
            None => "",
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The crate in which a mangled (v0) symbol's function is written, which need not be the one that compiled it.
pub fn home(symbol: &str) -> Option<&str> {
    let bytes = symbol.strip_prefix("_R")?.as_bytes();
    let mut at = 0;
    loop {
        at += match bytes.get(at)? {
            b'N' => 2,
            // An impl: its number, if it is not the first, then the path of the module it stands in.
            b'M' | b'X' => 1 + disambiguator(&bytes[at + 1..]),
            b'C' => break,
            // A generic instance, a default method, and types made of another one.
            b'I' | b'Y' | b'R' | b'Q' | b'P' | b'O' | b'S' | b'A' => 1,
            _ => return None,
        };
    }
    let mut at = at + 1;
    at += disambiguator(&bytes[at..]);
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = symbol.get(2 + at..)?;
    let len: usize = rest[..digits].parse().ok()?;
    let name = &rest[digits..];
    name.strip_prefix('_').unwrap_or(name).get(..len)
}

/// Length of an `s…_` in front.
fn disambiguator(bytes: &[u8]) -> usize {
    match bytes {
        [b's', ..] => bytes.iter().position(|&byte| byte == b'_').map_or(bytes.len(), |end| end + 1),
        _ => 0,
    }
}

/// Whether a function belongs to a closure or coroutine, or was made by the compiler for a type: its path does not say
/// what it does, so it is the same only if its code is.
pub fn is_fluid(path: &str) -> bool {
    const MARKS: [&str; 7] = [
        "{closure",
        "{coroutine",
        "{async",
        "{gen",
        "{shim:",
        "core::ptr::drop_in_place::<",
        "core::ptr::drop_glue::<",
    ];
    MARKS.iter().any(|mark| path.contains(mark)) || is_call(path)
}

/// `<T as core::ops::function::FnOnce<..>>::call_once` and its like.
fn is_call(path: &str) -> bool {
    path.contains(" as core::ops::function::Fn")
        && ["::call", "::call_mut", "::call_once"].iter().any(|name| path.ends_with(name))
}

/// Whether a type is a closure or has one as a parameter: such values live on stacks and in boxes, with their old code.
pub fn has_closure(type_path: &str) -> bool {
    type_path.contains("{closure_env#") || type_path.contains("{closure#")
}

/// Whether a type is a coroutine itself: what an async function, block or closure becomes.
pub fn is_coroutine(type_path: &str) -> bool {
    coroutine_stem(type_path).is_some()
}

/// For a coroutine's type, the path of the function that runs it: `m::f::{async_fn_env#0}<T>` is run by
/// `m::f::{async_fn#0}<T>`.
pub fn coroutine_stem(type_path: &str) -> Option<String> {
    let last = last_segment(type_path);
    let name = last.strip_prefix('{')?;
    let at = name.find("_env#")?;
    if name.starts_with("closure") {
        return None;
    }
    let front = &type_path[..type_path.len() - last.len()];
    Some(format!("{front}{{{}{}", &name[..at], &name[at + 4..]))
}

/// What stands behind the last `::` that is in no bracket.
pub fn last_segment(path: &str) -> &str {
    let (mut depth, mut last, bytes) = (0_i32, 0, path.as_bytes());
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' | b'(' | b'[' => depth += 1,
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' | b')' | b']' => depth -= 1,
            b':' if depth == 0 && bytes.get(at + 1) == Some(&b':') => last = at + 2,
            _ => {}
        }
    }
    &path[last..]
}

/// The method a function implements: its last segment, without the shim around it.
pub fn method(path: &str) -> &str {
    let path = path.find("::{shim:").map_or(path, |at| &path[..at]);
    last_segment(path)
}

/// Type and trait out of `<Type as Trait>::{vtable}`.
pub fn vtable(name: &str) -> Option<(&str, &str)> {
    let inner = name.strip_prefix('<')?.strip_suffix(">::{vtable}")?;
    let (mut depth, bytes) = (0_i32, inner.as_bytes());
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' | b'(' | b'[' => depth += 1,
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' | b')' | b']' => depth -= 1,
            b' ' if depth == 0 && inner[at..].starts_with(" as ") => return Some((&inner[..at], &inner[at + 4..])),
            _ => {}
        }
    }
    None
}

/// Whether a type's path names the objects of a trait, `dyn Trait`.
pub fn mentions_object(type_path: &str, object: &str) -> bool {
    let mut rest = type_path;
    while let Some(at) = rest.find("dyn ") {
        rest = rest[at + 4..].trim_start_matches('(');
        let end = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
        if rest.strip_prefix(object).is_some_and(|tail| tail.is_empty() || tail.starts_with(end)) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_no_numbers_that_shift() {
        let (first, third) = ("_RNvXs_Cs1_1aNtB4_1ANtB4_3Tr21s", "_RNvXs2_Cs1_1aNtB5_1ANtB5_3Tr21s");
        assert_eq!(path(first), "<a::A as a::Tr2>::s");
        assert_eq!(path(first), path(third));
        assert_eq!(path(first), path(&format!("{first}.greeter")));
        assert_eq!(type_path("a::{impl#0}::f::{closure_env#1}"), "a::f::{closure_env#1}");
        assert_eq!(type_path("X<a::{impl#12}::f::T, b::{impl#3}::U>"), "X<a::f::T, b::U>");
        assert_eq!(type_path("delias_event"), "delias_event");
    }

    #[test]
    fn a_function_s_home_is_where_it_is_written() {
        assert_eq!(home("_RNvXs_CskqUzHPI63Bf_1aNtB4_1ANtB4_3Tr21q"), Some("a"));
        assert_eq!(
            home("_RINvNtCskQ92CDpvgx2_4core3ptr13drop_in_placeNtNtCsjDei91jx0BI_4task6record4TaskEBK_"),
            Some("core")
        );
        assert_eq!(home("_RNCNvMNtCsjDei91jx0BI_4task5eventNtB4_5Event3new0B6_"), Some("task"));
        assert_eq!(
            home(
                "_RNSNvYNCNvCs2G7FDmFiuE7_1b2cl0INtNtNtCskQ92CDpvgx2_4core3ops8function6FnOnceTmEE9call_once6vtableB8_"
            ),
            Some("b")
        );
        assert_eq!(home("delias_first"), None);
    }

    #[test]
    fn what_only_its_code_identifies() {
        assert!(is_fluid("b::cl::{closure#0}"));
        assert!(is_fluid("core::ptr::drop_in_place::<task::record::Task>"));
        assert!(is_fluid("<b::f as core::ops::function::FnOnce<(u32,)>>::call_once"));
        assert!(!is_fluid("<a::A as a::Tr2>::s"));
        assert!(has_closure("core::option::Option<b::cl::{closure_env#0}>"));
    }

    #[test]
    fn coroutines_and_who_runs_them() {
        assert_eq!(coroutine_stem("b::w3::{async_fn_env#0}").as_deref(), Some("b::w3::{async_fn#0}"));
        assert_eq!(coroutine_stem("b::f::{async_block_env#2}<u8>").as_deref(), Some("b::f::{async_block#2}<u8>"));
        assert_eq!(coroutine_stem("b::f::{closure_env#0}"), None);
        assert_eq!(coroutine_stem("core::pin::Pin<&mut b::w3::{async_fn_env#0}>"), None);
    }

    #[test]
    fn methods_and_vtables() {
        assert_eq!(method("<a::A as a::Tr<fn(u8) -> b::C>>::s"), "s");
        assert_eq!(method("<a::A as a::Tr>::s::{shim:reify#0}"), "s");
        assert_eq!(
            vtable("<&a::A<x as y> as core::fmt::Write>::{vtable}"),
            Some(("&a::A<x as y>", "core::fmt::Write"))
        );
        assert_eq!(vtable("<a::A as a::{vtable_type}"), None);
        assert!(mentions_object("alloc::boxed::Box<dyn a::Tr, A>", "a::Tr"));
        assert!(mentions_object("&dyn (a::Tr + core::marker::Send)", "a::Tr"));
        assert!(mentions_object("dyn core::future::Future<Output=u32>", "core::future::Future"));
        assert!(!mentions_object("&dyn a::Tr2", "a::Tr"));
    }
}
