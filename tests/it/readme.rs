//! The README, held to the program: options and their defaults, commands, links.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::process;

/// An option of a command, with its variable and its default; empty where it has none.
type Described = (String, String, String, String);

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|_| panic!("no {name}"))
}

async fn help(arguments: &[&str]) -> String {
    let output = process::command(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `--help` lists; below `command`, if one is given that has some.
async fn commands_of(command: &[&str]) -> BTreeSet<String> {
    let help = help(&[command, &["--help"]].concat()).await;
    let list = help.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap();
    // A command stands two spaces in; what wraps from the line before stands further in.
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

async fn commands() -> BTreeSet<String> {
    commands_of(&[]).await
}

/// What stands between `mark` and the next `]`, up to an `=`.
fn bracketed(text: &str, mark: &str) -> String {
    let inside = text.split_once(mark).and_then(|(_, rest)| rest.split_once(']')).map_or("", |(inside, _)| inside);
    inside.split('=').next().unwrap_or_default().trim().to_owned()
}

/// The options of a command, such as `serve` or `keys create`, as its `--help` describes them.
async fn described(command: &str) -> BTreeSet<Described> {
    let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
    let help = help(&words).await;
    let mut options: Vec<String> = Vec::new();
    for line in help.lines() {
        // An option begins six spaces in with its two dashes; whatever follows is told of it.
        if line.starts_with("      --") {
            options.push(String::new());
        } else if line.starts_with("  -") {
            options.push("--help".to_owned());
        }
        if let Some(option) = options.last_mut() {
            option.push(' ');
            option.push_str(line.trim());
        }
    }
    options
        .iter()
        .filter(|option| !option.starts_with("--help"))
        .map(|option| {
            let name = option.split_whitespace().next().unwrap().to_owned();
            (command.to_owned(), name, bracketed(option, "[env: "), bracketed(option, "[default: "))
        })
        .collect()
}

/// The options as the table of the README describes them.
fn in_the_table() -> BTreeSet<Described> {
    let readme = file("README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| ") && line.contains("| `--"));
    let mut options = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, commands, option, variable, default, meaning, _] = cells[..] else {
            panic!("a row of five cells: {row}")
        };
        assert!(!meaning.is_empty(), "{row}");
        for command in commands.split(", ") {
            let described = (command.to_owned(), option.to_owned(), variable.to_owned(), default.to_owned());
            assert!(options.insert(described), "twice: {row}");
        }
    }
    options
}

/// What stands as code: lines of fenced blocks, and spans between backticks.
fn code(readme: &str) -> Vec<&str> {
    let mut code = Vec::new();
    let mut fenced = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            code.push(line);
        } else {
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    code
}

/// The words that follow `program` in code, where they could be commands.
fn words_after<'a>(code: &[&'a str], program: &str) -> BTreeSet<&'a str> {
    code.iter()
        .filter_map(|line| {
            let (before, rest) = line.split_once(&format!("{program} "))?;
            let alone = before.is_empty() || before.ends_with([' ', '/']);
            rest.split_whitespace().next().filter(|word| alone && !word.starts_with('-'))
        })
        .collect()
}

#[tokio::test]
async fn the_table_of_options_is_what_help_says() {
    let mut program = BTreeSet::new();
    for command in commands().await.iter().filter(|command| *command != "help") {
        program.extend(described(command).await);
        for below in commands_of(&[command]).await.iter().filter(|below| *below != "help") {
            program.extend(described(&format!("{command} {below}")).await);
        }
    }
    assert!(program.len() > 40, "help was read: {program:?}");
    let readme = in_the_table();
    let missing: Vec<_> = program.difference(&readme).collect();
    let wrong: Vec<_> = readme.difference(&program).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "(command, option, variable, default)\nmissing in the README: {missing:#?}\nnot so in the program: {wrong:#?}"
    );
}

#[tokio::test]
async fn every_command_that_is_named_exists() {
    let readme = file("README.md");
    let code = code(&readme);
    let commands = commands().await;
    let named = words_after(&code, "endpoint-stats");
    for command in &named {
        assert!(commands.contains(*command), "endpoint-stats {command}");
    }
    let described: BTreeSet<String> = in_the_table().into_iter().map(|(command, ..)| command).collect();
    for command in &commands {
        assert!(
            described.contains(command) || named.contains(command.as_str()),
            "the README does not name `{command}`"
        );
    }
    let makefile = file("Makefile");
    let targets = words_after(&code, "make");
    assert!(targets.contains("demo") && targets.contains("test"), "{targets:?}");
    for target in targets {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "make {target}");
    }
}

#[test]
fn every_relative_link_leads_to_a_file() {
    for page in ["README.md", "CHANGELOG.md"] {
        let text = file(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !path.is_empty() {
                let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file();
                assert!(there, "{page} links to {link}");
            }
        }
    }
}

/// The lines of the first table with this head.
fn table(text: &str, head: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !line.starts_with(head));
    lines.take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

#[test]
fn the_figures_are_those_of_the_benchmark() {
    let head = "| # | measured |";
    let measured = table(&file("benches/RESULTS.md"), head);
    assert!(measured.len() > 20, "{measured:#?}");
    assert_eq!(table(&file("README.md"), head), measured, "`make bench` writes both");
}
