//! A procedural macro: code that the compiler loads and runs in itself.

use proc_macro::TokenStream;

/// Every identifier given, as one string in capitals.
#[proc_macro]
pub fn shout(input: TokenStream) -> TokenStream {
    let words: Vec<String> = input.into_iter().map(|token| token.to_string().to_uppercase()).collect();
    format!("{:?}", words.join(" ")).parse().expect("a string literal is Rust")
}
