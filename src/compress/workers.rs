//! The threads that compress, shared by all streams of a run.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::Compression;
use super::block::{Packed, Packer};
use super::buffers::{Buffer, Buffers};

/// Blocks of one stream that are under way at most.
const MOST_AHEAD: usize = 8;

/// A block that is to be compressed.
struct Order {
    window: Buffer,
    start: usize,
    compression: Compression,
    to: SyncSender<Packed>,
}

impl Order {
    fn carry_out(self, packer: &mut Packer, into: Buffer) {
        let made = packer.pack(&self.window, self.start, &self.compression, into);
        // Before the answer, so that its buffer is free when the stream asks for the next.
        drop(self.window);
        // Nobody waits for it any more when the stream was given up.
        let _ = self.to.send(made);
    }
}

#[derive(Default)]
struct Queue {
    orders: VecDeque<Order>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Ends the threads when nobody needs them any more.
struct Team {
    shared: Arc<Shared>,
    buffers: Buffers,
    threads: usize,
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.shared.wake.notify_all();
    }
}

/// Threads that compress blocks, for all streams of a run, in the order in which blocks come.
#[derive(Clone)]
pub struct Workers(Arc<Team>);

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `threads` threads, one at least. They end with the last clone of what this gives.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let buffers = Buffers::default();
        let started = (0..threads.max(1)).filter(|number| {
            let (shared, buffers) = (shared.clone(), buffers.clone());
            let builder = thread::Builder::new().name(format!("compress-{number}"));
            builder.spawn(move || work(&shared, &buffers)).is_ok()
        });
        let threads = started.count();
        Self(Arc::new(Team { shared, buffers, threads }))
    }

    /// As many threads as there are cores for this process.
    #[must_use]
    pub fn on_all_cores() -> Self {
        Self::new(thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    /// How many blocks of one stream may be under way: one for each thread, and one that waits for it; but not more than so
    /// many, for all streams together must stay small where there are dozens of cores.
    pub(super) fn ahead(&self) -> usize {
        (self.0.threads + 1).min(MOST_AHEAD)
    }

    /// A buffer for a block.
    pub(super) fn buffer(&self) -> Buffer {
        self.0.buffers.take()
    }

    /// Has `window` compressed from `start` on.
    pub(super) fn pack(&self, window: Buffer, start: usize, compression: &Compression) -> Receiver<Packed> {
        let (to, packed) = sync_channel(1);
        let order = Order { window, start, compression: *compression, to };
        if self.0.threads == 0 {
            // A system that gives no more threads: slowly, then.
            order.carry_out(&mut Packer::default(), self.buffer());
        } else {
            self.0.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).orders.push_back(order);
            self.0.shared.wake.notify_one();
        }
        packed
    }
}

fn work(shared: &Shared, buffers: &Buffers) {
    let mut packer = Packer::default();
    while let Some(order) = next(shared) {
        order.carry_out(&mut packer, buffers.take());
    }
}

fn next(shared: &Shared) -> Option<Order> {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(order) = queue.orders.pop_front() {
            return Some(order);
        }
        if queue.is_closed {
            return None;
        }
        queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}
