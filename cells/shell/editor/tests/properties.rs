//! What holds for any bytes at all.

use editor::{Editor, HISTORY_BYTES, History, LINE_BYTES, Outcome};
use proptest::prelude::*;

/// Bytes of which many are keys.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![
        4 => any::<u8>().prop_map(|b| vec![b]),
        4 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        2 => prop::sample::select(vec!["\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[3~", "\x1b[H", "\x17", "\x15", "\x0b"])
            .prop_map(|s| s.as_bytes().to_vec()),
        1 => Just(vec![b'w'; 1500]),
    ];
    prop::collection::vec(key, 0..200).prop_map(|keys| keys.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_bytes_leave_a_line_that_is_one(bytes in keys(), old in prop::collection::vec("[^\n]{0,20}", 0..5)) {
        let mut history = History::new();
        old.iter().for_each(|line| history.push(line));
        let mut editor = Editor::new();
        for byte in bytes {
            let outcome = editor.feed(byte, "> ", &history, &mut |_| {});
            let line = editor.line();
            prop_assert!(line.len() <= LINE_BYTES);
            prop_assert!(line.is_char_boundary(editor.cursor()));
            prop_assert!(!line.contains('\n'));
            if outcome == Outcome::Interrupt || outcome == Outcome::EndOfInput {
                prop_assert_eq!(line, "");
            }
        }
    }

    #[test]
    fn what_is_typed_is_the_line(text in "\\PC{0,300}") {
        let mut editor = Editor::new();
        let mut sent = Vec::new();
        for byte in text.bytes() {
            editor.feed(byte, "> ", &History::new(), &mut |out| sent.extend_from_slice(out));
        }
        prop_assert_eq!(editor.line(), &text);
        prop_assert_eq!(&sent, text.as_bytes());
    }

    /// A list of strings that follows the same rules.
    #[test]
    fn history_is_the_newest_lines_that_fit(lines in prop::collection::vec("a{0,3}|[a-zé]{0,40}|b{1000,4100}", 0..120)) {
        let mut history = History::new();
        let mut model: Vec<&str> = Vec::new();
        for line in &lines {
            history.push(line);
            if !line.is_empty() && line.len() < HISTORY_BYTES && model.last() != Some(&line.as_str()) {
                model.push(line);
                while model.iter().map(|line| line.len() + 1).sum::<usize>() > HISTORY_BYTES {
                    model.remove(0);
                }
            }
            prop_assert!(history.iter().eq(model.iter().rev().copied()));
            prop_assert_eq!(history.len(), model.len());
            prop_assert_eq!(history.is_empty(), model.is_empty());
            prop_assert_eq!(history.get(model.len()), None);
        }
    }
}
