//! `#[derive(Zeroed)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "only structs: zeros need not be a variant"));
    };
    let ident = &input.ident;
    let types = data.fields.iter().map(|field| &field.ty);
    let mut generics = input.generics.clone();
    let bounds = &mut generics.make_where_clause().predicates;
    for ty in types {
        bounds.push(syn::parse_quote!(#ty: ::state_db::Zeroed));
    }
    let (parameters, arguments, bounds) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        // SAFETY: zeros are a value of each field, as the bounds say, and padding may hold anything.
        unsafe impl #parameters ::state_db::Zeroed for #ident #arguments #bounds {}
    })
}
