//! Whatever happens to a line of frames, what comes out is what was put in, or less.

use proptest::prelude::*;
use wire::{Answer, Decoder, PART_BYTES, Request, encode, request, write_request};

/// All payloads that come out, the bytes arriving in pieces of a size.
fn decode(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let (mut decoder, mut found) = (Decoder::new(), Vec::new());
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let (taken, payload) = decoder.take(piece);
            found.extend(payload.map(<[u8]>::to_vec));
            piece = &piece[taken..];
        }
    }
    found
}

fn line(payloads: &[Vec<u8>]) -> Vec<u8> {
    payloads.iter().flat_map(|payload| encode(payload)).collect()
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 1..2000), 1..6)
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(payloads in payloads(), piece in 1usize..700) {
        prop_assert_eq!(decode(&line(&payloads), piece), payloads);
    }

    #[test]
    fn a_line_that_is_cut_loses_one_frame(payloads in payloads(), cut in any::<prop::sample::Index>(), piece in 1usize..700) {
        let mut line = line(&payloads);
        line.truncate(cut.index(line.len()));
        // The next one who comes begins with a zero.
        line.push(0);
        line.extend(encode(b"after"));
        let found = decode(&line, piece);
        let (last, before) = found.split_last().expect("the last frame is whole");
        prop_assert_eq!(last.as_slice(), b"after");
        prop_assert!(before.len() <= payloads.len());
        prop_assert!(before.iter().zip(&payloads).all(|(found, sent)| found == sent));
    }

    #[test]
    fn a_damaged_byte_gives_no_other_payload(payloads in payloads(), at in any::<prop::sample::Index>(), with in 1u8..) {
        let mut line = line(&payloads);
        let at = at.index(line.len());
        line[at] ^= with;
        for payload in decode(&line, 1000) {
            prop_assert!(payloads.contains(&payload));
        }
    }

    #[test]
    fn any_payload_is_a_message_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&payload);
        let _ = wire::answer(&payload);
    }
}

#[test]
fn the_longest_part_fits() {
    for byte in [0, 1, 0xff] {
        let part = vec![byte; PART_BYTES];
        let payload = write_request(u32::MAX, &Request::Part(&part));
        assert_eq!(decode(&encode(&payload), 4096), [payload.clone()]);
        assert_eq!(request(&payload), Ok((u32::MAX, Request::Part(&part))));
    }
}

#[test]
fn a_frame_without_an_end_takes_no_memory() {
    let mut decoder = Decoder::new();
    for _ in 0..1000 {
        assert_eq!(decoder.take(&[1; 4096]), (4096, None));
    }
    assert_eq!(decoder.take(&[0]), (1, None));
    assert_eq!(decode(&line(&[b"next".to_vec()]), 3), [b"next"]);
}

#[test]
fn answers_come_back() {
    let answer = Answer::Text("delias".into());
    assert_eq!(wire::answer(&wire::write_answer(7, &answer)), Ok((7, answer)));
    assert!(matches!(wire::answer(&[9, 0]), Err(wire::Error::Version { found: 9 })));
}
