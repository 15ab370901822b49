//! `#[derive(State)]`.

use proc_macro2::TokenStream;
use quote::quote;
use std::collections::HashSet;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Index, LitInt, LitStr, Result, spanned::Spanned};

#[derive(Default)]
struct TypeOptions {
    version: Option<u32>,
    name: Option<LitStr>,
}

fn type_options(attributes: &[Attribute]) -> Result<TypeOptions> {
    let mut options = TypeOptions::default();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("version") {
                let version: LitInt = meta.value()?.parse()?;
                match version.base10_parse()? {
                    0 => return Err(Error::new(version.span(), "versions begin at 1")),
                    number => options.version = Some(number),
                }
            } else if meta.path.is_ident("name") {
                options.name = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error("known are `version = N` and `name = \"…\"`"));
            }
            Ok(())
        })?;
    }
    Ok(options)
}

fn field_number(attributes: &[Attribute], position: u32) -> Result<u32> {
    let mut number = position;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("number") {
                return Err(meta.error("known is `number = N`"));
            }
            number = meta.value()?.parse::<LitInt>()?.base10_parse()?;
            Ok(())
        })?;
    }
    Ok(number)
}

fn struct_fields(fields: &Fields) -> Result<Vec<TokenStream>> {
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for (position, field) in fields.iter().enumerate() {
        let number = field_number(&field.attrs, position as u32)?;
        if !seen.insert(number) {
            return Err(Error::new(field.span(), format!("number {number} is another field's")));
        }
        let (member, name) = match &field.ident {
            Some(ident) => (quote!(#ident), ident.to_string()),
            None => {
                let index = Index::from(position);
                (quote!(#index), position.to_string())
            }
        };
        let name = name.trim_start_matches("r#");
        let ty = &field.ty;
        rows.push(quote! {
            ::state_db::Field {
                number: #number,
                name: #name,
                offset: ::core::mem::offset_of!(Self, #member),
                size: ::core::mem::size_of::<#ty>(),
                ty: ::state_db::type_name::<#ty>(),
            }
        });
    }
    Ok(rows)
}

fn variants(data: &syn::DataEnum) -> Vec<TokenStream> {
    let row = |(position, variant): (usize, &syn::Variant)| {
        let (number, name) = (position as u32, variant.ident.to_string());
        let types = variant.fields.iter().map(|field| &field.ty);
        quote! {
            ::state_db::Field {
                number: #number,
                name: #name,
                offset: 0,
                size: 0,
                ty: ::state_db::type_name::<(#(#types,)*)>(),
            }
        }
    };
    data.variants.iter().enumerate().map(row).collect()
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let options = type_options(&input.attrs)?;
    if let Some(lifetime) = input.generics.lifetimes().next() {
        return Err(Error::new(lifetime.span(), "state outlives every borrow: it has no lifetime parameters"));
    }
    let rows = match &input.data {
        Data::Struct(data) => struct_fields(&data.fields)?,
        Data::Enum(data) => variants(data),
        Data::Union(data) => {
            return Err(Error::new(data.union_token.span(), "nobody can tell what a union holds: it is no state"));
        }
    };
    let ident = &input.ident;
    let version = options.version.unwrap_or(1);
    let name = match options.name {
        Some(name) => quote!(#name),
        None => quote!(::state_db::type_name::<Self>()),
    };
    let mut generics = input.generics.clone();
    for parameter in input.generics.type_params() {
        let parameter = &parameter.ident;
        let bound = syn::parse_quote!(#parameter: ::core::marker::Send + ::core::marker::Sync + 'static);
        generics.make_where_clause().predicates.push(bound);
    }
    let (parameters, arguments, bounds) = generics.split_for_impl();
    // The object says which version it was compiled with: the difference of two builds sees that it changed.
    let mark = quote::format_ident!("STATE_VERSION_OF_{ident}");
    // And its layout id, which has everything else by which its values are found. A generic type has as many as uses.
    let layout = quote::format_ident!("STATE_LAYOUT_OF_{ident}");
    let layout = input.generics.params.is_empty().then(|| {
        quote! {
            #[used]
            #[allow(non_upper_case_globals, reason = "named for the type")]
            static #layout: u64 = ::state_db::layout_id::<#ident>();
        }
    });
    Ok(quote! {
        const _: () = {
            #[used]
            #[allow(non_upper_case_globals, reason = "named for the type")]
            static #mark: u32 = #version;
            #layout
        };
        #[automatically_derived]
        impl #parameters ::state_db::State for #ident #arguments #bounds {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const FIELDS: &'static [::state_db::Field] = &[#(#rows),*];
        }
    })
}
