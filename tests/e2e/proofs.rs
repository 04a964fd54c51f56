//! Small versions of what the program `proofs` proves.

use std::process::Command;

fn prove(arguments: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_proofs")).args(arguments.split(' ')).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("holds") && !text.contains("BROKEN"), "{text}");
}

#[test]
fn messages_of_a_key_are_handled_in_the_order_in_which_they_were_sent() {
    prove("order --messages 1000 --keys 50");
}
