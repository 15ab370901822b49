//! What is written is read back by another implementation.

use json::{Hex, Text, array, object};
use proptest::prelude::*;

fn read(text: &str) -> serde_json::Value {
    assert!(!text.contains('\n'));
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn one_line_of_cells() {
    let mut text = String::new();
    object(&mut text, |top| {
        top.field("boot_id", "ab")?;
        top.array("guests", |_| Ok(()))?;
        top.object("nano_core", |nano| nano.field("bytes_in_use", 0_u64))?;
        top.array("cells", |cells| {
            for (name, reseated) in [("core", 0_u32), ("alloc", 2)] {
                cells.object(|cell| {
                    cell.field("name", name)?;
                    cell.field("address", Hex(0xffff_ffff_8000_0000))?;
                    cell.field("version", Text(format_args!("{}.{}", 1, 96)))?;
                    cell.field("reseated", reseated)
                })?;
            }
            cells.array(|inner| {
                inner.item(-1_i64)?;
                inner.item(true)?;
                inner.item(None::<u8>)
            })
        })
    })
    .unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"boot_id":"ab","guests":[],"nano_core":{"bytes_in_use":0},"cells":["#,
            r#"{"name":"core","address":"0xffffffff80000000","version":"1.96","reseated":0},"#,
            r#"{"name":"alloc","address":"0xffffffff80000000","version":"1.96","reseated":2},"#,
            r#"[-1,true,null]]}"#
        )
    );
    read(&text);
}

proptest! {
    #[test]
    fn any_string_comes_back(strings in prop::collection::vec(any::<String>(), 0..8), n in any::<u64>()) {
        let mut text = String::new();
        array(&mut text, |list| {
            for string in &strings {
                list.item(string.as_str())?;
                list.item(Text(string))?;
            }
            list.object(|o| o.field(&strings.concat(), n))
        }).unwrap();
        let mut expected: Vec<serde_json::Value> = strings.iter().flat_map(|s| [s.clone().into(), s.clone().into()]).collect();
        expected.push(serde_json::json!({ strings.concat(): n }));
        prop_assert_eq!(read(&text), serde_json::Value::Array(expected));
    }
}
