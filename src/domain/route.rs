//! Routes, and how a path becomes one.
//!
//! A `route` is a template like `/users/{id}` (OpenTelemetry's `http.route`). A framework that knows it sends it; from a
//! `path` it is guessed here, segment by segment, by shape alone: what looks like the name of one thing among many
//! becomes a placeholder. The guess is idempotent, and deaf to the order in which paths arrive: the same path is the
//! same route today and next year.

use super::endpoint::InvalidEndpoint;

/// The route of records beyond the cap on endpoints, and the service of those beyond the cap on services.
pub const OTHER: &str = "{other}";

/// The longest route kept, bytes; a longer one is cut on a character boundary and ends in [`CUT`].
const ROUTE_MAX_BYTES: usize = 512;

/// Marks a route that was cut.
const CUT: char = '…';

/// Hexadecimal strings from this length on, with at least one digit, are taken for hashes; shorter ones may be words
/// ("facade", "deadbeef").
const HASH_MIN_LENGTH: usize = 16;

/// Mixed letters and digits from this length on are taken for tokens: ULIDs have 26, KSUIDs 27, base64 of 16 bytes 22.
const TOKEN_MIN_LENGTH: usize = 20;

/// The template of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route(Box<str>);

impl Route {
    /// Takes a template as it stands.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for an empty one or one with NUL.
    pub fn parse(template: &str) -> Result<Self, InvalidEndpoint> {
        if template.is_empty() {
            return Err(InvalidEndpoint::Empty);
        }
        if template.contains('\0') {
            return Err(InvalidEndpoint::Nul);
        }
        Ok(Self(cut(template).into()))
    }

    /// Turns a request target into a template: `/users/17?sort=name` becomes `/users/{id}`.
    ///
    /// The query string and the fragment go, and so do scheme and host of a request to a proxy. An empty path is `/`.
    ///
    /// # Errors
    /// [`InvalidEndpoint::Nul`].
    pub fn from_path(target: &str) -> Result<Self, InvalidEndpoint> {
        if target.contains('\0') {
            return Err(InvalidEndpoint::Nul);
        }
        let path = without_origin(target);
        let path = path.split(['?', '#']).next().unwrap_or(path);
        if path.is_empty() {
            return Ok(Self("/".into()));
        }
        // Only what can be kept is looked at, so a path of a megabyte costs no more than one of a kilobyte.
        let mut template = String::with_capacity(path.len().min(ROUTE_MAX_BYTES) + 16);
        for (index, segment) in path.split('/').enumerate() {
            if index > 0 {
                template.push('/');
            }
            template.push_str(placeholder(segment).unwrap_or(segment));
            if template.len() > ROUTE_MAX_BYTES {
                break;
            }
        }
        Ok(Self(cut(&template).into()))
    }

    /// `{other}`.
    #[must_use]
    pub fn other() -> Self {
        Self(OTHER.into())
    }

    /// The template.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A target in absolute form (`http://host/path`, RFC 9112 section 3.2.2) without its scheme and host.
fn without_origin(target: &str) -> &str {
    let Some(rest) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) else {
        return target;
    };
    rest.find(['/', '?', '#']).map_or("", |at| &rest[at..])
}

/// The placeholder for a segment that names one thing among many.
fn placeholder(segment: &str) -> Option<&'static str> {
    // What is one already stays: templating twice is templating once.
    if segment.len() > ROUTE_MAX_BYTES
        || !segment.bytes().any(|byte| byte.is_ascii_digit() || byte == b'@' || byte == b'%')
    {
        return None;
    }
    if segment.bytes().all(|byte| byte.is_ascii_digit()) {
        Some("{id}")
    } else if is_uuid(segment) {
        Some("{uuid}")
    } else if is_date(segment) {
        Some("{date}")
    } else if segment.len() >= HASH_MIN_LENGTH && segment.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Some("{hash}")
    } else if is_email(segment) {
        Some("{email}")
    } else if is_token(segment) {
        Some("{token}")
    } else {
        None
    }
}

fn is_uuid(segment: &str) -> bool {
    segment.len() == 36
        && segment.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `2026-11-21`, alone or with a time behind it.
fn is_date(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let day = bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    day && bytes.get(10).is_none_or(|byte| matches!(byte, b'T' | b't' | b' ')) && bytes.len() <= 40
}

fn is_email(segment: &str) -> bool {
    let Some((name, host)) = segment.split_once('@').or_else(|| segment.split_once("%40")) else {
        return false;
    };
    !name.is_empty()
        && !host.contains('@')
        && host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && !rest.is_empty())
}

/// A long run of letters and digits with at least two digits and two letters, and no file extension.
fn is_token(segment: &str) -> bool {
    if segment.len() < TOKEN_MIN_LENGTH
        || !segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'='))
    {
        return false;
    }
    // A slug is made of words between hyphens; a token has a long stretch without one.
    let longest = segment.split(['-', '_']).map(str::len).max().unwrap_or(0);
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let letters = segment.bytes().filter(u8::is_ascii_alphabetic).count();
    longest >= TOKEN_MIN_LENGTH && digits >= 2 && letters >= 2
}

/// At most [`ROUTE_MAX_BYTES`] bytes, cut on a character boundary and marked.
fn cut(text: &str) -> String {
    if text.len() <= ROUTE_MAX_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(ROUTE_MAX_BYTES - CUT.len_utf8());
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(path: &str) -> String {
        Route::from_path(path).unwrap().as_str().to_owned()
    }

    #[test]
    fn what_names_one_thing_among_many_becomes_a_placeholder() {
        for (path, template) in [
            ("/users/17", "/users/{id}"),
            ("/users/17/orders/9001?page=2#top", "/users/{id}/orders/{id}"),
            ("/f/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "/f/{uuid}"),
            ("/blob/d41d8cd98f00b204e9800998ecf8427e", "/blob/{hash}"),
            ("/reports/2026-11-21", "/reports/{date}"),
            ("/at/2026-11-21T10:00:00Z", "/at/{date}"),
            ("/people/ada@example.org", "/people/{email}"),
            ("/people/ada%40example.org/edit", "/people/{email}/edit"),
            ("/o/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/o/{token}"),
        ] {
            assert_eq!(route(path), template, "{path}");
        }
    }

    #[test]
    fn what_is_a_name_stays() {
        for path in [
            "/",
            "/v1/items",
            "/api/v2",
            "/facade/deadbeef",
            "/blog/top-10-things-to-do-in-2026-with-postgres",
            "/a//b/",
            "*",
            "/img/logo2.png",
            "/users/{id}",
            "/u/:id",
        ] {
            assert_eq!(route(path), path);
        }
    }

    #[test]
    fn query_fragment_and_origin_go() {
        assert_eq!(route("/search?q=1"), "/search");
        assert_eq!(route("?q=1"), "/");
        assert_eq!(route(""), "/");
        assert_eq!(route("http://example.org/a/7?x"), "/a/{id}");
        assert_eq!(route("https://example.org"), "/");
    }

    #[test]
    fn a_long_route_is_cut_on_a_character_and_marked() {
        for length in [8 * 1024, 1024 * 1024] {
            let cut = route(&format!("/{}", "é".repeat(length / 2)));
            assert!(cut.len() <= ROUTE_MAX_BYTES && cut.ends_with(CUT), "{}", cut.len());
        }
        assert_eq!(Route::parse(&"r".repeat(512)).unwrap().as_str().len(), 512);
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(Route::from_path("/a\0b"), Err(InvalidEndpoint::Nul));
        assert_eq!(Route::parse("/a\0b"), Err(InvalidEndpoint::Nul));
    }

    proptest! {
        #[test]
        fn templating_twice_is_templating_once(path in "[/a-z0-9@%.{}?#é-]{0,80}|\\PC{0,80}") {
            let once = route(&path);
            prop_assert_eq!(route(&once), once);
        }

        #[test]
        fn a_route_is_bounded(path in "(/\\PC{0,90}){0,30}") {
            prop_assert!(route(&path).len() <= ROUTE_MAX_BYTES);
        }
    }
}
