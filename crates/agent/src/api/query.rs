//! Query strings, strictly: an unknown or repeated parameter is an error, as a misspelt field in a manifest is.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::http::Uri;

use super::error::ApiError;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    /// Decodes the query string; `known` are the parameters that this resource has.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|e| ApiError::bad_request(format!("query string cannot be decoded: {}", e.body_text())))?
            .0;
        let mut params = BTreeMap::new();
        for (key, value) in pairs {
            if !known.contains(&key.as_str()) {
                let accepted = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(ApiError::bad_request(format!("unknown query parameter \"{key}\"; accepted: {accepted}")));
            }
            if let Some(first) = params.insert(key.clone(), value) {
                return Err(ApiError::bad_request(format!(
                    "query parameter \"{key}\" is given twice (first: \"{first}\")"
                )));
            }
        }
        Ok(Params(params))
    }

    /// A parameter that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// `true`/`1` or `false`/`0`; present without a value means true; absent means false.
    pub(super) fn flag(&self, key: &str) -> Result<bool, ApiError> {
        match self.0.get(key).map(String::as_str) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => {
                Err(ApiError::bad_request(format!("query parameter {key}: found \"{other}\", accepted: true, false")))
            }
        }
    }

    /// A whole number from 0 on.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "query parameter {key}: found \"{text}\", accepted: a whole number from 0 on"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Params, ApiError> {
        Params::parse(&format!("/x?{query}").parse().unwrap(), &["watch", "tailLines", "labelSelector"])
    }

    #[test]
    fn good_ones() {
        let params = parse("watch&tailLines=5&labelSelector=a%3Db%2Cc").unwrap();
        assert!(params.flag("watch").unwrap());
        assert_eq!(params.number("tailLines").unwrap(), Some(5));
        assert_eq!(params.text("labelSelector"), Some("a=b,c"));
        assert!(!parse("watch=false").unwrap().flag("watch").unwrap());
    }

    #[test]
    fn bad_ones_name_what_was_found_and_what_is_accepted() {
        assert_eq!(
            parse("wacth=1").unwrap_err().message,
            "unknown query parameter \"wacth\"; accepted: watch, tailLines, labelSelector"
        );
        assert!(parse("watch=1&watch=0").unwrap_err().message.contains("twice"));
        assert!(parse("watch=yes").unwrap().flag("watch").unwrap_err().message.contains("found \"yes\""));
        assert!(parse("tailLines=-1").unwrap().number("tailLines").is_err());
    }
}
