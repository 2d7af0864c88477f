//! Atomics and queues of the gate: the real ones, or under `--cfg gate_model` those with which loom walks
//! through every order of the steps of its threads.

#[cfg(not(gate_model))]
mod real {
    pub(crate) use core::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst,
    };
    pub(crate) use crossbeam::queue::SegQueue;

    /// The accesses themselves are sequentially consistent.
    #[inline]
    pub(crate) fn order() {}
}

#[cfg(gate_model)]
mod real {
    use alloc::collections::VecDeque;
    use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst,
    };

    /// loom takes a sequentially consistent access for one that acquires and releases; its fence
    /// is exact, and stands where the order between a change and a look matters.
    pub(crate) fn order() {
        loom::sync::atomic::fence(SeqCst);
    }

    /// As crossbeam's, each operation in one step.
    #[derive(Debug)]
    pub(crate) struct SegQueue<T>(Mutex<VecDeque<T>>);

    impl<T> SegQueue<T> {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(VecDeque::new()))
        }

        pub(crate) fn push(&self, item: T) {
            self.0.lock().unwrap().push_back(item);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().unwrap().pop_front()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }
}

pub(crate) use real::*;
