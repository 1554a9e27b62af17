//! The map of modules, held against the sources.
//!
//! ```text
//! main → cli → app → http → { auth, limits, stats, ingest, jobs } → { store, cache, logs } → domain
//!                           access_log → domain        config, embedded: see MAP
//! ```
//!
//! A module uses only what stands to its right. What is looked for is paths: `crate::store`, `crate::{store, …}`,
//! `super::super::store`, and the names of other crates that belong to one module alone.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and the modules it may use.
const MAP: [(&str, &[&str]); 16] = [
    ("main", &["cli"]),
    (
        "cli",
        &[
            "access_log",
            "app",
            "auth",
            "cache",
            "config",
            "domain",
            "embedded",
            "http",
            "ingest",
            "jobs",
            "limits",
            "logs",
            "stats",
            "store",
        ],
    ),
    ("app", &["http", "auth", "limits", "stats", "ingest", "jobs", "store", "cache", "domain", "config"]),
    ("http", &["auth", "limits", "stats", "ingest", "jobs", "store", "cache", "domain"]),
    ("auth", &["store", "domain"]),
    ("limits", &["cache", "domain"]),
    ("stats", &["store", "cache", "domain"]),
    ("ingest", &["store", "cache", "domain"]),
    ("jobs", &["store", "cache", "logs", "domain"]),
    ("store", &["domain"]),
    ("cache", &["domain"]),
    ("logs", &[]),
    ("access_log", &["domain"]),
    // Plain data: options become the configurations of those who use them.
    ("config", &["ingest", "jobs", "limits", "store", "cache"]),
    ("embedded", &[]),
    ("domain", &[]),
];

/// Crates that only these modules may name. A name that ends in `_` stands for all that begin with it.
const CRATES: [(&str, &[&str]); 9] = [
    ("chrono_tz", &["domain"]),
    ("sqlx", &["store"]),
    ("tokio_postgres", &["store"]),
    ("tokio_postgres_", &["store"]),
    ("refinery", &["store"]),
    ("redis", &["cache"]),
    ("deadpool_redis", &["cache"]),
    ("actix_", &["http"]),
    ("anyhow", &["cli", "app", "config", "main"]),
];

/// A file longer than this is split by noun.
const MAX_LINES: usize = 600;

/// A word or a sign of Rust's, and its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'s> {
    text: &'s str,
    line: usize,
}

/// The words and signs of a source, without comments and the insides of texts. `::` is one sign.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &source[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = text_length(rest) {
            length
        } else if bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push(Token { text: &rest[..length], line });
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { rest.chars().next().map_or(1, char::len_utf8) };
            if !rest[..length].trim().is_empty() {
                found.push(Token { text: &rest[..length], line });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

/// The length of the text or character literal that `rest` begins with.
fn text_length(rest: &str) -> Option<usize> {
    let unprefixed = rest.trim_start_matches(['b', 'c']);
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = rest.len() - raw.len() + hashes + 1;
            return Some(rest[begin..].find(&end).map_or(rest.len(), |found| begin + found + end.len()));
        }
    }
    // A prefix is one letter: `abc"` cannot be.
    let prefix = rest.len() - unprefixed.len();
    if prefix > 1 {
        return None;
    }
    let mut characters = unprefixed.char_indices();
    let (_, quote) = characters.next()?;
    match quote {
        '"' => {
            let mut escaped = false;
            for (at, character) in characters {
                match character {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => return Some(prefix + at + 1),
                    _ => {}
                }
            }
            Some(rest.len())
        }
        '\'' => {
            let (_, first) = characters.next()?;
            if first == '\\' {
                // '\'' and '\u{1F600}': the closing quote is behind at least one more character.
                characters.next()?;
                return characters.find(|(_, character)| *character == '\'').map(|(at, _)| prefix + at + 1);
            }
            // Otherwise a lifetime, which has no closing quote.
            characters.next().filter(|(_, character)| *character == '\'').map(|(at, _)| prefix + at + 1)
        }
        _ => None,
    }
}

/// The modules of this crate that a source names from its root, with their lines. `depth`: how many modules the source
/// itself lies below the root.
fn modules_named<'s>(tokens: &[Token<'s>], depth: usize) -> Vec<Token<'s>> {
    let mut found = Vec::new();
    // Braces that are open, and whether each is the body of a `mod`.
    let mut braces: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text {
            "{" => {
                let is_module = at >= 2 && tokens[at - 2].text == "mod";
                braces.push(is_module);
            }
            "}" => {
                braces.pop();
            }
            _ => {}
        }
        let begins_path = at == 0 || tokens[at - 1].text != "::";
        let mut behind = at;
        match tokens[at].text {
            "crate" | "endpoint_stats" if begins_path => behind += 1,
            "super" if begins_path => {
                let mut up = 0;
                while tokens.get(behind).is_some_and(|token| token.text == "super") {
                    up += 1;
                    behind += 1;
                    if tokens.get(behind + 1).is_some_and(|token| token.text == "super") {
                        behind += 1;
                    }
                }
                let inner = braces.iter().filter(|is_module| **is_module).count();
                if up < depth + inner {
                    behind = at;
                }
            }
            _ => {}
        }
        if behind > at && tokens.get(behind).is_some_and(|token| token.text == "::") {
            found.extend(heads(&tokens[behind + 1..]));
        }
        at += 1;
    }
    found
}

/// The first names of what follows a `::`: one, or each of a group in braces.
fn heads<'s>(tokens: &[Token<'s>]) -> Vec<Token<'s>> {
    let Some(first) = tokens.first() else { return Vec::new() };
    if first.text != "{" {
        return vec![*first];
    }
    let mut found = Vec::new();
    let mut depth = 0;
    let mut begins = false;
    for token in tokens {
        match token.text {
            "{" => {
                depth += 1;
                begins = depth == 1;
            }
            "}" => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            "," => begins = depth == 1,
            _ if begins => {
                found.push(*token);
                begins = false;
            }
            _ => {}
        }
    }
    found
}

/// What a source file does that the map does not show, each with file and line. `file` is its path below `src`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let module = path.split('/').next().unwrap_or(path);
    let is_root = ["main", "lib"].contains(&module);
    let depth = if is_root { 0 } else { path.split('/').count() };
    let mut found = Vec::new();
    let mut report = |line: usize, what: String| found.push(format!("src/{file}:{line}: {what}"));

    let tokens = tokens(source);
    let may_use = MAP.iter().find(|(name, _)| *name == module).map(|(_, may_use)| *may_use);
    if may_use.is_none() && module != "lib" {
        report(1, format!("{module} is not on the map; decide where it stands"));
    }
    for named in modules_named(&tokens, depth) {
        // Names of no module are items of the root, such as macros.
        let is_module = MAP.iter().any(|(name, _)| *name == named.text);
        if is_module && named.text != module && !may_use.unwrap_or_default().contains(&named.text) {
            report(named.line, format!("{module} uses {}, which does not stand to its right", named.text));
        }
    }
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).map_or("", |token| token.text);
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
        let names_crate = before != "::" && (next == "::" || (before == "use" && [";", "as"].contains(&next)));
        for (name, owners) in CRATES {
            let same = if name.ends_with('_') { token.text.starts_with(name) } else { token.text == name };
            if names_crate && same && !owners.contains(&module) {
                report(token.line, format!("{module} uses {}, which is for {} only", token.text, owners.join(", ")));
            }
        }
    }
    let lines = source.lines().count();
    if lines >= MAX_LINES {
        report(lines, format!("{lines} lines; {MAX_LINES} is where a file is split"));
    }
    found
}

/// The files below `folder` whose names end so, with their paths below it.
fn files(folder: &Path, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let below = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.push((below, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn told(violations: &[String]) -> String {
    violations.iter().fold("\n".to_owned(), |mut text, violation| {
        let _ = writeln!(text, "{violation}");
        text
    })
}

#[test]
fn each_module_uses_only_what_stands_to_its_right() {
    let sources = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "rs");
    assert!(sources.len() > 40, "the sources are where they are looked for");
    let found: Vec<String> = sources.iter().flat_map(|(file, source)| violations(file, source)).collect();
    assert!(found.is_empty(), "{}", told(&found));
    for (module, _) in MAP {
        let is_there =
            |(file, _): &(String, String)| *file == format!("{module}.rs") || file.starts_with(&format!("{module}/"));
        assert!(sources.iter().any(is_there), "{module} is on the map and not in src");
    }
}

#[test]
fn every_statement_begins_with_its_name() {
    let statements = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sql"), "sql");
    assert!(statements.len() > 20, "the statements are where they are looked for");
    let found: Vec<String> = statements
        .iter()
        .filter(|(_, text)| !text.strip_prefix("-- name: ").is_some_and(|rest| rest.starts_with(char::is_alphabetic)))
        .map(|(file, _)| format!("sql/{file}:1: does not begin with `-- name: ` and what it answers"))
        .collect();
    assert!(found.is_empty(), "{}", told(&found));
}

#[test]
fn an_arrow_that_is_not_on_the_map_is_told_with_file_and_line() {
    let source = "//! crate::http in prose\nuse crate::domain::Window;\nuse crate::http::App;\n\nfn f() {\n    sqlx::query(\"\");\n}\n";
    assert_eq!(
        violations("stats/ranking.rs", source),
        [
            "src/stats/ranking.rs:3: stats uses http, which does not stand to its right",
            "src/stats/ranking.rs:6: stats uses sqlx, which is for store only",
        ]
    );
}

#[test]
fn an_arrow_is_found_however_it_is_written() {
    for (file, source) in [
        ("domain/window.rs", "use crate::{\n    store::{self, Store},\n};"),
        ("domain/window.rs", "use {crate::store::Store};"),
        ("domain/window.rs", "fn f() -> crate::store::Store { todo() }"),
        ("domain/window.rs", "use super::super::store;"),
        ("domain/mod.rs", "use super::store;"),
        ("domain.rs", "use super::{store, cache};"),
        ("domain/window.rs", "mod tests { use super::super::super::store::Store; }"),
        ("domain/window.rs", "const A: char = '\"'; use crate::store;"),
        ("domain/window.rs", "const A: &str = r#\"\"#; fn f<'a>(_: &'a str) {} use crate::store;"),
        ("domain/window.rs", "pub(in crate::store) fn f() {}"),
        ("jobs/mod.rs", "use crate::ingest::Ingest;"),
        ("access_log/mod.rs", "use crate::ingest::Ingest;"),
        ("http/mod.rs", "use crate::app;"),
        ("main.rs", "fn main() { endpoint_stats::store::migrate(); }"),
        ("app.rs", "use actix_web::App;"),
        ("stats/mod.rs", "use redis::Client;"),
        ("stats/mod.rs", "use deadpool_redis::Pool;"),
        ("cli/mod.rs", "use tokio_postgres_rustls::MakeRustlsConnect;"),
        ("cli/mod.rs", "use refinery;"),
        ("store/mod.rs", "use anyhow::Result;"),
        ("embedded.rs", "use crate::domain::Window;"),
        ("newcomer/mod.rs", ""),
    ] {
        let found = violations(file, source);
        assert!(!found.is_empty(), "{file}: {source}");
        assert!(found.iter().all(|violation| violation.starts_with(&format!("src/{file}:"))), "{found:?}");
    }
    assert_eq!(violations("cache/mod.rs", &"\n".repeat(600)).len(), 1);
}

#[test]
fn what_is_on_the_map_or_is_no_path_is_let_be() {
    for (file, source) in [
        (
            "domain/window.rs",
            "// use crate::store;\n/* use crate::store; */ const A: &str = \"crate::store\\\" crate::store\";",
        ),
        ("domain/window.rs", "const A: &str = r#\"use \"crate::store\"\"#; const B: &[u8] = b\"crate::store\";"),
        ("domain/window.rs", "use super::store; use self::store; mod tests { use super::super::store; }"),
        ("domain/window.rs", "use crate::domain::Window;"),
        ("domain/window.rs", "let redis = self.redis; Told { sqlx: 1 }"),
        ("http/mod.rs", "use crate::{domain::Window, stats::Stats}; use actix_web::App;"),
        ("store/mod.rs", "use sqlx::Row as _; use tokio_postgres::NoTls; use crate::domain;"),
        ("cli/demo/mod.rs", "use super::super::store; use crate::embedded; use anyhow::bail;"),
        ("lib.rs", "pub mod store;"),
        ("main.rs", "fn main() { endpoint_stats::cli::run() }"),
        ("cache/mod.rs", &"\n".repeat(599)),
    ] {
        assert_eq!(violations(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}
