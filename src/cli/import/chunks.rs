//! A log file in pieces that are told apart from run to run.
//!
//! A piece is named by the hash of everything from the beginning of the file to its end. So a piece that was stored is known
//! again when the same file is read once more, and also when the file has grown since: its old last piece ends in the middle
//! of what is now a longer one, and only what lies behind is new. Lines that look alike are told apart, since what stands
//! before them differs.
//!
//! A last line without an end is a piece of its own: it may be half a line of a log that is being written, and then it will
//! be another line next time. In a piece with others it would change the name of all of them, and all would count twice.

use std::collections::{HashSet, VecDeque};
use std::io::{self, BufRead};

use sha2::{Digest as _, Sha256};

use crate::domain::Fingerprint;
use crate::store::IMPORT_KEYS;

/// Lines of a piece: few enough that a kill costs nothing, enough that `COPY` is at its best.
const PIECE_LINES: usize = 5_000;

/// The longest line read whole; the rest of a longer one is dropped, and what remains will not parse.
const LINE_MAX_BYTES: usize = 64 * 1024;

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// The text, bytes that are not UTF-8 replaced by U+FFFD.
    pub(super) text: String,
    /// Hash of the file up to the end of this line.
    hash: Fingerprint,
    /// Whether a line feed follows.
    ended: bool,
}

/// Lines that are stored together.
#[derive(Debug)]
pub(super) struct Piece {
    /// The lines.
    pub(super) lines: Vec<Line>,
    /// The name of the piece.
    pub(super) key: String,
    /// The hash in it.
    pub(super) hash: Fingerprint,
}

/// Reads a file piece by piece.
pub(super) struct Chunks<R> {
    input: R,
    hasher: Sha256,
    next_number: u64,
    ahead: VecDeque<Line>,
    prefix: String,
    /// Names of pieces that are stored already.
    stored: HashSet<String>,
    /// Lines of such pieces that were passed over.
    pub(super) already_stored: u64,
}

impl<R: BufRead> Chunks<R> {
    /// `service` is part of every name: the same file of another service is another file.
    pub(super) fn new(input: R, service: Option<&str>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"endpoint-stats import 1\n");
        hasher.update(service.unwrap_or("\0"));
        hasher.update(b"\n");
        Self {
            input,
            hasher,
            next_number: 1,
            ahead: VecDeque::new(),
            prefix: String::new(),
            stored: HashSet::new(),
            already_stored: 0,
        }
    }

    /// The first lines, left in place.
    pub(super) fn first_lines(&mut self) -> io::Result<Vec<&str>> {
        self.read_ahead()?;
        Ok(self.ahead.iter().map(|line| line.text.as_str()).collect())
    }

    /// The beginning of the names of all pieces of this file: the hash of its first line.
    pub(super) fn key_prefix(&mut self) -> io::Result<&str> {
        self.read_ahead()?;
        if self.prefix.is_empty() {
            let first = self.ahead.front().map(|line| line.hash).unwrap_or_default();
            self.prefix = format!("{IMPORT_KEYS}{first}:");
        }
        Ok(&self.prefix)
    }

    /// Names the pieces that are stored already.
    pub(super) fn skip(&mut self, stored: HashSet<String>) {
        self.stored = stored;
    }

    /// The next piece that is not stored; `None` at the end.
    pub(super) fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        self.key_prefix()?;
        loop {
            self.read_ahead()?;
            if self.ahead.is_empty() {
                return Ok(None);
            }
            let stored = if self.stored.is_empty() {
                None
            } else {
                self.ahead.iter().rposition(|line| self.stored.contains(&self.key(line.hash)))
            };
            if let Some(last) = stored {
                self.already_stored += last as u64 + 1;
                self.ahead.drain(..=last);
                continue;
            }
            let half = self.ahead.len() > 1 && self.ahead.back().is_some_and(|line| !line.ended);
            let lines: Vec<Line> = self.ahead.drain(..self.ahead.len() - usize::from(half)).collect();
            let hash = lines.last().map(|line| line.hash).unwrap_or_default();
            return Ok(Some(Piece { key: self.key(hash), hash, lines }));
        }
    }

    fn key(&self, hash: Fingerprint) -> String {
        format!("{}{hash}", self.prefix)
    }

    fn read_ahead(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.ahead.len() < PIECE_LINES {
            bytes.clear();
            let ended = match read_line(&mut self.input, &mut bytes)? {
                End::Nothing => break,
                End::LineFeed => true,
                End::File => false,
            };
            self.hasher.update((bytes.len() as u64).to_be_bytes());
            self.hasher.update(&bytes);
            self.ahead.push_back(Line {
                number: self.next_number,
                text: String::from_utf8_lossy(&bytes).into_owned(),
                hash: self.hasher.clone().into(),
                ended,
            });
            self.next_number += 1;
        }
        Ok(())
    }
}

/// Where a line ended.
enum End {
    /// There was no line.
    Nothing,
    /// At a line feed.
    LineFeed,
    /// At the end of the file.
    File,
}

/// Reads a line without its end into `line`.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<End> {
    let mut read = End::Nothing;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            break;
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = LINE_MAX_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(available.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            read = End::LineFeed;
            break;
        }
        read = End::File;
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: std::ops::Range<usize>) -> String {
        lines.map(|line| format!("line {}\n", line % 7)).collect()
    }

    /// Names and lengths of the pieces that are read when those in `stored` are.
    fn pieces(text: &str, stored: &[String]) -> (Vec<(String, usize)>, u64) {
        let mut chunks = Chunks::new(text.as_bytes(), None);
        chunks.skip(stored.iter().cloned().collect());
        let mut found = Vec::new();
        while let Some(piece) = chunks.next_piece().unwrap() {
            found.push((piece.key, piece.lines.len()));
        }
        (found, chunks.already_stored)
    }

    fn keys(pieces: &[(String, usize)]) -> Vec<String> {
        pieces.iter().map(|(key, _)| key.clone()).collect()
    }

    #[test]
    fn a_file_read_again_has_the_same_pieces_and_none_is_new() {
        let (first, _) = pieces(&text(0..12_000), &[]);
        assert_eq!(first.iter().map(|(_, lines)| *lines).collect::<Vec<_>>(), [5_000, 5_000, 2_000]);
        assert_eq!(pieces(&text(0..12_000), &keys(&first)), (vec![], 12_000));
    }

    #[test]
    fn of_a_file_that_has_grown_only_the_new_lines_are_left() {
        let (first, _) = pieces(&text(0..7_000), &[]);
        let (second, known) = pieces(&text(0..20_000), &keys(&first));
        assert_eq!((second.iter().map(|(_, lines)| *lines).sum::<usize>(), known), (13_000, 7_000));
        let both: Vec<String> = keys(&first).into_iter().chain(keys(&second)).collect();
        assert_eq!(pieces(&text(0..20_000), &both), (vec![], 20_000));
    }

    #[test]
    fn a_last_line_that_was_cut_changes_no_other_when_it_is_whole() {
        let whole = text(0..7_000);
        let (first, _) = pieces(&whole[..whole.len() - 4], &[]);
        assert_eq!(first.iter().map(|(_, lines)| *lines).collect::<Vec<_>>(), [5_000, 1_999, 1]);
        let (second, known) = pieces(&whole, &keys(&first));
        assert_eq!((second.iter().map(|(_, lines)| *lines).sum::<usize>(), known), (1, 6_999));
    }

    #[test]
    fn a_piece_that_a_kill_left_out_is_read_and_its_neighbours_are_not() {
        let (first, _) = pieces(&text(0..15_000), &[]);
        let without_the_second = [first[0].0.clone(), first[2].0.clone()];
        assert_eq!(pieces(&text(0..15_000), &without_the_second), (vec![first[1].clone()], 10_000));
    }

    #[test]
    fn look_alike_pieces_have_names_of_their_own() {
        let same = "GET /\n".repeat(10_000);
        let (found, _) = pieces(&same, &[]);
        assert_ne!(found[0].0, found[1].0);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let long = format!("{}\nshort\n", "x".repeat(1 << 20));
        let mut chunks = Chunks::new(long.as_bytes(), None);
        let piece = chunks.next_piece().unwrap().unwrap();
        assert_eq!(piece.lines.iter().map(|line| line.text.len()).collect::<Vec<_>>(), [LINE_MAX_BYTES, 5]);
    }
}
