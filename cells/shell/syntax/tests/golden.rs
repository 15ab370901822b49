//! Lines and words, what they mean, and the sentences that refuse them.

use syntax::value::{parse_address, parse_duration, parse_u64};
use syntax::{Command, Then, parse};

/// A line's commands, one string each: `&&` in front if it runs only after success, `&` behind if in the background.
fn meaning(line: &str) -> Vec<String> {
    let show = |c: &Command| {
        let when = if c.when == Then::IfOk { "&& " } else { "" };
        format!("{when}{}{}", c.words.join("|"), if c.background { " &" } else { "" })
    };
    parse(line).unwrap_or_else(|e| panic!("{line}: {e}")).iter().map(show).collect()
}

#[test]
fn lines() {
    let cases: [(&str, &[&str]); 19] = [
        ("", &[]),
        ("  \t", &[]),
        ("# nothing", &[]),
        ("help", &["help"]),
        ("help # all", &["help"]),
        ("echo a#b {closure#0}", &["echo|a#b|{closure#0}"]),
        ("echo a; echo b", &["echo|a", "echo|b"]),
        ("echo a;", &["echo|a"]),
        ("a&&b", &["a", "&& b"]),
        ("a && b ; c", &["a", "&& b", "c"]),
        ("run count &", &["run|count &"]),
        ("a & b", &["a &", "b"]),
        ("a && b &", &["a", "&& b &"]),
        ("echo 'a;b' \"c & d\"", &["echo|a;b|c & d"]),
        ("echo 'a\\b' \"c\\\"d\\\\e\\f\"", &["echo|a\\b|c\"d\\e\\f"]),
        ("echo a\\ b \\# \\;", &["echo|a b|#|;"]),
        ("echo '' x\"\"y", &["echo||xy"]),
        ("addr '<core::fmt::Formatter>::pad'; addr <T>", &["addr|<core::fmt::Formatter>::pad", "addr|<T>"]),
        ("écho 'ü'", &["écho|ü"]),
    ];
    for (line, expected) in cases {
        assert_eq!(meaning(line), expected, "{line}");
    }
}

#[test]
fn refused_lines() {
    let cases = [
        ("run hello & & ;", "a command is missing before `&` at column 13"),
        (";;", "a command is missing before `;` at column 1"),
        ("a ;; b", "a command is missing before `;` at column 4"),
        ("&& a", "a command is missing before `&&` at column 1"),
        ("a & && b", "a command is missing before `&&` at column 5"),
        ("a &&& b", "a command is missing before `&` at column 5"),
        ("a &&", "a command is missing after `&&` at column 3"),
        ("a && # b", "a command is missing after `&&` at column 3"),
        ("é 'a", "the quote ' at column 3 is not closed"),
        ("a \"b\\\"", "the quote \" at column 3 is not closed"),
        ("a \\", "the backslash at column 3 has no character after it"),
        ("a | b", "`|` at column 3 is not supported: quote it to mean the character"),
    ];
    for (line, sentence) in cases {
        assert_eq!(parse(line).unwrap_err().to_string(), sentence, "{line}");
    }
}

#[test]
fn numbers() {
    let cases =
        [("0", 0), ("42", 42), ("0x2a", 42), ("0XfF", 255), ("1_000", 1000), ("18446744073709551615", u64::MAX)];
    for (text, number) in cases {
        assert_eq!(parse_u64(text), Ok(number), "{text}");
    }
    for text in ["", "-1", "+1", "0x", "x", "1e9", "1_", "_1", "1__0", "0x_1", "٣", " 1"] {
        let sentence = format!("`{text}` is not a number: expected decimal digits, or hexadecimal ones after 0x");
        assert_eq!(parse_u64(text).unwrap_err().to_string(), sentence);
    }
    let sentence = "`18446744073709551616` is too large: expected at most 18446744073709551615";
    assert_eq!(parse_u64("18446744073709551616").unwrap_err().to_string(), sentence);
}

#[test]
fn addresses() {
    assert_eq!(parse_address("0xffff_ffff_8000_0000"), Ok(0xffff_ffff_8000_0000));
    assert_eq!(parse_address("0x0"), Ok(0));
    for text in ["zzz", "0x", "", "10", "0x1_0000_0000_0000_0000", "0xg", "-0x1"] {
        let sentence = format!("`{text}` is not an address: expected 0x and up to 16 hexadecimal digits");
        assert_eq!(parse_address(text).unwrap_err().to_string(), sentence);
    }
    let long = "x".repeat(5000);
    let shown = "x".repeat(40);
    let sentence = format!("`{shown}…` is not an address: expected 0x and up to 16 hexadecimal digits");
    assert_eq!(parse_address(&long).unwrap_err().to_string(), sentence);
}

#[test]
fn durations() {
    let cases = [
        ("2", 2_000_000_000),
        ("0.5", 500_000_000),
        (".25", 250_000_000),
        ("3.", 3_000_000_000),
        ("1.5s", 1_500_000_000),
        ("200ms", 200_000_000),
        ("1.5ms", 1_500_000),
        ("30us", 30_000),
        ("10ns", 10),
        ("0", 0),
        ("0.0000000019", 1),
        ("1000000000", 1_000_000_000_000_000_000),
    ];
    for (text, ns) in cases {
        assert_eq!(parse_duration(text), Ok(ns), "{text}");
    }
    for text in ["", ".", "-1", "+1", "1e99", "1.2.3", "s", "1 s", "1m", "nan", "inf", "0x10", "1_0", "٣"] {
        let sentence = format!("`{text}` is not a duration: expected seconds such as 2 or 0.5, or 200ms, 30us, 10ns");
        assert_eq!(parse_duration(text).unwrap_err().to_string(), sentence);
    }
    for text in ["1000000000.1", "99999999999999999999999", "18446744073.71"] {
        let sentence = format!("`{text}` is too long: expected at most 1000000000 seconds");
        assert_eq!(parse_duration(text).unwrap_err().to_string(), sentence);
    }
}
