//! What a person types, what the line becomes, and what the terminal is sent.

use editor::{Editor, History, LINE_BYTES, Outcome};

const PROMPT: &str = "delias> ";

/// Feeds `bytes`; what the terminal was sent, and the last outcome.
fn type_in(editor: &mut Editor, history: &History, bytes: &[u8]) -> (String, Outcome) {
    let mut sent = Vec::new();
    let mut outcome = Outcome::Typing;
    for &byte in bytes {
        outcome = editor.feed(byte, PROMPT, history, &mut |out| sent.extend_from_slice(out));
    }
    (String::from_utf8(sent).unwrap(), outcome)
}

/// The line that `bytes` make.
fn line_of(bytes: &[u8]) -> String {
    let mut editor = Editor::new();
    type_in(&mut editor, &History::new(), bytes);
    editor.line().into()
}

#[test]
fn a_line_sent_by_a_program_is_echoed_as_it_is() {
    let mut editor = Editor::new();
    let mut sent = Vec::new();
    editor.start(PROMPT, &mut |out| sent.extend_from_slice(out));
    assert_eq!(sent, b"delias> ");
    let (sent, outcome) = type_in(&mut editor, &History::new(), b"echo hi\n");
    assert_eq!((sent.as_str(), outcome, editor.line()), ("echo hi\r\n", Outcome::Line, "echo hi"));
}

#[test]
fn return_and_newline_count_once() {
    let mut editor = Editor::new();
    let history = History::new();
    assert_eq!(type_in(&mut editor, &history, b"a\r").1, Outcome::Line);
    assert_eq!(type_in(&mut editor, &history, b"\n"), (String::new(), Outcome::Typing));
    assert_eq!(type_in(&mut editor, &history, b"\n").1, Outcome::Line);
    assert_eq!(type_in(&mut editor, &history, b"\r").1, Outcome::Line);
    assert_eq!(type_in(&mut editor, &history, b"\r").1, Outcome::Line);
}

#[test]
fn keys_edit_the_line() {
    let cases: [(&[u8], &str); 20] = [
        (b"abc\x7f", "ab"),
        (b"abc\x08\x08d", "ad"),
        (b"abc\x1b[D\x1b[Dx", "axbc"),
        (b"abc\x1b[D\x1b[D\x1b[Cx", "abxc"),
        (b"abc\x1b[Hx", "xabc"),
        (b"abc\x1b[1~x\x1b[4~y", "xabcy"),
        (b"abc\x1bOHx\x1bOFy", "xabcy"),
        (b"abc\x01x\x05y", "xabcy"),
        (b"abc\x01\x1b[3~", "bc"),
        (b"abc\x01\x04", "bc"),
        (b"abc\x02\x02\x0b", "a"),
        (b"abc\x02\x15d", "d"),
        (b"one two  \x17x", "one x"),
        (b"one\x17\x17", ""),
        (b"a\x1b[1;5Cb", "ab"),
        (b"a\x1b[200~b", "ab"),
        (b"a\x1bxb", "ab"),
        (b"a\tb\x07\x1a", "a b"),
        ("é日\x1b[Dx".as_bytes(), "éx日"),
        ("aé\x7f".as_bytes(), "a"),
    ];
    for (typed, line) in cases {
        assert_eq!(line_of(typed), line, "{:?}", String::from_utf8_lossy(typed));
    }
}

#[test]
fn broken_utf8_becomes_a_replacement_character() {
    assert_eq!(line_of(b"a\xffb"), "a\u{fffd}b");
    assert_eq!(line_of(b"a\xe6\x97b"), "a\u{fffd}b");
    assert_eq!(line_of(b"\xed\xa0\x80x"), "\u{fffd}x");
    assert_eq!(line_of(b"\xc2\x9bx"), "\u{fffd}x", "a C1 control character");
}

#[test]
fn a_change_in_the_middle_redraws_the_rest() {
    let mut editor = Editor::new();
    let history = History::new();
    type_in(&mut editor, &history, b"abcd\x1b[D\x1b[D");
    assert_eq!(type_in(&mut editor, &history, b"x").0, "xcd\x1b[2D");
    assert_eq!(type_in(&mut editor, &history, b"\x7f").0, "\x08cd\x1b[K\x1b[2D");
    assert_eq!(type_in(&mut editor, &history, b"\x05").0, "cd");
    assert_eq!(type_in(&mut editor, &history, b"\x7f").0, "\x08\x1b[K");
}

#[test]
fn interrupt_and_end_of_input() {
    let mut editor = Editor::new();
    let history = History::new();
    assert_eq!(type_in(&mut editor, &history, b"abc\x03"), ("abc^C\r\n".into(), Outcome::Interrupt));
    assert_eq!(editor.line(), "");
    assert_eq!(type_in(&mut editor, &history, b"\x04"), (String::new(), Outcome::EndOfInput));
}

#[test]
fn history_is_walked_and_the_draft_comes_back() {
    let mut history = History::new();
    for line in ["first", "second"] {
        history.push(line);
    }
    let mut editor = Editor::new();
    type_in(&mut editor, &history, b"dra");
    assert_eq!(type_in(&mut editor, &history, b"\x1b[A").0, "\r\x1b[Kdelias> second");
    type_in(&mut editor, &history, b"\x1b[A\x1b[A\x1b[A");
    assert_eq!(editor.line(), "first");
    type_in(&mut editor, &history, b"!\x1b[B");
    assert_eq!(editor.line(), "second");
    type_in(&mut editor, &history, b"\x1b[B");
    assert_eq!(editor.line(), "dra");
    assert_eq!(type_in(&mut editor, &history, b"\x1b[B").0, "");
    type_in(&mut editor, &history, b"ft\n");
    assert_eq!(editor.line(), "draft");
}

#[test]
fn a_line_that_is_too_long_is_cut_and_says_so() {
    let mut editor = Editor::new();
    let history = History::new();
    let (sent, outcome) = type_in(&mut editor, &history, &[[b'x'; LINE_BYTES].as_slice(), b"yy\n"].concat());
    assert_eq!((outcome, editor.line().len(), editor.is_cut()), (Outcome::Line, LINE_BYTES, true));
    assert!(!sent.contains('y'));
    type_in(&mut editor, &history, b"z");
    assert_eq!((editor.line(), editor.is_cut()), ("z", false));
    type_in(&mut editor, &history, &[b'x'; LINE_BYTES]);
    assert!(editor.is_cut());
    type_in(&mut editor, &history, b"\x15");
    assert!(!editor.is_cut());
}
