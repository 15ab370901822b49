//! `#[derive(State)]` and `#[derive(Zeroed)]` for the crate `state_db`; what they mean is written there.

mod state;
mod zeroed;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Describes a type to `state_db`: its name, version and fields. Attributes: `#[state(version = 2, name = "…")]` on the
/// type, `#[state(number = 3)]` on a field.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Says that zeros are a value of a struct, because they are one of each field.
#[proc_macro_derive(Zeroed)]
pub fn derive_zeroed(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    zeroed::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
