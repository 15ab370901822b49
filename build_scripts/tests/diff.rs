//! The difference of two builds, case by case: tiny crates, compiled as cells are, packed as an image is, compared.
//!
//! The rules that these cases come from stand in the book's page on updates. The compiler and the library are those of
//! the last `make image`.

mod builds;

use builds::{between, cell, follows, is_code, not_followed, refused};
use bundle::{Verdict, What};

#[test]
fn the_body_of_a_function() {
    let base = "pub fn f(x: u32) -> u32 { x * 3 + 1 } pub static F: fn(u32) -> u32 = f;";
    let target = "pub fn f(x: u32) -> u32 { x * 5 + 1 } pub static F: fn(u32) -> u32 = f;";
    let bundle = between(&[("a", base)], &[("a", target)]);
    is_code(&bundle);
    assert_eq!(cell(&bundle, "a").reasons, ["body of a::f"]);
    assert!(follows(&bundle, "a", "a::f"));
    assert_eq!(cell(&bundle, "a").not_followed, [""; 0]);
}

#[test]
fn a_constant_without_a_name() {
    let of = |text: &str| format!("#[inline(never)] pub fn f() -> &'static str {{ \"{text}\" }}");
    let bundle = between(&[("a", &of("three words here"))], &[("a", &of("three other word"))]);
    is_code(&bundle);
    assert_eq!(cell(&bundle, "a").reasons, ["constant in a::f"]);
}

#[test]
fn a_constant_with_a_name() {
    let of = |number: u32| {
        format!(
            "pub struct Ops {{ pub timeout: u32, pub f: fn(u32) -> u32 }} pub static OPS: Ops = Ops {{ timeout: {number}, f }}; pub fn f(x: u32) -> u32 {{ x + 1 }}"
        )
    };
    let bundle = between(&[("a", &of(5))], &[("a", &of(6))]);
    is_code(&bundle);
    assert_eq!(cell(&bundle, "a").reasons, ["constant a::OPS"]);
    assert!(follows(&bundle, "a", "a::f"));
}

#[test]
fn lines_alone_are_no_difference() {
    let base = "pub fn f(x: &[u32], i: usize) -> u32 { x[i] }";
    let target = "// A comment\n\n// and another.\npub fn f(x: &[u32], i: usize) -> u32 { x[i] }";
    let bundle = between(&[("a", base)], &[("a", target)]);
    is_code(&bundle);
    assert!(bundle.changes.is_empty());
    assert_eq!(bundle.base_id, bundle.target_id);
    assert!(!bundle.boot_pending);
}

#[test]
fn a_new_function_and_a_removed_one() {
    let base = "pub fn f(x: u32) -> u32 { x + 1 } pub static F: fn(u32) -> u32 = f;";
    let more = "#[inline(never)] pub fn g(x: u32) -> u32 { x + 2 } pub static G: fn(u32) -> u32 = g;";
    let target = format!("{base} {more}");
    let bundle = between(&[("a", base)], &[("a", &target)]);
    is_code(&bundle);
    assert_eq!(cell(&bundle, "a").reasons, ["new constant a::G", "new function a::g"]);
    assert!(follows(&bundle, "a", "a::f"));
    let bundle = between(&[("a", &target)], &[("a", base)]);
    is_code(&bundle);
    assert_eq!(cell(&bundle, "a").reasons, ["constant a::G gone", "function a::g gone"]);
    assert!(follows(&bundle, "a", "a::f"));
    assert!(not_followed(&bundle, "a", "a::g").is_some_and(|why| why.contains("gone")));
}

/// A trait's objects changed, and each in a slot has a vtable to go on with.
fn in_slots(bundle: &bundle::Bundle, words: &[&str]) {
    assert_eq!(bundle.verdict, Verdict::Data);
    assert!(
        bundle.data.claims.iter().any(|claim| words.iter().all(|word| claim.contains(word))),
        "{:?}",
        bundle.data.claims
    );
    assert_eq!(bundle.data.vtables.len(), 1, "{:?}", bundle.data.vtables);
}

/// Makes a difference where the rest of a case makes none.
const MORE: &str = "#[inline(never)] pub fn more(x: u32) -> u32 { x * 77 }";

const TRAIT: &str = "pub trait Tr { fn m(&self, x: u32) -> u32; fn n(&self, x: u32) -> u32; }
    pub struct A(pub u32);
    impl Tr for A {
        fn m(&self, x: u32) -> u32 { self.0 + x }
        fn n(&self, x: u32) -> u32 { self.0 ^ x }
    }
    #[inline(never)] pub fn object(a: &A) -> &dyn Tr { a }";

#[test]
fn a_trait_method_gains_a_parameter() {
    // Symbol, vtable and every layout stay as they are.
    for gained in ["y: u64", "_: u64"] {
        let target = TRAIT
            .replace("fn m(&self, x: u32) -> u32;", &format!("fn m(&self, x: u32, {gained}) -> u32;"))
            .replace("fn m(&self, x: u32) -> u32 {", &format!("fn m(&self, x: u32, {gained}) -> u32 {{"));
        let bundle = between(&[("a", TRAIT)], &[("a", &format!("{target} {MORE}"))]);
        in_slots(&bundle, &["dyn a::Tr", "method `m`", "u64"]);
        let why = not_followed(&bundle, "a", "<a::A as a::Tr>::m").unwrap();
        assert!(why.contains("signature"), "{why}");
        // The other method can be called through an old vtable as before, but its object's trait is another.
        assert!(follows(&bundle, "a", "<a::A as a::Tr>::n"));
    }
}

#[test]
fn two_methods_of_a_trait_swapped() {
    let target = TRAIT.replace(
        "fn m(&self, x: u32) -> u32; fn n(&self, x: u32) -> u32;",
        "fn n(&self, x: u32) -> u32; fn m(&self, x: u32) -> u32;",
    );
    assert_ne!(target, TRAIT);
    let bundle = between(&[("a", TRAIT)], &[("a", &target)]);
    in_slots(&bundle, &["dyn a::Tr", "[m, n] → [n, m]"]);
}

#[test]
fn a_trait_gains_a_method() {
    let target = TRAIT.replace("fn m(&self, x: u32) -> u32;", "fn m(&self, x: u32) -> u32; fn k(&self) -> u32 { 1 }");
    let bundle = between(&[("a", TRAIT)], &[("a", &target)]);
    in_slots(&bundle, &["dyn a::Tr", "[m, n] → [m, k, n]"]);
}

#[test]
fn a_new_impl_above_renumbers_those_below() {
    let with = |front: &str, factor: u32| {
        format!(
            "pub trait Tr {{ fn m(&self) -> u32; }} pub struct A(pub u32); pub struct B(pub u32); pub struct C(pub u32);
             {front}
             impl Tr for B {{ fn m(&self) -> u32 {{ self.0 * {factor} }} }}
             impl Tr for C {{ fn m(&self) -> u32 {{ self.0 * 5 }} }}
             #[inline(never)] pub fn b(b: &B) -> &dyn Tr {{ b }}
             #[inline(never)] pub fn c(c: &C) -> &dyn Tr {{ c }}"
        )
    };
    let base = with("", 3);
    let target = with(
        "impl Tr for A { fn m(&self) -> u32 { self.0 * 7 } } #[inline(never)] pub fn a(a: &A) -> &dyn Tr { a }",
        4,
    );
    let bundle = between(&[("a", &base)], &[("a", &target)]);
    is_code(&bundle);
    let followed = |path: &str| {
        let leads = |follow: &&bundle::Follow| delias::diff::names::path(&follow.old) == path;
        let follow = cell(&bundle, "a").follow.iter().find(leads).unwrap();
        assert_eq!(delias::diff::names::path(&follow.new), path);
        follow.clone()
    };
    for follow in [followed("<a::B as a::Tr>::m"), followed("<a::C as a::Tr>::m")] {
        assert_ne!(follow.old, follow.new);
    }
    let reasons = &cell(&bundle, "a").reasons;
    assert!(reasons.contains(&"body of <a::B as a::Tr>::m".to_owned()), "{reasons:?}");
    assert!(reasons.contains(&"renamed symbol of <a::C as a::Tr>::m".to_owned()), "{reasons:?}");
}

#[test]
fn two_functions_with_one_path_lead_on_only_if_they_are_equal() {
    let with = |front: &str, inner: &str| {
        format!(
            "#[inline(never)] pub fn f(k: u32) -> [fn(u32) -> u32; 2] {{
                {front}
                let a = {{ #[inline(never)] fn g(x: u32) -> u32 {{ x * 3 }} g as fn(u32) -> u32 }};
                let b = {{ #[inline(never)] fn g(x: u32) -> u32 {{ {inner} }} g as fn(u32) -> u32 }};
                if core::hint::black_box(k) > 3 {{ [a, b] }} else {{ [b, a] }}
            }}"
        )
    };
    let bundle = between(&[("a", &with("", "x * 5"))], &[("a", &with("", "x * 6"))]);
    is_code(&bundle);
    let why = not_followed(&bundle, "a", "a::f::g").unwrap();
    assert!(why.contains("not unique"), "{why}");
    // The first is the same under the same symbol.
    assert_eq!(cell(&bundle, "a").follow.iter().filter(|f| f.old.contains("1g")).count(), 1);
}

const CLOSURE: &str = "#[inline(never)] pub fn work(x: u32) -> u32 { x.rotate_left(3) }
    pub fn f(x: u32, y: &mut dyn FnMut(&dyn Fn(u32) -> u32)) { y(&|z| work(z + x)); }";

#[test]
fn a_closure_above_a_live_one_takes_its_symbol() {
    let target = CLOSURE.replace("y(&|z| work(z + x));", "y(&|z| work(z * x)); y(&|z| work(z + x));");
    let bundle = between(&[("a", CLOSURE)], &[("a", &target)]);
    is_code(&bundle);
    let why = not_followed(&bundle, "a", "a::f::{closure#0}").unwrap();
    assert!(why.contains("code"), "{why}");
    assert!(!follows(&bundle, "a", "a::f::{closure#0}"));
    // With the same code it leads on.
    let bundle = between(&[("a", CLOSURE)], &[("a", &format!("{CLOSURE} {MORE}"))]);
    is_code(&bundle);
    assert!(follows(&bundle, "a", "a::f::{closure#0}"));
}

#[test]
fn a_closure_with_other_captures_stays_on_its_old_code() {
    let target =
        CLOSURE.replace("work(z + x)", "work(z + x + w)").replace("pub fn f(x: u32,", "pub fn f(x: u32, w: u32,");
    let bundle = between(&[("a", CLOSURE)], &[("a", &target)]);
    is_code(&bundle);
    assert!(not_followed(&bundle, "a", "a::f::{closure#0}").is_some());
}

#[test]
fn a_value_that_holds_a_closure_is_as_fluid_as_the_closure() {
    let with = |closures: &str| {
        format!(
            "#[inline(never)] pub fn work(x: u32) -> u32 {{ x.rotate_left(3) }}
             pub trait Run {{ fn run(&self, z: u32) -> u32; }}
             pub struct Holder<F>(pub F);
             impl<F: Fn(u32) -> u32> Run for Holder<F> {{ #[inline(never)] fn run(&self, z: u32) -> u32 {{ once(&self.0, z) + 1 }} }}
             #[inline(never)] fn once<F: Fn(u32) -> u32>(f: &F, z: u32) -> u32 {{ f(z) ^ f(z + 1) }}
             pub fn f(x: u32, y: &mut dyn FnMut(&dyn Run)) {{ {closures} }}"
        )
    };
    let base = with("y(&Holder(|z: u32| work(z + x)));");
    let target = with("y(&Holder(|z: u32| work(z * x))); y(&Holder(|z: u32| work(z + x)));");
    let bundle = between(&[("a", &base)], &[("a", &target)]);
    is_code(&bundle);
    let run = "<a::Holder<a::f::{closure#0}> as a::Run>::run";
    let why = not_followed(&bundle, "a", run).unwrap();
    assert!(why.contains("code"), "{why}");
}

const ASYNC: &str = "use core::future::Future;
    #[inline(never)] pub fn work(x: u32) { core::hint::black_box(x); }
    pub struct Once(pub bool);
    impl Future for Once {
        type Output = ();
        #[inline(never)] fn poll(mut self: core::pin::Pin<&mut Self>, _: &mut core::task::Context<'_>) -> core::task::Poll<()> {
            if self.0 { core::task::Poll::Ready(()) } else { self.0 = true; core::task::Poll::Pending }
        }
    }
    pub async fn inner() { work(1); Once(false).await; work(2); Once(false).await; work(3); }
    pub async fn outer() -> u32 { inner().await; 7 }
    pub fn lend(f: &mut dyn FnMut(&dyn Future<Output = u32>)) { f(&outer()) }";

#[test]
fn work_between_two_awaits_swapped() {
    let target = ASYNC.replace("work(1)", "work(8)").replace("work(2)", "work(1)").replace("work(8)", "work(2)");
    let bundle = between(&[("a", ASYNC)], &[("a", &target)]);
    refused(&bundle, &["a::outer::{async_fn_env#0}", "the code that runs it"]);
    refused(&bundle, &["a::inner::{async_fn_env#0}"]);
    assert!(!follows(&bundle, "a", "a::outer::{closure#0}"));
    // What touches no coroutine is no change of one.
    let bundle = between(&[("a", ASYNC)], &[("a", &format!("{ASYNC} {MORE}"))]);
    is_code(&bundle);
    assert!(follows(&bundle, "a", "a::outer::{closure#0}"));
}

#[test]
fn a_field_in_front() {
    let with = |front: &str| {
        format!(
            "pub struct Inner {{ {front} pub b: u64 }} pub struct Outer {{ pub i: Inner, pub c: u32 }}
             #[inline(never)] pub fn c(o: &Outer) -> u32 {{ o.c }}
             #[inline(never)] pub fn b(i: &Inner) -> u64 {{ i.b }}
             pub static P: fn(&Outer) -> u32 = c; pub static Q: fn(u32) -> u32 = q;
             #[inline(never)] pub fn q(x: u32) -> u32 {{ x + 1 }}"
        )
    };
    let base = with("");
    let target = with("pub a: u64,");
    let bundle = between(&[("a", &base)], &[("a", &target)]);
    refused(&bundle, &["a::Inner changed", "size 8 → 16", "member `a: u64` new", "mentioned by a"]);
    // The one around it is larger for that reason alone.
    assert!(bundle.layouts.iter().any(|line| line.starts_with("a::Outer: size 16 → 24")), "{:?}", bundle.layouts);
    let Verdict::Refused(sentences) = &bundle.verdict else { unreachable!() };
    assert_eq!(sentences.len(), 1, "{sentences:?}");
    let why = not_followed(&bundle, "a", "a::c").unwrap();
    assert!(why.contains("layout"), "{why}");
    assert!(follows(&bundle, "a", "a::q"));
    assert!(cell(&bundle, "a").reasons.contains(&"layout of a::Inner".to_owned()));
}

#[test]
fn a_field_of_a_variant() {
    let with = |ty: &str| {
        format!(
            "pub enum E {{ A(u32), B {{ x: {ty}, y: u8 }} }} #[inline(never)] pub fn f(e: &E) -> u32 {{ match e {{ E::A(a) => *a, E::B {{ y, .. }} => *y as u32 }} }}"
        )
    };
    let bundle = between(&[("a", &with("u64"))], &[("a", &format!("{} {MORE}", with("i64")))]);
    refused(&bundle, &["a::E changed", "in `B`: member `x`: u64 → i64"]);
    let Verdict::Refused(sentences) = &bundle.verdict else { unreachable!() };
    assert_eq!(sentences.len(), 1, "{sentences:?}");
}

#[test]
fn a_version_that_changed_alone() {
    let with = |version: u32| {
        format!(
            "pub struct T(pub u64); const _: () = {{ #[used] static STATE_VERSION_OF_T: u32 = {version}; }}; #[inline(never)] pub fn f(t: &T) -> u64 {{ t.0 }}"
        )
    };
    let bundle = between(&[("a", &with(1))], &[("a", &with(2))]);
    refused(&bundle, &["a::T", "version 1 → 2", "no migration claims it", "mentioned by a"]);
}

#[test]
fn a_migration_claims_a_state_and_what_it_holds() {
    // The functions have the paths of the database's own.
    let database = "pub mod migration { #[inline(never)] pub fn commit<T>() -> usize { moved::<T>() } #[inline(never)] fn moved<T>() -> usize { core::hint::black_box(size_of::<T>()) } }";
    let state = |version: u32, layout: u64, front: &str| {
        format!(
            "pub struct Part {{ {front} pub b: u64 }} pub struct T {{ pub part: Part }}
            const _: () = {{ #[used] static STATE_VERSION_OF_T: u32 = {version}; #[used] static STATE_LAYOUT_OF_T: u64 = {layout}; }};
            #[inline(never)] pub fn b(t: &T) -> u64 {{ t.part.b }}"
        )
    };
    let base = state(1, 4, "");
    let with = |from: u64, more: &str| {
        let target = state(2, 5, "pub a: u64,");
        format!(
            "{target} {more} #[repr(C)] pub struct M(u64, fn() -> usize);
            const _: () = {{ #[used] static MIGRATIONS: M = M({from}, state_db::migration::commit::<T>); }};"
        )
    };
    let between =
        |target: &str| between(&[("state_db", database), ("a", &base)], &[("state_db", database), ("a", target)]);
    let bundle = between(&with(4, ""));
    assert_eq!(bundle.verdict, Verdict::Data, "{:?}", bundle.verdict);
    assert_eq!(bundle.data.migrations.len(), 1);
    assert!(bundle.data.claims.iter().any(|claim| claim.starts_with("a::Part: ")), "{:?}", bundle.data.claims);
    assert!(bundle.data.holders.iter().any(|holder| holder.place.symbol.ends_with("1b")), "{:?}", bundle.data.holders);
    refused(&between(&with(3, "")), &["a::Part changed", "takes values laid out as", "expected 0000000000000004"]);
}

#[test]
fn a_state_that_is_gone_or_goes_by_another_name() {
    let with = |name: &str, layout: u64| {
        format!(
            "pub struct {name}(pub u64); const _: () = {{ #[used] static STATE_VERSION_OF_{name}: u32 = 1; #[used] static STATE_LAYOUT_OF_{name}: u64 = {layout}; }};
            #[inline(never)] pub fn f(t: &{name}) -> u64 {{ t.0 }}"
        )
    };
    let bundle = between(&[("a", &with("T", 1))], &[("a", &with("U", 2))]);
    assert_eq!(
        bundle.data.gone.iter().map(|gone| (gone.path.as_str(), gone.layout)).collect::<Vec<_>>(),
        [("a::T", 1)]
    );
    let bundle = between(&[("a", &with("T", 1))], &[("a", &with("T", 2))]);
    refused(&bundle, &["a::T changed", "names or numbers of its fields", "no migration claims it"]);
}

#[test]
fn a_cell_with_equal_bytes_may_hold_a_changed_type() {
    let with = |front: &str| {
        format!("#[repr(C)] pub struct T {{ {front} pub b: u64 }} #[inline(never)] pub fn b(t: &T) -> u64 {{ t.b }}")
    };
    let user = "#[inline(never)] pub fn keep(t: &a::T, wait: fn()) -> u64 { wait(); a::b(t) }";
    let bundle = between(&[("a", &with("")), ("b", user)], &[("a", &with("pub a: u64,")), ("b", user)]);
    assert_eq!(bundle.changes.len(), 1, "the user's object is the same");
    refused(&bundle, &["a::T", "mentioned by a, b"]);
}

#[test]
fn variants_in_another_order() {
    let with = |variants: &str| {
        format!(
            "#[derive(Clone, Copy)] pub enum E {{ {variants} }} pub enum Plain {{ X, Y }}
             #[inline(never)] pub fn f(e: &E) -> u32 {{ match e {{ E::A(x) => *x, E::B(x) => *x + 1, E::C => 2 }} }}
             #[inline(never)] pub fn g(p: &Plain) -> u32 {{ match p {{ Plain::X => 1, Plain::Y => 2 }} }}"
        )
    };
    let base = with("A(u32), B(u32), C");
    let bundle = between(&[("a", &base)], &[("a", &with("B(u32), A(u32), C"))]);
    refused(&bundle, &["a::E changed", "variant"]);
    let swapped = base.replace("{ X, Y }", "{ Y, X }");
    let bundle = between(&[("a", &base)], &[("a", &swapped)]);
    refused(&bundle, &["a::Plain changed", "variant `X` 0 → 1"]);
}

#[test]
fn what_a_vector_holds() {
    // Inside, a vector of one type is as a vector of another.
    let with = |ty: &str| {
        format!(
            "extern crate alloc; use alloc::vec::Vec;
             pub struct U {{ pub x: u32 }} pub struct V {{ pub y: u32 }} pub struct T {{ pub v: Vec<{ty}> }}
             #[inline(never)] pub fn len(t: &T) -> usize {{ t.v.len() }}
             pub static L: fn(&T) -> usize = len;"
        )
    };
    let bundle = between(&[("a", &with("U"))], &[("a", &format!("{} {MORE}", with("V")))]);
    refused(&bundle, &["a::T changed", "member `v`: alloc::vec::Vec<a::U", "a::V"]);
    let base = with("U");
    let target = base.replace("pub struct U { pub x: u32 }", "pub struct U { pub x: u32, pub z: u32 }");
    let bundle = between(&[("a", &base)], &[("a", &format!("{target} {MORE}"))]);
    refused(&bundle, &["a::U changed", "size 4 → 8"]);
    assert!(not_followed(&bundle, "a", "a::len").is_some());
}

#[test]
fn the_type_of_a_function_pointer() {
    let with = |result: &str| {
        format!(
            "pub struct T {{ pub f: fn(u32) -> {result} }} #[inline(never)] pub fn call(t: &T) -> {result} {{ (t.f)(1) }}"
        )
    };
    let bundle = between(&[("a", &with("u32"))], &[("a", &format!("{} {MORE}", with("u64")))]);
    refused(&bundle, &["a::T changed", "fn(u32) -> u32", "fn(u32) -> u64"]);
}

#[test]
fn a_callee_that_cannot_unwind_any_more() {
    // The caller's bytes stay; its table of landing pads loses a call.
    let with = |callee: &str| {
        format!(
            "pub struct Guard(pub u32); impl Drop for Guard {{ #[inline(never)] fn drop(&mut self) {{ core::hint::black_box(self.0); }} }}
             #[inline(never)] pub fn one(x: u32) {{ core::hint::black_box(x); {callee} }}
             #[inline(never)] pub fn two(x: u32) {{ if x == 7 {{ panic!() }} core::hint::black_box(x); }}
             #[inline(never)] pub fn caller(x: u32) {{ let _guard = Guard(x); two(x); one(x); }}"
        )
    };
    let bundle = between(&[("a", &with("if x == 9 { panic!() }"))], &[("a", &with(""))]);
    is_code(&bundle);
    let reasons = &cell(&bundle, "a").reasons;
    assert!(reasons.contains(&"unwind table of a::caller".to_owned()), "{reasons:?}");
    assert!(reasons.contains(&"body of a::one".to_owned()), "{reasons:?}");
}

#[test]
fn an_inlined_body() {
    let library = |factor: u32| {
        format!("#[inline] pub fn small(x: u32) -> u32 {{ x.rotate_left({factor}) ^ 5 }} pub fn other() -> u32 {{ 4 }}")
    };
    let user = "#[inline(never)] pub fn f(x: u32) -> u32 { a::small(x) + 1 }";
    let bundle = between(&[("a", &library(3)), ("b", user)], &[("a", &library(4)), ("b", user)]);
    is_code(&bundle);
    assert_eq!(bundle.changes.len(), 1, "only the user has the function's code");
    assert_eq!(cell(&bundle, "b").reasons, ["inlined body of a::small in b::f"]);
}

#[test]
fn an_instance_of_a_generic_function() {
    let library =
        |factor: u32| format!("#[inline(never)] pub fn many<T: Into<u64>>(x: T) -> u64 {{ x.into() * {factor} }}");
    let user = "pub fn f(x: u32) -> u64 { a::many(x) }";
    let bundle = between(&[("a", &library(3)), ("b", user)], &[("a", &library(5)), ("b", user)]);
    is_code(&bundle);
    assert_eq!(cell(&bundle, "b").reasons, ["inlined body of a::many::<u32>"]);
}

#[test]
fn drop_glue_leads_on_only_if_its_code_is_equal() {
    let with = |more: &str, drops: u32| {
        format!(
            "pub struct D(pub u32); impl Drop for D {{ #[inline(never)] fn drop(&mut self) {{ core::hint::black_box(self.0 + {drops}); }} }}
             pub trait Tr {{ fn m(&self) -> u32; }} pub struct A {{ pub d: D {more} }} impl Tr for A {{ fn m(&self) -> u32 {{ self.d.0 }} }}
             #[inline(never)] pub fn object(a: &A) -> &dyn Tr {{ a }}"
        )
    };
    let base = with("", 1);
    // Another destructor, called as before.
    let bundle = between(&[("a", &base)], &[("a", &with("", 2))]);
    is_code(&bundle);
    assert!(follows(&bundle, "a", "core::ptr::drop_in_place::<a::A>"));
    let bundle = between(&[("a", &base)], &[("a", &with(", pub e: D", 1))]);
    refused(&bundle, &["a::A"]);
    assert!(not_followed(&bundle, "a", "core::ptr::drop_in_place::<a::A>").is_some());
}

#[test]
fn exported_names_lead_on_by_name_and_signature() {
    let with = |parameters: &str, number: u32| {
        format!("#[unsafe(no_mangle)] pub extern \"sysv64\" fn delias_probe({parameters}) -> u64 {{ {number} }}")
    };
    let bundle = between(&[("a", &with("x: u64", 1))], &[("a", &with("x: u64", 2))]);
    is_code(&bundle);
    assert!(follows(&bundle, "a", "delias_probe"));
    let bundle = between(&[("a", &with("x: u64", 1))], &[("a", &with("x: u64, y: u64", 2))]);
    is_code(&bundle);
    assert!(not_followed(&bundle, "a", "delias_probe").is_some_and(|why| why.contains("signature")));
}

#[test]
fn assembly_leads_on_by_its_symbol() {
    let with = |number: u32| {
        format!(
            "#[unsafe(naked)] #[unsafe(no_mangle)] pub extern \"sysv64\" fn delias_naked() {{ core::arch::naked_asm!(\"mov eax, {number}\", \"ret\") }}
             pub static N: extern \"sysv64\" fn() = delias_naked;"
        )
    };
    let bundle = between(&[("a", &with(1))], &[("a", &with(2))]);
    is_code(&bundle);
    assert!(follows(&bundle, "a", "delias_naked"), "{:?}", cell(&bundle, "a").not_followed);
}

#[test]
fn cells_come_and_go() {
    let a = ("a", "#[inline(never)] pub fn f(x: u32) -> u32 { x + 1 }");
    let b = ("b", "#[inline(never)] pub fn g(x: u32) -> u32 { a::f(x) }");
    let bundle = between(&[a], &[a, b]);
    is_code(&bundle);
    let added = cell(&bundle, "b");
    assert_eq!((added.what, added.base_hash), (What::Add, [0; 32]));
    assert_eq!(blake3::hash(&added.object).as_bytes(), &added.object_hash);
    let bundle = between(&[a, b], &[a]);
    is_code(&bundle);
    let removed = cell(&bundle, "b");
    assert_eq!((removed.what, removed.object_hash, removed.object.len()), (What::Remove, [0; 32], 0));
    let back = bundle::Bundle::read(&bundle.write().unwrap()).unwrap();
    assert_eq!(back, bundle);
}

#[test]
fn a_second_compiler_is_refused() {
    let source = "pub fn f(x: u32) -> u32 { x + 1 }";
    let (base, target) = (builds::image(&[("a", source)]), builds::image(&[("a", source)]));
    builds::pretend(&target, "rustc 1.97.0 (another)");
    let bundle = delias::diff::between(&base.0, &target.0).unwrap();
    refused(&bundle, &["another compiler", "rustc 1.97.0 (another)"]);
}

#[test]
fn another_boot_program_waits_for_the_next_boot() {
    let source = "pub fn f(x: u32) -> u32 { x + 1 }";
    let (base, target) = (builds::image(&[("a", source)]), builds::image(&[("a", source)]));
    std::fs::write(target.0.join("nano_core"), "another").unwrap();
    let bundle = delias::diff::between(&base.0, &target.0).unwrap();
    is_code(&bundle);
    assert!(bundle.boot_pending && bundle.changes.is_empty());
}

#[test]
fn a_half_built_folder_is_an_error() {
    let source = "pub fn f(x: u32) -> u32 { x + 1 }";
    let (base, target) = (builds::image(&[("a", source)]), builds::image(&[("a", source)]));
    let object = target.0.join("cells/a.o");
    let mut bytes = std::fs::read(&object).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let error = delias::diff::between(&base.0, &target.0).unwrap_err().to_string();
    assert!(error.contains("its manifest expects"), "{error}");
}
