//! Runs a case of the codec so many times, for a tool that counts instructions: see `benches/instructions`.
//! Without arguments it lists the cases.

mod cases;

use std::io::{Write, stdout};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [wanted, times] = arguments.as_slice() else {
        let names: String = cases::all().iter().map(|(name, _)| format!("{name}\n")).collect();
        return stdout().write_all(names.as_bytes()).expect("somebody reads the names");
    };
    let times: u64 = times.parse().expect("a number of times");
    let mut cases = cases::all().into_iter();
    let (_, mut run) = cases.find(|(name, _)| name == wanted).expect("a case of that name");
    for _ in 0..times {
        run();
    }
}
