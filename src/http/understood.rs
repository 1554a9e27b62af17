//! Questions that were asked before, by the text of their request.
//!
//! Path and query say all there is about a question: what they are read into depends on nothing else, neither the time nor the
//! client nor the data. So the same text need not be read twice, and what was read once is what would be read again. Only
//! questions that are well asked are remembered; an error is found anew each time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use actix_web::HttpRequest;

use super::error::ApiError;
use crate::stats::{Asked, Question};

/// Of each worker. A dashboard asks some dozen; with texts of full length a worker's take 1 MB.
const MOST: usize = 256;

/// The longest text that is remembered, bytes.
const TEXT_MAX_BYTES: usize = 512;

/// What one worker remembers. Counted within the worker: no other one has to be told that a question is asked again.
#[derive(Debug, Default)]
pub(super) struct Understood(RefCell<HashMap<Box<str>, Rc<Asked>>>);

impl Understood {
    /// What `request` asks, as `read` reads it.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn question(
        request: &HttpRequest,
        read: fn(&HttpRequest) -> Result<Question, ApiError>,
    ) -> Result<Rc<Asked>, ApiError> {
        let text = request.uri().path_and_query().map(|text| text.as_str()).unwrap_or_default();
        // Present wherever there are routes: `serve` puts it there.
        let known = request.app_data::<Self>().filter(|_| (1..=TEXT_MAX_BYTES).contains(&text.len()));
        let Some(Self(known)) = known else { return read(request).map(Asked::from).map(Rc::new) };
        if let Some(asked) = known.borrow().get(text) {
            return Ok(Rc::clone(asked));
        }
        let asked = Rc::new(Asked::from(read(request)?));
        let mut known = known.borrow_mut();
        if known.len() >= MOST {
            // Whoever makes up questions makes the others slower by the time it takes to read one, and no more.
            known.clear();
        }
        known.insert(text.into(), Rc::clone(&asked));
        Ok(asked)
    }
}
