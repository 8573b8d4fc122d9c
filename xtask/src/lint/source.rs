//! A Rust source, line by line, with the code apart from comments and the tests apart from the rest.

/// One line of a source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: usize,
    /// The code, with comments and the insides of strings and character literals replaced by spaces.
    pub(crate) code: String,
    /// The comments of the line, without the code.
    pub(crate) comment: String,
    /// Whether it lies in an item under `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// Where the reader stands between two characters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    String,
    /// A raw string, with its number of `#`.
    RawString(usize),
}

/// Splits `text` into lines.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut state = State::Code;
    for (index, line) in text.lines().enumerate() {
        let (code, comment) = split(line, &mut state);
        lines.push(Line {
            number: index + 1,
            code,
            comment,
            test: false,
        });
    }
    mark_tests(&mut lines);
    lines
}

/// The words of a line of code: maximal runs of letters, digits and `_`.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

fn split(line: &str, state: &mut State) -> (String, String) {
    let chars: Vec<char> = line.chars().collect();
    let starts = |at: usize, what: &str| {
        what.chars()
            .enumerate()
            .all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    let (mut code, mut comment) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let mut taken = 1;
        match *state {
            State::Code if starts(at, "//") => {
                *state = State::LineComment;
                continue;
            }
            State::Code if starts(at, "/*") => {
                *state = State::BlockComment(1);
                taken = 2;
            }
            State::Code if chars[at] == '"' => {
                *state = State::String;
                code.push('"');
            }
            State::Code if raw_string(&chars, at).is_some() => {
                let hashes = raw_string(&chars, at).expect("just seen");
                taken = hashes + 2;
                *state = State::RawString(hashes);
                code.push('"');
            }
            State::Code if chars[at] == '\'' => {
                taken = character_len(&chars, at);
                code.push('\'');
                code.extend(std::iter::repeat_n(' ', taken - 1));
            }
            State::Code => code.push(chars[at]),
            State::LineComment => comment.push(chars[at]),
            State::BlockComment(depth) => {
                if starts(at, "*/") {
                    taken = 2;
                    *state = if depth == 1 {
                        State::Code
                    } else {
                        State::BlockComment(depth - 1)
                    };
                } else if starts(at, "/*") {
                    taken = 2;
                    *state = State::BlockComment(depth + 1);
                } else {
                    comment.push(chars[at]);
                }
            }
            State::String => match chars[at] {
                '\\' => taken = 2,
                '"' => {
                    *state = State::Code;
                    code.push('"');
                }
                _ => code.push(' '),
            },
            State::RawString(hashes) => {
                if chars[at] == '"' && starts(at + 1, &"#".repeat(hashes)) {
                    taken = hashes + 1;
                    *state = State::Code;
                    code.push('"');
                } else {
                    code.push(' ');
                }
            }
        }
        at += taken;
    }
    if *state == State::LineComment {
        *state = State::Code;
    }
    (code, comment)
}

/// The number of `#` if a raw string begins at `at`: `r"`, `r#"`, `br"`.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let part_of_a_word =
        at > 0 && (chars[at - 1].is_alphanumeric() && chars[at - 1] != 'b' || chars[at - 1] == '_');
    if chars[at] != 'r' || part_of_a_word {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// The length of what begins with the quote at `at`: a character literal, or the quote of a lifetime.
fn character_len(chars: &[char], at: usize) -> usize {
    match chars.get(at + 1) {
        Some('\\') => chars[at + 2..]
            .iter()
            .skip(1)
            .position(|c| *c == '\'')
            .map_or(1, |end| end + 4),
        Some(_) if chars.get(at + 2) == Some(&'\'') => 3,
        _ => 1,
    }
}

/// Marks each item under `#[cfg(test)]`: to the brace that closes it, or the semicolon that ends it.
fn mark_tests(lines: &mut [Line]) {
    let mut at = 0;
    while at < lines.len() {
        if !lines[at].code.trim_start().starts_with("#[cfg(test)]") {
            at += 1;
            continue;
        }
        let mut depth = 0usize;
        'item: while at < lines.len() {
            lines[at].test = true;
            for c in lines[at].code.replace("#[cfg(test)]", "").chars() {
                match c {
                    '{' => depth += 1,
                    '}' => {
                        depth = depth.saturating_sub(1);
                        if depth == 0 {
                            break 'item;
                        }
                    }
                    ';' if depth == 0 => break 'item,
                    _ => {}
                }
            }
            at += 1;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        lines(text)
            .into_iter()
            .map(|line| line.code)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn comments_are_taken_out_and_kept_apart() {
        let line = &lines("let x = 1; // a HashMap")[0];
        assert_eq!(line.code.trim(), "let x = 1;");
        assert_eq!(line.comment, "// a HashMap");
    }

    #[test]
    fn block_comments_nest_and_span_lines() {
        assert_eq!(code("a /* x /* y */ z\n still */ b"), "a \n b");
    }

    #[test]
    fn strings_are_emptied() {
        assert!(!code(r#"let x = "unsafe \" unsafe"; y"#).contains("unsafe"));
        assert!(code(r#"let x = "unsafe \" unsafe"; y"#).ends_with("; y"));
    }

    #[test]
    fn raw_strings_are_emptied() {
        let text = "let x = r##\"std::time \"# \"##; y";
        assert!(!code(text).contains("time"));
        assert!(code(text).ends_with("; y"));
    }

    #[test]
    fn a_lifetime_is_no_character() {
        assert_eq!(
            code("fn f<'a>(x: &'a str) { '\"'; '\\''; \"//\" }")
                .matches('"')
                .count(),
            2
        );
        assert!(code("fn f<'a>() {} // x").contains("fn f<'a>() {}"));
    }

    #[test]
    fn a_test_module_ends_at_its_brace() {
        let text = "a\n#[cfg(test)]\nmod tests {\n  fn f() { g() }\n}\nb";
        let tests: Vec<bool> = lines(text).iter().map(|line| line.test).collect();
        assert_eq!(tests, [false, true, true, true, true, false]);
    }

    #[test]
    fn a_test_declaration_ends_at_its_semicolon() {
        let tests: Vec<bool> = lines("#[cfg(test)]\nmod tests;\nb")
            .iter()
            .map(|line| line.test)
            .collect();
        assert_eq!(tests, [true, true, false]);
    }
}
