//! How long frames and records take to write and to read.

mod cases;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, mut run) in cases::all() {
        criterion.bench_function(&name, |bencher| bencher.iter(&mut run));
    }
    criterion.final_summary();
}
