//! What a request pays at a garden's gate: a slot taken and given back, alone and beside another
//! thread, and through the queue. `cargo bench --bench gate`

use core::hint::black_box;
use core::time::Duration;
use criterion::{Criterion, criterion_group, criterion_main};
use lychgate::base::id::{ServerIndex, SocketId};
use lychgate::base::time::Instant;
use lychgate::machine::gate::{Gate, Pumped, Ticket};
use lychgate::machine::pool::seam::Standing;
use lychgate::plan::garden::Dispatch;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const NOW: Instant = Instant(1_000_000);

fn gate(workers: u16, slots: u32) -> Gate {
    let gate = Gate::default();
    gate.stand(Standing::Running, 1000, false);
    for slot in 0..workers {
        gate.open(ServerIndex(slot), slot, slots, 0);
    }
    gate
}

fn exchange(gate: &Gate, turn: &mut u16) {
    if let Ok(taken) = gate.take(black_box(NOW), turn, None, None) {
        gate.answered(NOW, taken.place);
        gate.release(taken.place);
        assert_eq!(gate.pump(NOW, turn), Pumped::Nothing);
    }
}

fn slots(c: &mut Criterion) {
    let mut group = c.benchmark_group("gate");
    group.measurement_time(Duration::from_secs(2));
    for (name, workers, slots) in [("of_2", 2, 0), ("of_2_limited", 2, 8), ("of_16", 16, 8)] {
        let gate = gate(workers, slots);
        let mut turn = 0;
        group.bench_function(name, |b| b.iter(|| exchange(&gate, &mut turn)));
    }
    let least_busy = gate(16, 8);
    least_busy.choose_by(Dispatch::LeastBusy);
    let mut turn = 0;
    group.bench_function("of_16_least_busy", |b| b.iter(|| exchange(&least_busy, &mut turn)));

    let shared = gate(2, 0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 1;
            while !is_over.load(Ordering::Relaxed) {
                exchange(&shared, &mut turn);
            }
        });
        let mut turn = 0;
        group.bench_function("of_2_beside_another_thread", |b| {
            b.iter(|| exchange(&shared, &mut turn));
        });
        is_over.store(true, Ordering::Relaxed);
    });
    group.finish();
}

fn queue(c: &mut Criterion) {
    let gate = gate(1, 1);
    let mut turn = 0;
    let mut held = gate.take(NOW, &mut turn, None, None).expect("a free slot").place;
    let ticket = Ticket { thread: 0, client: SocketId { index: 1, generation: 1 }, serial: 1 };
    c.bench_function("gate/through_the_queue", |b| {
        b.iter(|| {
            assert!(gate.wait(black_box(ticket), None));
            gate.release(held);
            let Pumped::Granted(grant) = gate.pump(NOW, &mut turn) else {
                panic!("a ticket and a slot")
            };
            gate.leave();
            held = grant.taken.place;
        });
    });
}

criterion_group!(benches, slots, queue);
criterion_main!(benches);
