//! Paths in what a macro is given: those are tokens still.

use proc_macro2::{TokenStream, TokenTree};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Mentioned {
    pub(crate) paths: Vec<Vec<String>>,
}

/// Every `a::b::c` of at least two names.
pub(crate) fn paths_of_tokens(tokens: TokenStream, into: &mut Mentioned) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    let finish = |path: &mut Vec<String>, into: &mut Mentioned| {
        let path = std::mem::take(path);
        if path.len() > 1 {
            into.paths.push(path);
        }
    };
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    finish(&mut path, into);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
            TokenTree::Group(group) => {
                finish(&mut path, into);
                colons = 0;
                paths_of_tokens(group.stream(), into);
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                finish(&mut path, into);
                colons = 0;
            }
        }
    }
    finish(&mut path, into);
}
