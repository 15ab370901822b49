//! What holds for any line at all.

use proptest::prelude::*;
use syntax::value::{parse_address, parse_duration, parse_u64};
use syntax::{Then, parse};

/// A word written so that it means itself.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_line_is_commands_or_a_sentence(line in "[ab&;|'\"\\\\# é<]{0,40}|\\PC{0,60}") {
        match parse(&line) {
            Ok(commands) => {
                prop_assert!(commands.iter().all(|c| !c.words.is_empty()));
                prop_assert!(commands.first().is_none_or(|c| c.when == Then::Always));
            }
            Err(error) => prop_assert!(error.to_string().lines().count() == 1),
        }
    }

    #[test]
    fn a_quoted_word_comes_back(words in prop::collection::vec("\\PC{0,12}", 1..6)) {
        let line = words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ");
        let commands = parse(&line).unwrap();
        prop_assert_eq!(commands.len(), 1);
        prop_assert_eq!(&commands[0].words, &words);
    }

    #[test]
    fn any_word_is_a_value_or_a_sentence(word in "[0-9a-fx._smun-]{0,24}|\\PC{0,60}") {
        let sentences = [parse_u64(&word).err(), parse_address(&word).err(), parse_duration(&word).err()];
        for sentence in sentences.into_iter().flatten() {
            prop_assert!(!sentence.to_string().is_empty());
        }
    }

    #[test]
    fn numbers_come_back(n in any::<u64>(), ns in 0..=1_000_000_000_000_000_000_u64) {
        let (decimal, hexadecimal) = (n.to_string(), format!("{n:#x}"));
        prop_assert_eq!(parse_u64(&decimal), Ok(n));
        prop_assert_eq!(parse_address(&hexadecimal), Ok(n));
        let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
        prop_assert_eq!(parse_duration(&text), Ok(ns));
    }
}
